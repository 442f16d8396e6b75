//! Replays the ledger, statement by statement, into an empty SQLite database. Every LDB must have the same rows in the
//! end.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::{TestDatabase, sql};

/// The statements with a seq above `after`, with their seqs.
pub fn ledger(database: &TestDatabase, after: i64) -> Vec<(i64, String)> {
    // Hex, so that no client changes the text.
    let sql = format!("SELECT seq, HEX(statement) FROM ctlstore_dml_ledger WHERE seq > {after} ORDER BY seq");
    let text = |row: sql::Row| {
        let statement = hex::decode(row[1].as_deref().unwrap()).unwrap();
        (row[0].as_deref().unwrap().parse().unwrap(), String::from_utf8(statement).unwrap())
    };
    database.query(&sql).into_iter().map(text).collect()
}

/// Replays the whole ledger. The statements run as text. Markers must come in pairs.
pub fn replay(ledger: &[(i64, String)]) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    let mut inside = false;
    for (seq, statement) in ledger {
        match statement.as_str() {
            "--- BEGIN" => assert!(!std::mem::replace(&mut inside, true), "seq {seq}: BEGIN inside a transaction"),
            "--- COMMIT" => assert!(std::mem::replace(&mut inside, false), "seq {seq}: COMMIT outside one"),
            _ => connection.execute_batch(statement).unwrap_or_else(|error| panic!("seq {seq}: {error}")),
        }
    }
    assert!(!inside, "the ledger ends inside a transaction");
    connection
}

/// Fails if a number is missing: seqs are contiguous from 1 on.
pub fn assert_contiguous(ledger: &[(i64, String)]) {
    let seqs: Vec<i64> = ledger.iter().map(|(seq, _)| *seq).collect();
    let want: Vec<i64> = (1..=seqs.len() as i64).collect();
    assert_eq!(seqs, want);
}

/// All rows of a query.
pub fn rows(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|column| row.get(column)).collect());
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}
