//! The places where a written row lies, each read as rows by their keys with its own client.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mysql_async::prelude::Queryable;
use rusqlite::Connection;
use serde_json::Value;

use super::generate::{Cell, FIELDS, Rows, key_of};
use support::in_process::replay;
use support::{NodeProcess, TestDatabase, http, wait_until};

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

/// What the node's reader answers, once its LDB has applied `seq`.
pub fn reader(node: &NodeProcess, seq: i64) -> Rows {
    wait_until("the LDB has applied it", Duration::from_secs(60), || {
        let status = http::get(&format!("{}/status", node.ops_url())).expect(200).json();
        let roles = status["roles"].as_array().expect("a list of roles");
        let applier = roles.iter().find(|role| role["role"] == "applier").expect("an applier");
        applier["last_seq"].as_i64() >= Some(seq)
    });
    let url = format!("{}/get-rows-by-key-prefix/fam/tab", node.reader_url());
    let rows = http::post(&url, r#"{"Key":[]}"#).expect(200).json();
    let cell = |(name, field_type): &(&str, &str), value: &Value| match (value, *field_type) {
        (Value::Null, _) => Cell::Null,
        (Value::Number(number), "decimal") => Cell::Real(number.as_f64().unwrap()),
        (Value::Number(number), _) => Cell::Integer(number.as_i64().unwrap()),
        (Value::String(text), "binary" | "bytestring") => Cell::Bytes(STANDARD.decode(text).unwrap()),
        (Value::String(text), _) => Cell::Bytes(text.clone().into_bytes()),
        (other, _) => panic!("{name}: {other}"),
    };
    let row = |row: &Value| FIELDS.iter().map(|field| cell(field, &row[field.0])).collect();
    by_key(rows.as_array().unwrap().iter().map(row))
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
