//! Support for tests of writing an LDB: ledgers made from statements, and functions that read the files
//! afterwards with plain SQLite.

pub mod follower;
pub mod workload;

use std::path::{Path, PathBuf};

use ctlstore_core::ledger::{Assembler, Batch, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// 2026-01-01 00:00:00 UTC; ledger row n is n seconds later.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

pub const CREATE: &str = r#"CREATE TABLE fam___tab ("id" INTEGER, "v" VARCHAR(191), PRIMARY KEY("id"));"#;

/// An LDB in a directory of its own, which is removed at the end.
pub struct Scratch {
    pub directory: TempDir,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn ldb(&self) -> PathBuf {
        self.directory.path().join("ldb.db")
    }

    pub fn changelog(&self) -> PathBuf {
        self.directory.path().join("change.log")
    }

    /// Without a changelog.
    pub fn open(&self) -> Ldb {
        Ldb::open(&self.ldb(), &options(None)).unwrap()
    }

    /// With a changelog of at most `max_bytes`.
    pub fn open_logged(&self, max_bytes: u64) -> Ldb {
        let changelog = ChangelogOptions { path: self.changelog(), max_bytes };
        Ldb::open(&self.ldb(), &options(Some(changelog))).unwrap()
    }

    /// A connection such as any other program would open.
    pub fn reader(&self) -> Connection {
        reader(&self.ldb())
    }
}

pub fn options(changelog: Option<ChangelogOptions>) -> LdbOptions {
    LdbOptions { wal_checkpoint_bytes: 4 * 1024 * 1024, changelog, history: None }
}

pub fn reader(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

pub fn timestamp(seq: i64) -> Timestamp {
    Timestamp::from_unix_micros(EPOCH_MICROS + seq * 1_000_000)
}

pub fn row(seq: i64, statement: &str) -> LedgerRow {
    LedgerRow { seq: Seq(seq), leader_ts: Some(timestamp(seq)), statement: statement.to_owned() }
}

/// `rows` as one batch for any LDB; they must be complete transactions.
pub fn batch_of(rows: impl IntoIterator<Item = LedgerRow>) -> Batch {
    let mut assembler = None;
    for row in rows {
        assembler.get_or_insert_with(|| Assembler::after(Seq((row.seq.0 - 1).min(0)))).push(row).unwrap();
    }
    let mut assembler = assembler.unwrap();
    assert!(!assembler.in_transaction());
    assembler.take_complete().unwrap()
}

/// Statements as consecutive ledger rows from `first` on.
pub fn batch(first: i64, statements: &[&str]) -> Batch {
    batch_of(statements.iter().zip(first..).map(|(statement, seq)| row(seq, statement)))
}

pub fn upsert(id: i64, value: &str) -> String {
    format!(r#"REPLACE INTO fam___tab ("id","v") VALUES({id},'{value}')"#)
}

/// All rows of all tables except the applier's own, with the storage class of every value. Floats are
/// shown by their bits, so they are exact, even NaN.
pub fn dump(connection: &Connection) -> Vec<String> {
    let tables = strings(
        connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 5) <> '_ldb_' ORDER BY name",
    );
    let mut dump = strings(
        connection,
        "SELECT sql FROM sqlite_schema WHERE substr(name, 1, 5) <> '_ldb_' AND sql IS NOT NULL ORDER BY name",
    );
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..columns).map(|i| row.get::<_, Value>(i).map(|value| shown(&value)));
            Ok(format!("{table}: {}", values.collect::<rusqlite::Result<Vec<_>>>()?.join(", ")))
        });
        let mut rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
        rows.sort();
        dump.extend(rows);
    }
    dump
}

/// Fails with the rows that differ, not with all rows.
#[track_caller]
pub fn assert_same(found: &[String], expected: &[String], when: &str) {
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).take(3).collect();
    let unexpected: Vec<_> = found.iter().filter(|row| !expected.contains(row)).take(3).collect();
    assert!(found == expected, "{when}: missing {missing:?}, unexpected {unexpected:?}, and maybe more");
}

fn shown(value: &Value) -> String {
    match value {
        Value::Real(float) => format!("real {float:?} {:x}", float.to_bits()),
        other => format!("{other:?}"),
    }
}

pub fn strings(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

pub fn integer(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub fn seq(connection: &Connection) -> i64 {
    integer(connection, "SELECT coalesce((SELECT seq FROM _ldb_seq WHERE id = 1), 0)")
}
