//! `POST /v1/query`: takes a statement and its values, gives columns and rows.

use std::collections::BTreeMap;
use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Array, Object, ObjectBuilder, Type};

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::json::{self as http_json, APPLICATION_JSON};
use crate::http::openapi::{self, Operation, post};
use ctlstore_reader::read::query::{Parameters, Query, QueryError};
use ctlstore_reader::read::{KeyValue, Value};

use super::super::freshness;
use super::super::worker::Worker;
use super::answer::at;

const OFF: &str = "queries are off; reader.query.enabled turns them on";

#[derive(Deserialize, ToSchema)]
#[schema(as = Query)]
#[serde(deny_unknown_fields)]
struct QueryRequest<'b> {
    /// One SELECT, WITH, VALUES or EXPLAIN, of at most 64 KiB.
    sql: String,
    /// A list for ?, or an object for :name; bytes are {"Binary": base64}.
    #[serde(borrow, default)]
    #[schema(schema_with = parameters)]
    params: Option<&'b RawValue>,
    /// The most rows that are wanted; more are cut off, and the answer says so.
    limit: Option<u64>,
}

pub fn operation() -> Operation {
    let asked = json!({"sql": "SELECT country, cents FROM shop___prices WHERE cents < ?", "params": [2000]});
    let columns = json!([{"name": "country", "type": "string"}, {"name": "cents", "type": "integer"}]);
    let found = json!({"columns": columns, "rows": [["de", 1999]], "seq": 4711, "truncated": false});
    post("/v1/query", "The rows of a read-only SQL statement, where queries are enabled", query)
        .takes_json::<QueryRequest<'_>>("a statement on tables called family___table, and its values", asked)
        .gives_json::<QueryRows>("columns and rows of one moment", found)
        .refuses(400, "not json, no statement that sqlite takes, params that are not its, or more than one statement")
        .refuses(403, "queries are off, or the statement does what a query may not")
        .refuses(413, "the sql is longer than 64 KiB")
        .refuses(416, "more rows or bytes than one answer holds")
        .refuses(422, "the query takes longer, needs more memory or makes longer values than is allowed")
        .with(freshness::described)
        .tag("rows")
}

/// As the query gives them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "written row by row")]
struct QueryRows {
    columns: Vec<QueryColumn>,
    /// A value for each column.
    #[schema(schema_with = rows)]
    rows: (),
    /// Where the ledger stood at the moment of the read.
    seq: i64,
    /// Whether there are rows beyond the limit.
    truncated: bool,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "written column by column")]
struct QueryColumn {
    name: String,
    /// The field's type, if the column is a table's.
    #[schema(required = false)]
    r#type: Option<String>,
}

fn rows() -> Array {
    Array::new(Array::new(openapi::scalar()))
}

fn parameters() -> Object {
    let types = [Type::Array, Type::Object, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

async fn query(worker: Data<Worker>, request: HttpRequest, payload: Incoming) -> Result<HttpResponse, HttpError> {
    let query = parse_request(&payload.read().await?)?;
    let Some(queries) = worker.queries() else { return Err(HttpError::new(StatusCode::FORBIDDEN, OFF)) };
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let age = Worker::age(&worker)?;
    let outcome = queries.run(query, age.seq).await.map_err(|why| worker.not_run(&why))?;
    let (seq, rows) = outcome.map_err(|error| match error {
        QueryError::Read(error) => worker.failed(error),
        error => error.into(),
    })?;
    Ok(at(age, seq, HttpResponse::Ok().insert_header((CONTENT_TYPE, APPLICATION_JSON)).body(rows)))
}

fn parse_request(body: &[u8]) -> Result<Query, HttpError> {
    let QueryRequest { sql, params, limit } = http_json::parse(body)?;
    let parameters = match params.map(RawValue::get) {
        None | Some("null") => Parameters::Positional(Vec::new()),
        Some(list) if list.starts_with('[') => {
            let values: Vec<&RawValue> = in_params(list)?;
            let positional = |(index, value)| parameter(value, format_args!("params[{index}]"));
            Parameters::Positional(values.into_iter().enumerate().map(positional).collect::<Result<_, _>>()?)
        }
        Some(object) => {
            let values: BTreeMap<String, &RawValue> = in_params(object)?;
            let named = |(name, value)| {
                let value = parameter(value, format_args!("params.{name}"))?;
                Ok((name, value))
            };
            Parameters::Named(values.into_iter().map(named).collect::<Result<_, HttpError>>()?)
        }
    };
    Ok(Query { sql, parameters, limit })
}

/// A scalar, or `{"Value": v}` or `{"Binary": base64}` as in keys. `name` is the parameter's.
fn parameter(raw: &RawValue, name: impl Display) -> Result<Value, HttpError> {
    if raw.get().starts_with('{') {
        http_json::part(raw, name).map(|value: KeyValue| value.0)
    } else {
        http_json::part(raw, name)
    }
}

fn in_params<'b, T: Deserialize<'b>>(text: &'b str) -> Result<T, HttpError> {
    http_json::parse(text.as_bytes()).map_err(|error| error.at("params"))
}
