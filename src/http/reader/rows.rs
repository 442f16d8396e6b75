//! Rows by key and by key prefix, as the original serves them. A reader is asked for these most, so
//! both routes are fast paths too (`http::fast_path`).

use std::borrow::Cow;

use actix_http::Request;
use actix_web::http::header::{CONTENT_TYPE, ContentType, HeaderMap};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use utoipa::openapi::{Array, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::body::Chunks;
use crate::http::error::HttpError;
use crate::http::fast_path::{self, FastPaths};
use crate::http::json::APPLICATION_JSON;
use crate::http::openapi::{Operation, post, shapes};
use ctlstore_reader::read::{LdbReader, ReadError};

use super::freshness;
use super::request::parse_request;
use super::worker::Worker;

const BY_KEY: &str = "/get-row-by-key/{family}/{table}";
const BY_PREFIX: &str = "/get-rows-by-key-prefix/{family}/{table}";

pub fn operations() -> Vec<Operation> {
    let key = || json!({"Key": [{"Value": "de"}]});
    let row = || json!({"country": "de", "item": 7, "cents": 1999});
    vec![
        post(BY_KEY, "One row, by its key", by_key)
            .takes_json::<KeyBody>("every key column, in key order", key())
            .gives_json::<RowSchema>("the row", row())
            .answers_nothing(404, "no such row, without a body")
            .says::<String>(404, "x-ctlstore", "Not Found, if it is the row that is not there")
            .with(reading)
            .tag("rows"),
        post(BY_PREFIX, "Rows, by the beginning of their key", by_prefix)
            .takes_json::<KeyBody>("the leading key columns, or none", key())
            .gives_json::<RowsSchema>("all rows that match, in key order", json!([row()]))
            .refuses(416, "more rows, or bytes, than one answer holds")
            .with(reading)
            .tag("rows"),
    ]
}

/// Describes what both routes have in common.
fn reading(operation: Operation) -> Operation {
    operation
        .refuses(
            400,
            "not json, bad name, a key column without Value or Binary, or another number of them than the key",
        )
        .refuses(404, "no such table")
        .with(freshness::described)
}

/// Values of key columns, in key order.
#[derive(ToSchema)]
#[schema(as = Key, rename_all = "PascalCase")]
#[expect(dead_code, reason = "read member by member")]
struct KeyBody {
    key: Option<Vec<KeyColumnBody>>,
}

/// One of both; bytes win.
#[derive(ToSchema)]
#[schema(as = KeyColumn, rename_all = "PascalCase")]
#[expect(dead_code, reason = "read by the key's own reader")]
struct KeyColumnBody {
    #[schema(schema_with = shapes::scalar)]
    value: Option<serde_json::Value>,
    #[schema(schema_with = shapes::base64)]
    binary: Option<String>,
}

/// Column to value; bytes as standard padded base64.
pub struct RowSchema;

impl ToSchema for RowSchema {
    fn name() -> Cow<'static, str> {
        "Row".into()
    }
}

impl PartialSchema for RowSchema {
    fn schema() -> RefOr<Schema> {
        shapes::columns().into()
    }
}

struct RowsSchema;

impl ToSchema for RowsSchema {}

impl PartialSchema for RowsSchema {
    fn schema() -> RefOr<Schema> {
        Array::new(RowSchema::schema()).into()
    }
}

/// Both routes as fast paths of one worker.
pub fn fast_paths(worker: &Data<Worker>) -> FastPaths {
    let point = worker.clone();
    let prefix = worker.clone();
    FastPaths::default()
        .post(BY_KEY, move |mut request: Request| {
            let worker = point.clone();
            let payload = request.take_payload();
            async move { row_by_key(&worker, &request.head().headers, fast_path::names(request.path()), payload).await }
        })
        .post(BY_PREFIX, move |mut request: Request| {
            let worker = prefix.clone();
            let payload = request.take_payload();
            async move { rows_by_prefix(&worker, &request.head().headers, fast_path::names(request.path()), payload).await }
        })
}

async fn by_key(worker: Data<Worker>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, HttpError> {
    row_by_key(&worker, request.headers(), names(&request), payload).await
}

async fn by_prefix(worker: Data<Worker>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, HttpError> {
    rows_by_prefix(&worker, request.headers(), names(&request), payload).await
}

fn names(request: &HttpRequest) -> (&str, &str) {
    let part = |name| request.match_info().get(name).unwrap_or_default();
    (part("family"), part("table"))
}

async fn row_by_key(
    worker: &Data<Worker>,
    headers: &HeaderMap,
    names: (&str, &str),
    payload: impl Chunks,
) -> Result<HttpResponse, HttpError> {
    let (table, key) = parse_request(headers, names, payload).await?;
    Worker::enforce_freshness(worker, headers).await?;
    let mut row = Vec::with_capacity(512);
    let read = Worker::shared(worker, |transaction| transaction.get_json(&table, &key, &mut row));
    let (age, is_there) = read.map_err(|error| worker.failed(error))?;
    if is_there {
        row.push(b'\n');
        return Ok(age.on(HttpResponse::Ok().insert_header((CONTENT_TYPE, APPLICATION_JSON)).body(row)));
    }
    // The original's clients expect an empty body. The content type is that of all refusals.
    let mut absent = HttpResponse::NotFound();
    absent.insert_header(ContentType::plaintext()).insert_header(("X-Ctlstore", "Not Found"));
    Ok(age.on(absent.finish()))
}

async fn rows_by_prefix(
    worker: &Data<Worker>,
    headers: &HeaderMap,
    names: (&str, &str),
    payload: impl Chunks,
) -> Result<HttpResponse, HttpError> {
    let (table, prefix) = parse_request(headers, names, payload).await?;
    Worker::enforce_freshness(worker, headers).await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, APPLICATION_JSON));
    let mut rows = Vec::with_capacity(worker.last_prefix_bytes.get() + 256);
    let limits = worker.inline_limits();
    match Worker::shared(worker, |transaction| transaction.scan_json(&table, &prefix, limits, &mut rows)) {
        Ok((age, _)) => {
            rows.push(b'\n');
            worker.last_prefix_bytes.set(rows.len());
            Ok(age.on(answer.body(rows)))
        }
        Err(ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. }) => {
            let limits = worker.limits;
            let age = Worker::age(worker)?;
            let scan = move |reader: &mut LdbReader, rows: &mut Vec<u8>| {
                reader.scan_json(&table, &prefix, limits, rows)?;
                rows.push(b'\n');
                Ok(())
            };
            let ((), rows) = worker.read_elsewhere(age.seq, scan).await?;
            Ok(age.on(answer.body(rows)))
        }
        Err(error) => Err(worker.failed(error)),
    }
}
