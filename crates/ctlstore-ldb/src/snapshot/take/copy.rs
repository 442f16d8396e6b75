//! Copies the LDB into a new database within one read transaction. Pages come out full and
//! in order. Entry point: [`copy`].
//!
//! The rows go over by `INSERT … SELECT *` between tables of the same definition. SQLite then
//! moves whole records, of tables and of indexes, without reading their values. So values
//! keep their storage class, whatever the column says.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use ctlstore_core::Abort;
use ctlstore_core::disk::file_uri;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_core::sql::quoted;

use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::{Phase, SnapshotProgress};

use super::pace::Pace;

/// No other program has the copy before it is done, so it needs neither locks nor a journal.
/// It is flushed as a plain file.
const SETTINGS: &str = "\
PRAGMA main.locking_mode = EXCLUSIVE;
PRAGMA main.journal_mode = OFF;
PRAGMA main.synchronous = OFF;
PRAGMA foreign_keys = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA main.cache_size = -16384;
PRAGMA writable_schema = ON;";
const ATTACH: &str = "ATTACH ?1 AS ldb";
const SEQ: &str = "SELECT seq FROM ldb._ldb_seq WHERE id = 1";
/// Tables that store rows. SQLite makes `sqlite_sequence` with the first table that needs it.
const TABLES: &str = "SELECT name, sql FROM ldb.sqlite_schema \
WHERE type = 'table' AND rootpage > 0 AND name <> 'sqlite_sequence' ORDER BY rowid";
const INDEXES: &str = "SELECT sql FROM ldb.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid";
/// Copies views and triggers as text. They are not run, so a trigger does not fire on the copied rows.
const TEXTS: &str = "INSERT INTO main.sqlite_schema SELECT * FROM ldb.sqlite_schema \
WHERE type IN ('view', 'trigger') OR (type = 'table' AND rootpage = 0)";
const HAS_SEQUENCE: &str = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
const SEQUENCE: &str = "DELETE FROM main.sqlite_sequence;
INSERT INTO main.sqlite_sequence SELECT * FROM ldb.sqlite_sequence;";

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's own instructions between two calls of [`Pace::must_end`]. They are few, because
/// one of them can move a row of half a megabyte.
const PACE_CHECK: i32 = 200;

/// The state of the LDB that was copied.
#[derive(Debug)]
pub(super) struct CopiedState {
    pub(super) seq: Seq,
    pub(super) taken_at: Timestamp,
    /// The rows of each table, counted in the LDB.
    pub(super) rows: Vec<(String, u64)>,
}

/// Copies into the empty file at `path`, which is open as `file`.
pub(super) fn copy(
    ldb: &Path,
    path: &Path,
    file: &File,
    abort: &Abort,
    progress: &Arc<dyn SnapshotProgress>,
) -> Result<CopiedState, SnapshotError> {
    let failed = SnapshotError::copy;
    let shape = FileShape::of(ldb).map_err(failed(path))?;
    let pace = Pace::new(file, shape.bytes, abort, progress).map_err(SnapshotError::io("open", path))?;
    let failure = pace.failure();
    let copied = run(ldb, path, &shape, pace).map_err(|error| match failure.take() {
        Some(error) => SnapshotError::io("flush", path)(error),
        None => failed(path)(error),
    })?;
    progress.at(Phase::Copy, shape.bytes, Some(shape.bytes));
    Ok(copied)
}

fn run(ldb: &Path, path: &Path, shape: &FileShape, mut pace: Pace) -> rusqlite::Result<CopiedState> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Only the applier moves the WAL into the LDB.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Definitions by other programs may hold text in double quotes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    connection.execute_batch(&shape.settings())?;
    connection.execute_batch(SETTINGS)?;
    connection.execute(ATTACH, [file_uri(ldb, "mode=ro")])?;
    connection.progress_handler(PACE_CHECK, Some(move || pace.must_end()))?;
    connection.execute_batch("BEGIN")?;
    let copied = copy_all(&connection)?;
    connection.execute_batch("COMMIT")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(copied)
}

fn copy_all(connection: &Connection) -> rusqlite::Result<CopiedState> {
    // This first read begins the read transaction of the LDB.
    let seq = connection.query_row(SEQ, [], |row| row.get(0)).optional()?.map_or(Seq::ZERO, Seq);
    let taken_at = Timestamp::now();
    let tables: Vec<(String, String)> = {
        let mut statement = connection.prepare(TABLES)?;
        let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        tables.collect::<rusqlite::Result<_>>()?
    };
    for (_, sql) in &tables {
        connection.execute_batch(sql)?;
    }
    let indexes: Vec<String> =
        connection.prepare(INDEXES)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for sql in indexes {
        connection.execute_batch(&sql)?;
    }
    let mut rows = Vec::with_capacity(tables.len());
    for (name, _) in tables {
        let table = quoted(&name);
        connection.execute(&format!("INSERT INTO main.{table} SELECT * FROM ldb.{table}"), [])?;
        rows.push((name, count(connection, &format!("ldb.{table}"))?));
    }
    if connection.prepare(HAS_SEQUENCE)?.exists([])? {
        connection.execute_batch(SEQUENCE)?;
    }
    connection.execute(TEXTS, [])?;
    for pragma in ["user_version", "application_id"] {
        let value: i64 = connection.query_row(&format!("PRAGMA ldb.{pragma}"), [], |row| row.get(0))?;
        connection.execute_batch(&format!("PRAGMA main.{pragma} = {value}"))?;
    }
    Ok(CopiedState { seq, taken_at, rows })
}

/// The number of rows of a table, whose name is quoted already.
pub(super) fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(rows.cast_unsigned())
}

/// The properties of a database file that are fixed by its first page.
struct FileShape {
    page_size: u32,
    encoding: String,
    auto_vacuum: u32,
    /// The bytes of the pages in use.
    bytes: u64,
}

impl FileShape {
    fn of(ldb: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(ldb, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let integer = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u32>(0));
        let page_size = integer("page_size")?;
        let used = integer("page_count")?.saturating_sub(integer("freelist_count")?);
        Ok(Self {
            page_size,
            encoding: connection.query_row("PRAGMA encoding", [], |row| row.get(0))?,
            auto_vacuum: integer("auto_vacuum")?,
            bytes: u64::from(used) * u64::from(page_size),
        })
    }

    fn settings(&self) -> String {
        let Self { page_size, encoding, auto_vacuum, .. } = self;
        format!("PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {auto_vacuum};")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_over_whole() {
        let connection = Connection::open_in_memory().unwrap();
        let table = r#"TABLE {}.fam___tab ("k" VARCHAR(191), "i" INTEGER, "r" REAL, PRIMARY KEY("k"))"#;
        connection.execute_batch("ATTACH ':memory:' AS ldb").unwrap();
        for schema in ["main", "ldb"] {
            connection.execute_batch(&format!("CREATE {}", table.replace("{}", schema))).unwrap();
        }
        let explain = "EXPLAIN INSERT INTO main.fam___tab SELECT * FROM ldb.fam___tab";
        let mut statement = connection.prepare(explain).unwrap();
        let steps: Vec<String> =
            statement.query_map([], |row| row.get("opcode")).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        // The plan has a slow way too, for a target that is not empty as this one is.
        let whole = steps.iter().filter(|step| *step == "RowData").count();
        assert_eq!(whole, 2, "of the table and of its index: {steps:?}");
    }
}
