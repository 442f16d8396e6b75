//! The places where a written row lies, each read as rows by their keys with its own client.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mysql_async::prelude::Queryable;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::generate::{Cell, FIELDS, Rows, key_of};
use crate::in_process::replay;
use crate::support::{TestDatabase, http};

fn select() -> String {
    let columns: Vec<String> = FIELDS.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!("SELECT {} FROM fam___tab", columns.join(","))
}

/// What the ctldb holds, asked with its own client.
pub fn ctldb(database: &TestDatabase) -> Rows {
    match database.url.strip_prefix("sqlite:") {
        Some(path) => sqlite(&Connection::open(path).unwrap()),
        None => mysql(&database.url),
    }
}

/// What an LDB holds that has applied the whole ledger.
pub fn replay(ledger: &[(i64, String)]) -> Rows {
    sqlite(&replay::replay(ledger))
}

/// What the LDB of a host holds that follows the ledger.
pub fn ldb(path: &Path) -> Rows {
    sqlite(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap())
}

/// What the reader of that host answers.
pub fn reader(url: &str) -> Rows {
    let answer = http::post(&format!("{url}/get-rows-by-key-prefix/fam/tab"), r#"{"Key":[]}"#).expect(200);
    let rows: Vec<BTreeMap<String, Value>> = serde_json::from_slice(&answer.body).unwrap();
    by_key(rows.iter().map(|row| FIELDS.iter().map(|(name, kind)| answered(&row[*name], kind)).collect()))
}

/// A value as the reader spells it.
fn answered(value: &Value, kind: &str) -> Cell {
    match (value, kind) {
        (Value::Null, _) => Cell::Null,
        (Value::Number(number), "integer") => Cell::Integer(number.as_i64().unwrap()),
        (Value::Number(number), "decimal") => Cell::Real(number.as_f64().unwrap()),
        (Value::String(text), "string" | "text") => Cell::Bytes(text.clone().into_bytes()),
        (Value::String(text), "binary" | "bytestring") => Cell::Bytes(STANDARD.decode(text).unwrap()),
        _ => panic!("{value} for a field of type {kind}"),
    }
}

fn sqlite(connection: &Connection) -> Rows {
    use rusqlite::types::Value;
    let cell = |value: Value| match value {
        Value::Null => Cell::Null,
        Value::Integer(integer) => Cell::Integer(integer),
        Value::Real(real) => Cell::Real(real),
        Value::Text(text) => Cell::Bytes(text.into_bytes()),
        Value::Blob(bytes) => Cell::Bytes(bytes),
    };
    let rows = replay::rows(connection, &select());
    by_key(rows.into_iter().map(|row| row.into_iter().map(cell).collect()))
}

fn mysql(url: &str) -> Rows {
    use mysql_async::Value;
    let cell = |value: Value| match value {
        Value::NULL => Cell::Null,
        Value::Int(integer) => Cell::Integer(integer),
        Value::Double(real) => Cell::Real(real),
        Value::Bytes(bytes) => Cell::Bytes(bytes),
        other => panic!("{other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows: Vec<mysql_async::Row> = runtime.block_on(async {
        let mut connection = mysql_async::Conn::from_url(url).await.unwrap();
        connection.query_drop("SET NAMES utf8mb4").await.unwrap();
        // The binary protocol: numbers come as they are stored.
        let rows = connection.exec(select(), ()).await.unwrap();
        connection.disconnect().await.unwrap();
        rows
    });
    by_key(rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect()))
}

fn by_key(rows: impl Iterator<Item = Vec<Cell>>) -> Rows {
    let mut found = Rows::new();
    for row in rows {
        let key = key_of(&row);
        assert!(found.insert(key.clone(), row).is_none(), "two rows with the key {key}");
    }
    found
}

/// Fails with the first row that differs, not with all of them. Zero and minus zero are one number.
pub fn assert_same(place: &str, found: &Rows, wanted: &Rows) {
    for (key, row) in wanted {
        let there = found.get(key).unwrap_or_else(|| panic!("{place} lacks the row {key}"));
        for ((there, want), (name, _)) in there.iter().zip(row).zip(FIELDS) {
            assert!(there == want, "{place}: row {key}: field {name}: {} for {}", shown(there), shown(want));
        }
    }
    assert_eq!(found.len(), wanted.len(), "{place} has rows that nobody wrote");
}

fn shown(cell: &Cell) -> String {
    format!("{cell:?}").chars().take(300).collect()
}
