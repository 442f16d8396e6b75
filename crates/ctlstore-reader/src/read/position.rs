//! How far an LDB has come, from the tables that the applier keeps beside the data,
//! and which tables it has.

use rusqlite::OptionalExtension;
use rusqlite::types::{Type, ValueRef};

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, Timestamp};

use super::error::ReadError;
use super::file::LdbFile;

const IS_LDB: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_seq'";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_meta'";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
const SEQ: &str = "SELECT seq FROM _ldb_seq WHERE id = 1";
const LAST_UPDATE: &str = "SELECT timestamp FROM _ldb_last_update WHERE name = 'ledger'";
const LEDGER_ID: &str = "SELECT value FROM _ldb_meta WHERE name = 'ledger_id'";

/// What a commit moves together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last applied seq, 0 before the first.
    pub seq: Seq,
    /// When the last applied statement was written to the ledger, by the ctldb's
    /// clock; `None` before the first.
    pub last_update: Option<Timestamp>,
}

/// False for an empty file, which an applier may be about to fill.
pub(super) fn is_ldb(file: &LdbFile) -> Result<bool, ReadError> {
    Ok(file.prepare(IS_LDB)?.exists([])?)
}

pub(super) fn last_seq(file: &LdbFile) -> Result<Seq, ReadError> {
    let seq = file.prepare(SEQ)?.query_row([], |row| row.get(0)).optional()?;
    Ok(seq.map_or(Seq::ZERO, Seq))
}

pub(super) fn last_update(file: &LdbFile) -> Result<Option<Timestamp>, ReadError> {
    let read = |row: &rusqlite::Row<'_>| match row.get_ref(0)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => match std::str::from_utf8(text).ok().and_then(Timestamp::parse) {
            Some(timestamp) => Ok(Some(timestamp)),
            None => Err(rusqlite::Error::InvalidColumnType(0, "timestamp".into(), Type::Text)),
        },
        other => Err(rusqlite::Error::InvalidColumnType(0, "timestamp".into(), other.data_type())),
    };
    Ok(file.prepare(LAST_UPDATE)?.query_row([], read).optional()?.flatten())
}

/// An LDB of the original knows no ledger id.
pub(super) fn position(file: &LdbFile) -> Result<LdbPosition, ReadError> {
    let seq = last_seq(file)?;
    let ledger_id = match file.prepare(HAS_META)?.exists([])? {
        true => file.prepare(LEDGER_ID)?.query_row([], |row| row.get(0)).optional()?,
        false => None,
    };
    Ok(LdbPosition { seq, leader_ts: last_update(file)?, ledger_id })
}

/// In the order of their SQL names; what other programs named otherwise is left out.
pub(super) fn tables(file: &LdbFile) -> Result<Vec<TableRef>, ReadError> {
    let mut statement = file.prepare(TABLES)?;
    let mut rows = statement.query([])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        tables.extend(TableRef::from_sql_name(&name));
    }
    Ok(tables)
}
