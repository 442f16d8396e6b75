//! POST /v1/query: a statement and its values in, columns and rows out.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::value::RawValue;

use crate::http::body;
use crate::http::error::HttpError;
use crate::http::json::{self, Members};
use crate::http::reader::{JSON, Worker, age};
use crate::ldb::read::query::{Parameters, Query, QueryError};
use crate::ldb::read::{KeyValue, Value};

const OFF: &str = "queries are off; reader.query.enabled turns them on";

pub(super) async fn query(
    worker: Data<Worker>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpError> {
    let body = body::read(payload).await?;
    let Some(queries) = &worker.queries else { return Err(HttpError::new(StatusCode::FORBIDDEN, OFF)) };
    let query = asked(&body)?;
    drop(body);
    let mut fresh = age::asked(&worker, &request).await?;
    let outcome = queries.run(query, fresh.seq).await.map_err(|why| worker.not_run(&why))?;
    let (seq, rows) = outcome.map_err(|error| match error {
        QueryError::Read(error) => worker.failed(error),
        error => error.into(),
    })?;
    fresh.seq = seq;
    Ok(fresh.on(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(rows)))
}

fn asked(body: &[u8]) -> Result<Query, HttpError> {
    let members = json::parse::<Members>(body)?;
    let parameters = match members.get("params") {
        None => Parameters::Positional(Vec::new()),
        Some(params) if params.get().starts_with('[') => {
            let values: Vec<Box<RawValue>> = members.required("params")?;
            Parameters::Positional(values.iter().map(|value| parameter(value)).collect::<Result<_, _>>()?)
        }
        Some(_) => {
            let values: BTreeMap<String, Box<RawValue>> = members.required("params")?;
            let named = |(name, value): (String, Box<RawValue>)| Ok((name, parameter(&value)?));
            Parameters::Named(values.into_iter().map(named).collect::<Result<_, HttpError>>()?)
        }
    };
    Ok(Query { sql: members.required("sql")?, parameters, limit: members.optional("limit")? })
}

/// A scalar as it is, or `{"Value": v}` and `{"Binary": base64}` as keys have them.
fn parameter(raw: &RawValue) -> Result<Value, HttpError> {
    let value = match raw.get().starts_with('{') {
        true => serde_json::from_str::<KeyValue>(raw.get()).map(|value| value.0),
        false => serde_json::from_str::<Value>(raw.get()),
    };
    value.map_err(|error| HttpError::bad_request(format!("params: {}", json::reason(&error))))
}
