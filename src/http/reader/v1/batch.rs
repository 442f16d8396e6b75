//! Many rows of many tables by their keys, in one read of one moment.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::error::HttpError;
use crate::http::reader::{JSON, Worker, age};
use crate::http::{body, json};
use crate::ldb::read::{LdbReader, ReadError, Snapshot, Value};
use crate::ledger::Seq;
use crate::schema::TableRef;

use super::{Room, at};

/// The most rows that one request may ask for.
const MAX_KEYS: usize = 1_000;
/// What is looked up on the worker itself: a fraction of a millisecond's work.
const SHORT_KEYS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'b> {
    #[serde(borrow)]
    rows: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    family: String,
    table: String,
    key: Vec<Value>,
}

pub async fn batch(worker: Data<Worker>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, HttpError> {
    let wanted = asked(&body::read(payload).await?)?;
    let fresh = age::asked(&worker, &request).await?;
    let read = move |reader: &mut LdbReader, room: Room, answer: &mut Vec<u8>| {
        if room.is_short && wanted.len() > SHORT_KEYS {
            return Err(ReadError::TooManyRows { max: SHORT_KEYS as u64 });
        }
        reader.snapshot(|now| look_up(now, &wanted, room, answer))
    };
    let (outcome, answer) = super::read(&worker, fresh.seq, read).await?;
    let seq = outcome.map_err(|refused| HttpError::from(refused.why).at(entry(refused.index)))?;
    Ok(at(fresh, seq, HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(answer)))
}

type Wanted = (TableRef, Vec<Value>);

/// The tables and keys of a request.
fn asked(body: &[u8]) -> Result<Vec<Wanted>, HttpError> {
    let rows = json::parse::<Request<'_>>(body)?.rows;
    if rows.len() > MAX_KEYS {
        let message = format!("{} rows are asked for, at most {MAX_KEYS} can be", rows.len());
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let one = |(index, row): (usize, &&RawValue)| {
        let read = || {
            let row: Entry = json::parse(row.get().as_bytes())?;
            let table = TableRef::parse(&row.family, &row.table).map_err(HttpError::bad_request)?;
            Ok((table, row.key))
        };
        read().map_err(|error: HttpError| error.at(entry(index)))
    };
    rows.iter().enumerate().map(one).collect()
}

fn entry(index: usize) -> String {
    format!("rows[{index}]")
}

/// Which entry can't be looked up.
struct Refused {
    index: usize,
    why: ReadError,
}

fn look_up(
    now: &Snapshot<'_>,
    wanted: &[Wanted],
    room: Room,
    answer: &mut Vec<u8>,
) -> Result<Result<Seq, Refused>, ReadError> {
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
                return Ok(Err(Refused { index, why }));
            }
            Err(error) => return Err(error),
        }
        room.holds(answer)?;
    }
    answer.extend_from_slice(b"]}\n");
    room.holds(answer).map(|()| Ok(seq))
}
