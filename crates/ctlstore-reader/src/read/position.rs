//! Reads how far an LDB has come, from the tables that the applier keeps beside the data, and
//! which tables it has. Entry points: [`last_seq`] and [`position`].

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension};

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, Timestamp};

use super::error::ReadError;

const IS_LDB: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_seq'";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_meta'";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
const SEQ: &str = "SELECT seq FROM _ldb_seq WHERE id = 1";
const LAST_UPDATE: &str = "SELECT timestamp FROM _ldb_last_update WHERE name = 'ledger'";
const LEDGER_ID: &str = "SELECT value FROM _ldb_meta WHERE name = 'ledger_id'";

/// The last applied statement. A commit changes both fields together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastApplied {
    /// The last applied seq; 0 before the first.
    pub seq: Seq,
    /// When the last applied statement was written to the ledger, by the ctldb's clock; `None`
    /// before the first.
    pub last_update: Option<Timestamp>,
}

/// Whether the file is an LDB. It is none if it is empty; then an applier may be about to fill it.
pub(super) fn is_ldb(connection: &Connection) -> Result<bool, ReadError> {
    Ok(connection.prepare_cached(IS_LDB)?.exists([])?)
}

pub(super) fn last_seq(connection: &Connection) -> Result<Seq, ReadError> {
    let seq = connection.prepare_cached(SEQ)?.query_row([], |row| row.get(0)).optional()?;
    Ok(seq.map_or(Seq::ZERO, Seq))
}

pub(super) fn last_update(connection: &Connection) -> Result<Option<Timestamp>, ReadError> {
    let read = |row: &rusqlite::Row<'_>| match row.get_ref(0)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => match std::str::from_utf8(text).ok().and_then(Timestamp::parse) {
            Some(timestamp) => Ok(Some(timestamp)),
            None => Err(rusqlite::Error::InvalidColumnType(0, "timestamp".into(), Type::Text)),
        },
        other => Err(rusqlite::Error::InvalidColumnType(0, "timestamp".into(), other.data_type())),
    };
    Ok(connection.prepare_cached(LAST_UPDATE)?.query_row([], read).optional()?.flatten())
}

/// The last applied seq and its ledger. An LDB of the Go program has no ledger id.
pub(super) fn position(connection: &Connection) -> Result<LdbPosition, ReadError> {
    let seq = last_seq(connection)?;
    let ledger_id = if connection.prepare_cached(HAS_META)?.exists([])? {
        connection.prepare_cached(LEDGER_ID)?.query_row([], |row| row.get(0)).optional()?
    } else {
        None
    };
    Ok(LdbPosition { seq, leader_ts: last_update(connection)?, ledger_id })
}

/// The tables of families, in the order of their SQL names. Tables with other names are left out.
pub(super) fn tables(connection: &Connection) -> Result<Vec<TableRef>, ReadError> {
    let mut statement = connection.prepare_cached(TABLES)?;
    let mut rows = statement.query([])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        tables.extend(TableRef::from_sql_name(&name));
    }
    Ok(tables)
}
