//! Checks whether a fetched file is an LDB that this program can write on. Entry points:
//! [`check`] for the file, [`digests`] and [`compare`] for its tables. Reads the file through
//! SQLite, as one that no program writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, file_uri, too_many_open_files};
use ctlstore_core::ledger::LdbPosition;
use ctlstore_reader::read::{LdbReader, ReadError};

use crate::ldb;
use crate::snapshot::digest::{TableDigest, table_digest};
use crate::snapshot::progress::{Phase, SnapshotProgress};

use super::error::BadSnapshot;

/// How every SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The part of SQLite's header that is read, and the place of the page size in it.
const HEADER_BYTES: u64 = 18;
const PAGE_SIZE: std::ops::Range<usize> = 16..18;

const CHECK: &str = "PRAGMA quick_check(1)";
const OURS: &str = "SELECT count(*) FROM sqlite_schema
WHERE type = 'table' AND name IN ('_ldb_seq', '_ldb_last_update')";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_meta'";
/// Triggers, and views that could be read instead of a table. No ledger makes any.
const FOREIGN: &str = "SELECT type || ' ' || name FROM sqlite_schema WHERE type = 'trigger'
OR type = 'view' AND (instr(name, '___') > 0 OR substr(name, 1, 5) = '_ldb_') LIMIT 1";
const FORMAT_VERSION: &str = "SELECT value FROM _ldb_meta WHERE name = 'format_version'";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0
AND substr(name, 1, 5) <> '_ldb_' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name";

/// SQLite's own instructions between two checks of the abort flag: well below a millisecond.
const ABORT_CHECK: i32 = 10_000;

/// Checks the database at `path`, and gives its position.
pub fn check(path: &Path, abort: &Abort) -> Result<LdbPosition, BadSnapshot> {
    check_header(path)?;
    let connection = open(path, abort)?;
    let report: String = connection.query_row(CHECK, [], |row| row.get(0))?;
    if report != "ok" {
        return Err(BadSnapshot::Damaged(report));
    }
    let ours: u32 = connection.query_row(OURS, [], |row| row.get(0))?;
    if ours != 2 {
        return Err(BadSnapshot::NotAnLdb);
    }
    refuse_foreign(&connection)?;
    refuse_newer(&connection)?;
    drop(connection);
    LdbReader::immutable(path).position().map_err(|error| match error {
        ReadError::Sqlite(error) => error.into(),
        other => BadSnapshot::Damaged(other.to_string()),
    })
}

/// Checks that the file is SQLite's and ends with a whole page. SQLite itself would read
/// zeroes for the missing part of the last page.
fn check_header(path: &Path) -> Result<(), BadSnapshot> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = Vec::new();
    file.take(HEADER_BYTES).read_to_end(&mut header)?;
    let Some(&[high, low]) = header.get(PAGE_SIZE).filter(|_| header.starts_with(MAGIC)) else {
        return Err(BadSnapshot::NotADatabase);
    };
    let page_size = match u16::from_be_bytes([high, low]) {
        // 65,536 does not fit into two bytes.
        1 => 65_536,
        size => u64::from(size),
    };
    if !page_size.is_power_of_two() || !length.is_multiple_of(page_size) {
        return Err(BadSnapshot::Damaged(format!("{length} bytes are no whole number of pages")));
    }
    Ok(())
}

/// Marks the file as one in WAL mode, because its readers expect that. Snapshots of other
/// programs may lack the mark.
pub fn mark_for_wal(path: &Path) -> Result<(), BadSnapshot> {
    let file = File::options().read(true).write(true).open(path)?;
    if ldb::mark_for_wal(&file)? {
        file.sync_all()?;
    }
    Ok(())
}

/// The digest of each table, by name.
pub fn digests(path: &Path, abort: &Abort, progress: &dyn SnapshotProgress) -> Result<Vec<TableDigest>, BadSnapshot> {
    let connection = open(path, abort)?;
    let mut tables = connection.prepare(TABLES)?;
    let names = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut before = 0;
    let digest = |name| {
        let table = table_digest(&connection, name, &mut |rows| progress.at(Phase::Check, before + rows, None))?;
        before += table.rows;
        Ok(table)
    };
    names.into_iter().map(digest).collect()
}

/// Compares every table with `said`, which names all of them.
pub fn compare(found: &[TableDigest], said: &[TableDigest]) -> Result<(), BadSnapshot> {
    let found: BTreeMap<_, _> = found.iter().map(|table| (table.name.as_str(), table)).collect();
    let said: BTreeMap<_, _> = said.iter().map(|table| (table.name.as_str(), table)).collect();
    if let Some(extra) = found.keys().find(|name| !said.contains_key(*name)) {
        return Err(BadSnapshot::Mismatch(format!("table {extra} is not in the manifest")));
    }
    for (name, said) in said {
        let Some(found) = found.get(name) else {
            return Err(BadSnapshot::Mismatch(format!("table {name} is missing")));
        };
        if found.rows != said.rows {
            let found = found.rows;
            let said = said.rows;
            return Err(BadSnapshot::Mismatch(format!("table {name} has {found} rows, the manifest says {said}")));
        }
        if found.digest != said.digest {
            return Err(BadSnapshot::Mismatch(format!("table {name} has other rows than the manifest says")));
        }
    }
    Ok(())
}

fn open(path: &Path, abort: &Abort) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // The file may be marked for WAL. Opened in any other way it would get one beside it.
    let mut connection = Connection::open_with_flags(file_uri(path, IMMUTABLE), flags)?;
    let flag = abort.clone();
    connection.progress_handler(ABORT_CHECK, Some(move || flag.is_aborted()))?;
    Ok(connection)
}

fn refuse_foreign(connection: &Connection) -> Result<(), BadSnapshot> {
    let found: Option<String> = connection.query_row(FOREIGN, [], |row| row.get(0)).optional()?;
    found.map_or(Ok(()), |found| Err(BadSnapshot::Foreign(found)))
}

fn refuse_newer(connection: &Connection) -> Result<(), BadSnapshot> {
    if !connection.prepare(HAS_META)?.exists([])? {
        return Ok(());
    }
    let found: Option<String> = connection.query_row(FORMAT_VERSION, [], |row| row.get(0)).optional()?;
    match found {
        Some(found) if found.parse().map_or(true, |version: u32| version > ldb::FORMAT_VERSION) => {
            Err(BadSnapshot::NewerFormat { what: "ldb", found, known: ldb::FORMAT_VERSION })
        }
        _ => Ok(()),
    }
}

impl From<rusqlite::Error> for BadSnapshot {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Aborted,
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            Some(ErrorCode::CannotOpen) if let Some(why) = too_many_open_files() => Self::Io(why.to_string()),
            // A full disk or too few descriptors are not the snapshot's fault.
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::PermissionDenied,
            ) => Self::Io(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}
