//! Feeds any text to the parser of ledger statements, which must not panic. If it takes a text for an
//! upsert, SQLite must read the same values: each literal, bound as a value, must equal the literal in
//! the text.
#![no_main]

use std::cell::LazyCell;

use ctlstore_core::sql::{Literal, RowStatement, Statement, parse};
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::Value;

thread_local! {
    static SQLITE: LazyCell<Connection> =
        LazyCell::new(|| Connection::open_in_memory().expect("a database in memory"));
}

fn value(literal: &Literal<'_>) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Integer(integer) => Value::Integer(*integer),
        Literal::Boolean(boolean) => Value::Integer((*boolean).into()),
        // SQLite has no negative zero.
        Literal::Real(float) => Value::Real(float + 0.0),
        Literal::Text(text) => Value::Text(text.clone().into_owned()),
        Literal::Blob(hex) => {
            let mut bytes = Vec::new();
            hex.decode_into(&mut bytes);
            Value::Blob(bytes)
        }
    }
}

/// The values as SQLite reads them out of the statement's own text.
fn as_sqlite_reads(text: &str, row: &RowStatement<'_>) -> Option<Vec<Value>> {
    let list = text.split_once(" VALUES(")?.1.strip_suffix(')')?;
    SQLITE.with(|connection| {
        let mut statement = connection.prepare(&format!("SELECT {list}")).ok()?;
        let read = |row: &rusqlite::Row<'_>| (0..row.as_ref().column_count()).map(|i| row.get(i)).collect();
        let values: Vec<Value> = statement.query_row([], read).ok()?;
        assert_eq!(values.len(), row.values.len(), "{text:?}");
        Some(values)
    })
}

fuzz_target!(|text: &str| {
    if let Statement::Upsert(row) = parse(text)
        // A column's name with a parenthesis could end the list of columns too early.
        && !row.columns.contains('(')
        && let Some(read) = as_sqlite_reads(text, &row)
    {
        let bound: Vec<_> = row.values.iter().map(value).collect();
        for (bound, read) in bound.iter().zip(&read) {
            let is_same = match (bound, read) {
                (Value::Real(bound), Value::Real(read)) => bound.to_bits() == (read + 0.0).to_bits(),
                _ => bound == read,
            };
            assert!(is_same, "{text:?}: bound {bound:?}, read {read:?}");
        }
    }
});
