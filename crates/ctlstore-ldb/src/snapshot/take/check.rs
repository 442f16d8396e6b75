//! Checks the copy, as the file that will be published. It must be sound as a database, and have
//! the copied seq and the rows that the LDB had in the same read transaction. The check also
//! makes each table's digest. Entry point: [`check`].
//!
//! No check finds a value that was wrong in the LDB already, in a column that is in no index:
//! SQLite keeps no checksums.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, file_uri};
use ctlstore_core::ledger::LdbPosition;
use ctlstore_core::sql::quoted;
use ctlstore_reader::read::LdbReader;

use crate::snapshot::digest::{TableDigest, table_digest, table_names};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::{Phase, SnapshotProgress};

use super::copy::{CopiedState, count};
use super::index;

/// The file is read several times. Mapping is safe, because no other program can shorten it.
const MAPPED: &str = "PRAGMA mmap_size = 1099511627776";
/// SQLite's own instructions between two checks of the abort flag: well below a millisecond.
const ABORT_CHECK: i32 = 10_000;
const CHECK: &str = "PRAGMA quick_check(1)";

/// The content of a sound copy.
#[derive(Debug)]
pub(super) struct CheckedCopy {
    pub(super) position: LdbPosition,
    pub(super) tables: Vec<TableDigest>,
}

/// # Errors
/// [`SnapshotError::Damaged`], which names the first thing that is wrong.
pub(super) fn check(
    path: &Path,
    copied: &CopiedState,
    abort: &Abort,
    progress: &Arc<dyn SnapshotProgress>,
) -> Result<CheckedCopy, SnapshotError> {
    let damaged = |report: String| SnapshotError::Damaged { path: path.to_owned(), report };
    let failed = |error: rusqlite::Error| match SnapshotError::copy(path)(error) {
        // SQLite found something in the copy that can't be.
        SnapshotError::Copy { source, .. } => damaged(source.to_string()),
        other => other,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // The file is marked for WAL. Opened in any other way it would get one beside it.
    let mut connection = Connection::open_with_flags(file_uri(path, IMMUTABLE), flags).map_err(failed)?;
    let watched = abort.clone();
    connection.progress_handler(ABORT_CHECK, Some(move || watched.is_aborted())).map_err(failed)?;
    connection.query_row(MAPPED, [], |_| Ok(())).map_err(failed)?;
    let report: String = connection.query_row(CHECK, [], |row| row.get(0)).map_err(failed)?;
    if report != "ok" {
        return Err(damaged(report));
    }
    let position = LdbReader::immutable(path).position().map_err(SnapshotError::Ldb)?;
    if position.seq != copied.seq {
        return Err(damaged(format!("it is at seq {}, the ldb at {}", position.seq, copied.seq)));
    }
    let tables = digest_tables(&connection, copied, progress).map_err(failed)?.map_err(damaged)?;
    count_others(&connection, copied, &tables).map_err(failed)?.map_or(Ok(()), |report| Err(damaged(report)))?;
    for (table, _) in &copied.rows {
        if let Some(index) = index::differing(&connection, table).map_err(failed)? {
            return Err(damaged(format!("index {index} does not have the keys of table {table}")));
        }
    }
    Ok(CheckedCopy { position, tables })
}

/// Finds the first table without a digest that has another number of rows than the LDB.
fn count_others(
    connection: &Connection,
    copied: &CopiedState,
    digested: &[TableDigest],
) -> rusqlite::Result<Option<String>> {
    let is_digested = |table: &str| digested.iter().any(|digest| digest.name == table);
    for (table, rows) in copied.rows.iter().filter(|(table, _)| !is_digested(table)) {
        let found = count(connection, &quoted(table))?;
        if found != *rows {
            return Ok(Some(format!("table {table} has {found} rows, {rows} in the ldb")));
        }
    }
    Ok(None)
}

/// Makes the digests, or finds the first table with another number of rows than the LDB.
fn digest_tables(
    connection: &Connection,
    copied: &CopiedState,
    progress: &Arc<dyn SnapshotProgress>,
) -> rusqlite::Result<Result<Vec<TableDigest>, String>> {
    let wanted = |table: &str| copied.rows.iter().find(|(name, _)| name == table).map(|(_, rows)| *rows);
    let names = table_names(connection)?;
    let total = names.iter().filter_map(|name| wanted(name)).sum();
    let mut tables = Vec::with_capacity(names.len());
    let mut before = 0;
    for name in names {
        let rows = wanted(&name);
        let table = table_digest(connection, name, &mut |rows| progress.at(Phase::Check, before + rows, Some(total)))?;
        // These rows were counted in the table itself; a count may read an index instead.
        if rows != Some(table.rows) {
            return Ok(Err(format!("table {} has {} rows, {} in the ldb", table.name, table.rows, rows.unwrap_or(0))));
        }
        before += table.rows;
        tables.push(table);
    }
    Ok(Ok(tables))
}
