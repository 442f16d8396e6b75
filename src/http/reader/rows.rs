//! Rows by key and by key prefix, as the original serves them: what a reader is asked
//! for most, so that both routes are fast paths.

use actix_http::Request;
use actix_web::http::header::{CONTENT_TYPE, ContentType, HeaderMap};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::body::Chunks;
use crate::http::error::HttpError;
use crate::http::fast_path::{self, FastPaths};
use ctlstore_reader::read::{LdbReader, ReadError};

use super::{INLINE, JSON, Worker, freshness, request, smaller};

pub(super) const BY_KEY: &str = "/get-row-by-key/{family}/{table}";
pub(super) const BY_PREFIX: &str = "/get-rows-by-key-prefix/{family}/{table}";

pub(super) fn fast_paths(worker: &Data<Worker>) -> FastPaths {
    let (point, prefix) = (worker.clone(), worker.clone());
    FastPaths::default()
        .post(BY_KEY, move |mut request: Request| {
            let (worker, payload) = (point.clone(), request.take_payload());
            async move { row_by_key(&worker, &request.head().headers, fast_path::names(request.path()), payload).await }
        })
        .post(BY_PREFIX, move |mut request: Request| {
            let (worker, payload) = (prefix.clone(), request.take_payload());
            async move { rows_by_prefix(&worker, &request.head().headers, fast_path::names(request.path()), payload).await }
        })
}

pub(super) async fn by_key(
    worker: Data<Worker>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpError> {
    row_by_key(&worker, request.headers(), names(&request), payload).await
}

pub(super) async fn by_prefix(
    worker: Data<Worker>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpError> {
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
    let (table, key) = request::parse_request(headers, names, payload).await?;
    freshness::enforce(worker, headers).await?;
    let mut row = Vec::with_capacity(512);
    let read = Worker::shared(worker, |transaction| transaction.get_json(&table, &key, &mut row));
    let (fresh, is_there) = read.map_err(|error| worker.failed(error))?;
    if is_there {
        row.push(b'\n');
        return Ok(fresh.on(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(row)));
    }
    // Empty as the original's clients know it, and yet of the type that refusals have.
    let mut absent = HttpResponse::NotFound();
    absent.insert_header(ContentType::plaintext()).insert_header(("X-Ctlstore", "Not Found"));
    Ok(fresh.on(absent.finish()))
}

async fn rows_by_prefix(
    worker: &Data<Worker>,
    headers: &HeaderMap,
    names: (&str, &str),
    payload: impl Chunks,
) -> Result<HttpResponse, HttpError> {
    let (table, prefix) = request::parse_request(headers, names, payload).await?;
    freshness::enforce(worker, headers).await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, JSON));
    let mut rows = Vec::with_capacity(worker.room.get() + 256);
    let limits = smaller(INLINE, worker.limits);
    match Worker::shared(worker, |transaction| transaction.scan_json(&table, &prefix, limits, &mut rows)) {
        Ok((fresh, _)) => {
            rows.push(b'\n');
            worker.room.set(rows.len());
            Ok(fresh.on(answer.body(rows)))
        }
        Err(ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. }) => {
            let (limits, fresh) = (worker.limits, freshness::fresh(worker)?);
            let scan = move |reader: &mut LdbReader, rows: &mut Vec<u8>| {
                reader.scan_json(&table, &prefix, limits, rows)?;
                rows.push(b'\n');
                Ok(())
            };
            let ((), rows) = worker.read_elsewhere(fresh.seq, scan).await?;
            Ok(fresh.on(answer.body(rows)))
        }
        Err(error) => Err(worker.failed(error)),
    }
}
