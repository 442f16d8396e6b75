//! Reads the rows that are sent with changes. Entry points: [`reached`] waits for the LDB, [`read`]
//! reads one row. A row is read when it is sent, so it may be newer than its change, and is never
//! older.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::http::reader::worker::Worker;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FieldType, TableRef};
use ctlstore_ldb::changelog::history::{Record, What};
use ctlstore_reader::read::{LdbReader, ReadError, Value};

use super::event::EventRow;

/// How often the LDB's seq is read before a change that is known must be visible. After the file
/// was replaced, a reader sees the new one only when it looks again.
const MAX_TRIES: u32 = 100;
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

#[derive(Deserialize)]
struct ChangedKeyPart {
    name: String,
    #[serde(rename = "type")]
    declared: String,
    value: Json,
}

/// Waits until the worker's LDB is at `seq` at least.
pub async fn reached(worker: &Worker, seq: Seq) -> Result<(), ReadError> {
    let mut pause = PAUSE.0;
    for _ in 0..MAX_TRIES {
        let at = worker.reader.borrow_mut().last_seq();
        if at.is_ok_and(|at| at >= seq) {
            return Ok(());
        }
        actix_rt::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    worker.reader.borrow_mut().last_seq().and(Err(ReadError::Busy))
}

/// The row of a change.
pub fn read(worker: &Worker, record: &Record) -> Result<EventRow, ReadError> {
    let What::Row { family, table, key, .. } = &record.what else { return Ok(EventRow::Unknown) };
    // Another program may have made names that can't be read.
    let Ok(table) = TableRef::parse(family, table) else { return Ok(EventRow::Unknown) };
    match look_up(&mut worker.reader.borrow_mut(), &table, key) {
        Ok(Some(row)) => Ok(EventRow::Now(row)),
        // The table was dropped, or made again with another key.
        Ok(None) | Err(ReadError::UnknownTable(_) | ReadError::KeyArity { .. }) => Ok(EventRow::Deleted),
        Err(ReadError::Infinite { .. }) => Ok(EventRow::Unknown),
        Err(error) => Err(error),
    }
}

fn look_up(reader: &mut LdbReader, table: &TableRef, key: &RawValue) -> Result<Option<Vec<u8>>, ReadError> {
    let parts: Vec<ChangedKeyPart> = serde_json::from_str(key.get()).unwrap_or_default();
    let names = reader.key_columns(table)?;
    // The changelog lists columns in the table's order, a lookup in the key's.
    let value_of = |name: &String| parts.iter().find(|part| part.name == *name).map(value);
    let Some(values) = names.iter().map(value_of).collect::<Option<Vec<_>>>() else { return Ok(None) };
    if values.len() != parts.len() {
        return Ok(None);
    }
    let mut row = Vec::new();
    Ok(reader.get_json(table, values.as_slice(), &mut row)?.then_some(row))
}

fn value(part: &ChangedKeyPart) -> Value {
    let is_bytes = FieldType::from_column_type(&part.declared).is_some_and(FieldType::is_bytes);
    match &part.value {
        Json::String(text) if is_bytes => Value::Blob(STANDARD.decode(text).unwrap_or_default()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        _ => Value::Null,
    }
}
