//! `POST /v1/rows:batch`: many rows of many tables by their keys, read at one point in time.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::Array;

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::json::{self as http_json, APPLICATION_JSON};
use crate::http::openapi::{self, Operation, post};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{ReadError, ReadTransaction, Value};

use super::super::freshness;
use super::super::rows::RowSchema;
use super::super::worker::Worker;
use super::answer::{self, ReadBounds, at};

/// The most rows that one request may ask for, unless the settings say fewer.
const MAX_KEYS: u64 = 1_000;
/// How many keys are looked up on the worker itself: a fraction of a millisecond's work.
const SHORT_KEYS: usize = 64;

#[derive(Deserialize, ToSchema)]
#[schema(as = BatchOfKeys)]
#[serde(deny_unknown_fields)]
struct BatchRequest<'b> {
    #[serde(borrow)]
    #[schema(value_type = Vec<BatchEntry>, max_items = 1000)]
    rows: Vec<&'b RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = BatchKey)]
#[serde(deny_unknown_fields)]
struct BatchEntry {
    family: String,
    table: String,
    /// A value for each key column, in key order: bytes as padded base64.
    #[schema(schema_with = scalars)]
    key: Vec<Value>,
}

pub fn operation() -> Operation {
    let row = |key| json!({"family": "shop", "table": "prices", "key": [key]});
    let wanted = json!({"rows": [row("de"), row("at")]});
    let found = json!({"country": "de", "cents": 1999});
    post("/v1/rows:batch", "Many rows of many tables, of one moment", batch)
        .takes_json::<BatchRequest<'_>>("tables and keys, each with every key column in key order", wanted)
        .gives_json::<BatchRows>("a row for each, in their order", json!({"seq": 4711, "rows": [found, null]}))
        .refuses(400, "not json, or an entry, which the text names, with a bad name or a key that its table can't have")
        .refuses(404, "an entry's table is not there; the text names it")
        .refuses(413, "more than 1,000 rows are asked for, or than one answer holds")
        .refuses(416, "the rows have more bytes than one answer holds")
        .with(freshness::described)
        .tag("rows")
}

/// Each row or null, in the order of the request.
#[derive(ToSchema)]
#[schema(as = BatchOfRows)]
#[expect(dead_code, reason = "written row by row")]
struct BatchRows {
    /// Where the ledger stood at the moment of the read.
    seq: i64,
    #[schema(value_type = Vec<Option<RowSchema>>)]
    rows: (),
}

fn scalars() -> Array {
    Array::new(openapi::scalar())
}

pub async fn batch(worker: Data<Worker>, request: HttpRequest, payload: Incoming) -> Result<HttpResponse, HttpError> {
    let max = worker.limits.max_rows.unwrap_or(MAX_KEYS).min(MAX_KEYS);
    let wanted = parse_request(&payload.read().await?, max)?;
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let read = move |now: &ReadTransaction<'_>, bounds: ReadBounds, answer: &mut Vec<u8>| {
        if bounds.is_short && wanted.len() > SHORT_KEYS {
            return Err(ReadError::TooManyRows { max: SHORT_KEYS as u64 });
        }
        look_up(now, &wanted, bounds, answer)
    };
    let (age, outcome, rows) = answer::read(&worker, read).await?;
    match outcome {
        BatchOutcome::Read(seq) => {
            Ok(at(age, seq, HttpResponse::Ok().insert_header((CONTENT_TYPE, APPLICATION_JSON)).body(rows)))
        }
        BatchOutcome::Refused { index, why } => Err(HttpError::from(why).at(entry(index))),
    }
}

type Wanted = (TableRef, Vec<Value>);

/// The tables and keys of a request, `max` at most.
fn parse_request(body: &[u8], max: u64) -> Result<Vec<Wanted>, HttpError> {
    let rows = http_json::parse::<BatchRequest<'_>>(body)?.rows;
    if rows.len() as u64 > max {
        let message = format!("{} rows are asked for, at most {max} can be", rows.len());
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let one = |(index, row): (usize, &&RawValue)| {
        let row: BatchEntry = http_json::part(row, entry(index))?;
        let table = TableRef::parse(&row.family, &row.table);
        Ok((table.map_err(|error| HttpError::bad_request(error).at(entry(index)))?, row.key))
    };
    rows.iter().enumerate().map(one).collect()
}

fn entry(index: usize) -> String {
    format!("rows[{index}]")
}

enum BatchOutcome {
    Read(Seq),
    /// That entry can't be looked up.
    Refused {
        index: usize,
        why: ReadError,
    },
}

fn look_up(
    now: &ReadTransaction<'_>,
    wanted: &[Wanted],
    bounds: ReadBounds,
    answer: &mut Vec<u8>,
) -> Result<BatchOutcome, ReadError> {
    let seq = now.last_seq()?;
    answer.extend_from_slice(format!("{{\"seq\":{seq},\"rows\":[").as_bytes());
    for (index, (table, key)) in wanted.iter().enumerate() {
        if index > 0 {
            answer.push(b',');
        }
        let found = now.key_of_values(table, key).and_then(|key| now.get_json(table, &key, answer));
        match found {
            Ok(true) => {}
            Ok(false) => answer.extend_from_slice(b"null"),
            Err(why @ (ReadError::UnknownTable(_) | ReadError::KeyArity { .. } | ReadError::KeyType { .. })) => {
                return Ok(BatchOutcome::Refused { index, why });
            }
            Err(error) => return Err(error),
        }
        bounds.check(answer)?;
    }
    answer.extend_from_slice(b"]}\n");
    bounds.check(answer).map(|()| BatchOutcome::Read(seq))
}
