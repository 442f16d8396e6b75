//! Checks the copy, as the file that will be published: sound as a database, of the
//! seq that was copied, with the rows that the LDB had in the same read transaction.
//! On the way each table's digest is made.
//!
//! What no check can see is a value that was wrong in the LDB already, in a column
//! that is in no index: SQLite keeps no checksums.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::{Phase, Progress};
use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, file_uri};
use ctlstore_core::ledger::LdbPosition;
use ctlstore_core::sql::quoted;
use ctlstore_reader::read::LdbReader;

use super::copy::{Copied, count};
use super::digest::{TableDigest, table_digest, table_names};
use super::index;

/// The file is read several times over, and is nobody's who could cut it short meanwhile.
const MAPPED: &str = "PRAGMA mmap_size = 1099511627776";
/// SQLite's own instructions between two looks at the flag: well below a millisecond.
const ABORT_CHECK: i32 = 10_000;
const CHECK: &str = "PRAGMA quick_check(1)";

/// What a sound copy holds.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) position: LdbPosition,
    pub(super) tables: Vec<TableDigest>,
}

/// # Errors
/// [`SnapshotError::Damaged`], which names the first thing that is wrong.
pub(super) fn check(
    path: &Path,
    copied: &Copied,
    abort: &Abort,
    progress: &Arc<dyn Progress>,
) -> Result<Checked, SnapshotError> {
    let damaged = |report: String| SnapshotError::Damaged { path: path.to_owned(), report };
    let failed = |error: rusqlite::Error| match SnapshotError::copy(path)(error) {
        // SQLite met something in the copy that can't be.
        SnapshotError::Copy { source, .. } => damaged(source.to_string()),
        other => other,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // It is marked for WAL: opened in any other way it would get one beside it.
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
    Ok(Checked { position, tables })
}

/// The first table without a digest whose rows are not as many as in the LDB.
fn count_others(
    connection: &Connection,
    copied: &Copied,
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

/// The digests, or which table does not have the rows that it should have.
fn digest_tables(
    connection: &Connection,
    copied: &Copied,
    progress: &Arc<dyn Progress>,
) -> rusqlite::Result<Result<Vec<TableDigest>, String>> {
    let wanted = |table: &str| copied.rows.iter().find(|(name, _)| name == table).map(|(_, rows)| *rows);
    let names = table_names(connection)?;
    let total = names.iter().filter_map(|name| wanted(name)).sum();
    let (mut tables, mut before) = (Vec::with_capacity(names.len()), 0);
    for name in names {
        let rows = wanted(&name);
        let table = table_digest(connection, name, &mut |rows| progress.at(Phase::Check, before + rows, Some(total)))?;
        // Counted in the table itself, and not in the index that a count would take.
        if rows != Some(table.rows) {
            return Ok(Err(format!("table {} has {} rows, {} in the ldb", table.name, table.rows, rows.unwrap_or(0))));
        }
        before += table.rows;
        tables.push(table);
    }
    Ok(Ok(tables))
}
