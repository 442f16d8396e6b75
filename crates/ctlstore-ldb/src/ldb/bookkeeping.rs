//! The applier's own tables in the LDB: how far the LDB is, which ledger it follows, and the
//! number of the next changelog entry. Functions on an open connection; transactions are the
//! caller's.

use rusqlite::{Connection, OptionalExtension};

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;

use crate::changelog::Numbering;

/// The version of `_ldb_meta`, and of what this program keeps there.
pub const FORMAT_VERSION: u32 = 1;

/// Every program that reads an LDB expects the first two tables.
const CREATE: &str = "\
CREATE TABLE IF NOT EXISTS _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
CREATE TABLE IF NOT EXISTS _ldb_meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);";
const HAS_META: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_meta'";
const TRIGGERS: &str = "SELECT name FROM sqlite_schema WHERE type = 'trigger' LIMIT 8";
const GET_SEQ: &str = "SELECT seq FROM _ldb_seq WHERE id = 1";
const SET_SEQ: &str = "REPLACE INTO _ldb_seq (id, seq) VALUES(1, ?)";
const SET_LAST_UPDATE: &str = "REPLACE INTO _ldb_last_update (name, timestamp) VALUES('ledger', ?)";
const CLEAR_LAST_UPDATE: &str = "DELETE FROM _ldb_last_update WHERE name = 'ledger'";
const GET_LAST_UPDATE: &str = "SELECT CAST(timestamp AS TEXT) FROM _ldb_last_update WHERE name = 'ledger'";
const GET_META: &str = "SELECT value FROM _ldb_meta WHERE name = ?";
const SET_META: &str = "REPLACE INTO _ldb_meta (name, value) VALUES(?, ?)";

const META_FORMAT_VERSION: &str = "format_version";
const META_LEDGER_ID: &str = "ledger_id";
/// The number of the next changelog entry.
const META_CHANGELOG_NEXT: &str = "changelog_next_seq";
/// The ledger seq at which that number was right. If the LDB is further on, a program changed
/// rows without counting them.
const META_CHANGELOG_AT: &str = "changelog_ledger_seq";
/// The database file that the number belongs to. A copy of an LDB has the number of its original.
const META_CHANGELOG_FILE: &str = "changelog_ldb_file";

/// The stored format version; `None` if there is none.
pub fn format_version(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let has_meta: i64 = connection.query_row(HAS_META, [], |row| row.get(0))?;
    if has_meta == 0 { Ok(None) } else { get(connection, META_FORMAT_VERSION) }
}

/// The names of triggers, which another program made. They are switched off.
pub fn triggers(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare(TRIGGERS)?.query_map([], |row| row.get(0))?.collect()
}

/// Creates the missing tables, in the open transaction.
pub fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(CREATE)?;
    if get(connection, META_FORMAT_VERSION)?.is_none() {
        set(connection, META_FORMAT_VERSION, &FORMAT_VERSION.to_string())?;
    }
    Ok(())
}

/// The last applied seq; 0 if nothing was applied yet.
pub fn seq(connection: &Connection) -> rusqlite::Result<Seq> {
    let seq = connection.prepare_cached(GET_SEQ)?.query_row([], |row| row.get(0)).optional()?;
    Ok(seq.map_or(Seq::ZERO, Seq))
}

pub fn set_seq(connection: &Connection, seq: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached(SET_SEQ)?.execute([seq.0]).map(drop)
}

pub fn set_last_update(connection: &Connection, leader_ts: Timestamp) -> rusqlite::Result<()> {
    connection.prepare_cached(SET_LAST_UPDATE)?.execute([leader_ts.to_string()]).map(drop)
}

/// Sets the time of the last row to that of another LDB, as it is stored there.
pub fn copy_last_update(connection: &Connection, timestamp: Option<&str>) -> rusqlite::Result<()> {
    match timestamp {
        Some(timestamp) => connection.execute(SET_LAST_UPDATE, [timestamp]),
        None => connection.execute(CLEAR_LAST_UPDATE, []),
    }
    .map(drop)
}

pub fn position(connection: &Connection) -> rusqlite::Result<LdbPosition> {
    let leader_ts: Option<String> =
        connection.prepare_cached(GET_LAST_UPDATE)?.query_row([], |row| row.get(0)).optional()?;
    Ok(LdbPosition {
        seq: seq(connection)?,
        leader_ts: leader_ts.as_deref().and_then(Timestamp::parse),
        ledger_id: get(connection, META_LEDGER_ID)?,
    })
}

pub fn set_ledger_id(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    set(connection, META_LEDGER_ID, id)
}

/// The stored numbering of the changelog; `None` if there is none, or if the stored values
/// make no sense.
pub fn numbering(connection: &Connection) -> rusqlite::Result<Option<Numbering>> {
    let next = get(connection, META_CHANGELOG_NEXT)?.and_then(|value| value.parse().ok());
    let ledger_seq = get(connection, META_CHANGELOG_AT)?.and_then(|value| value.parse().ok());
    let ldb_file = get(connection, META_CHANGELOG_FILE)?;
    Ok(match (next, ledger_seq, ldb_file) {
        (Some(next), Some(seq), Some(ldb_file)) => Some(Numbering { next, ledger_seq: Seq(seq), ldb_file }),
        _ => None,
    })
}

/// Stores the next number, which is right as of `ledger_seq`.
pub fn set_next_number(connection: &Connection, next: u64, ledger_seq: Seq) -> rusqlite::Result<()> {
    set(connection, META_CHANGELOG_NEXT, &next.to_string())?;
    set(connection, META_CHANGELOG_AT, &ledger_seq.to_string())
}

/// Stores a whole numbering. Opening an LDB does that.
pub fn set_numbering(connection: &Connection, numbering: &Numbering) -> rusqlite::Result<()> {
    set_next_number(connection, numbering.next, numbering.ledger_seq)?;
    set(connection, META_CHANGELOG_FILE, &numbering.ldb_file)
}

/// Stores a numbering that belongs to no file. It goes on after the stored number and after
/// `at_least`, whichever is higher.
pub fn disown_numbering(connection: &Connection, at_least: Option<u64>) -> rusqlite::Result<()> {
    let kept = get(connection, META_CHANGELOG_NEXT)?.and_then(|value| value.parse().ok());
    let next = kept.max(at_least).unwrap_or(1);
    set_numbering(connection, &Numbering { next, ledger_seq: seq(connection)?, ldb_file: String::new() })
}

fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached(GET_META)?.query_row([name], |row| row.get(0)).optional()
}

fn set(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(SET_META)?.execute([name, value]).map(drop)
}
