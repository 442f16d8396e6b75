//! Reads what pruning needs from the ledger in an SQLite ctldb: its identity, and its rows without their
//! statements. Entry points: [`identity`] and [`rows`]. The module only reads.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::own_tables::{LEDGER_ID, LOW_WATER_SEQ};
use crate::ctldb::session::LedgerIdentity;
use ctlstore_core::ledger::{HeadRow, Marker, Seq};
use ctlstore_core::schema::Timestamp;

const META: &str = "SELECT value FROM ctlstore_meta WHERE name = ?";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ctlstore_meta'";
const TIME_TYPE: &str = "SELECT type FROM pragma_table_info(?) WHERE name = 'leader_ts'";
const HEAD: &str = "SELECT seq, leader_ts, octet_length(statement), substr(statement, 1, ?) FROM {ledger} \
                    WHERE seq > ? ORDER BY seq LIMIT ?";

const MARKER_CHARS: i64 = Marker::LOOK_AT as i64;

/// The type with which we declare `leader_ts`. The original declares another one.
const OUR_TIME_TYPE: &str = "TEXT";

pub(super) fn identity(db: &Connection, ledger: &LedgerTable) -> rusqlite::Result<LedgerIdentity> {
    let meta = |name: &str| -> rusqlite::Result<Option<String>> {
        if !db.prepare_cached(HAS_META)?.exists([])? {
            // A ctldb of the original.
            return Ok(None);
        }
        db.query_row(META, [name], |row| row.get(0)).optional()
    };
    let time_type: Option<String> = db.query_row(TIME_TYPE, [ledger.as_str()], |row| row.get(0)).optional()?;
    Ok(LedgerIdentity {
        ledger_id: meta(LEDGER_ID)?,
        low_water: meta(LOW_WATER_SEQ)?.and_then(|seq| seq.parse().ok()).map(Seq),
        made_by_original: !time_type.is_some_and(|declared| declared.eq_ignore_ascii_case(OUR_TIME_TYPE)),
    })
}

/// The first `most` rows after `after`, or of the whole ledger.
pub(super) fn rows(
    db: &Connection,
    ledger: &LedgerTable,
    after: Option<Seq>,
    most: usize,
) -> rusqlite::Result<Vec<HeadRow>> {
    let mut statement = db.prepare_cached(&ledger.fill(HEAD))?;
    let after = after.map_or(i64::MIN, |seq| seq.0);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statement.query_map((MARKER_CHARS, after, most), head_row)?;
    rows.collect()
}

fn head_row(row: &Row<'_>) -> rusqlite::Result<HeadRow> {
    let leader_ts = match row.get_ref(1)? {
        ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(Timestamp::parse),
        _ => None,
    };
    let marker = match row.get_ref(3)? {
        ValueRef::Text(text) => Marker::of(text),
        _ => None,
    };
    let bytes = row.get::<_, Option<i64>>(2)?.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    Ok(HeadRow { seq: Seq(row.get(0)?), leader_ts, marker, bytes })
}
