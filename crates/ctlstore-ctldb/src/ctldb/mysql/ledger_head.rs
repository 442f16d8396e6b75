//! The queries with which pruning reads the ledger on a server of the MySQL family: its identity, and
//! its rows without their statements. Entry points: [`columns`] and [`heads`] make the SQL,
//! [`identity`] and [`head_row`] read the answers. `session` and `source` send the queries.

use mysql_async::Value;

use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::own_tables::{LEDGER_ID, LOW_WATER_SEQ};
use crate::ctldb::session::LedgerIdentity;
use ctlstore_core::ledger::{HeadRow, Marker, Seq};
use ctlstore_core::schema::Timestamp;

use super::rows::quote;

pub(super) const META: &str = "SELECT name, value FROM ctlstore_meta WHERE name IN ('ledger_id', 'low_water_seq')";
const COLUMNS: &str = "SELECT column_name, data_type, COALESCE(datetime_precision, 0) FROM information_schema.columns \
                       WHERE table_schema = DATABASE() AND column_name IN ('seq', 'leader_ts') AND table_name = ";
const HEAD: &str = "SELECT seq, leader_ts, COALESCE(LENGTH(statement), 0), LEFT(statement, {look_at}) FROM {ledger} \
                    WHERE seq > {after} ORDER BY seq LIMIT {rows}";
pub(super) const UTC_NOW: &str = "SELECT UTC_TIMESTAMP(6)";

/// Two columns of the ledger table as this program makes them, with type and fraction digits. They differ
/// in a ledger that the original made.
const OURS: [(&str, &str, i64); 2] = [("leader_ts", "datetime", 6), ("seq", "bigint", 0)];

pub(super) type MetaRow = (String, String);
pub(super) type ColumnRow = (String, String, i64);
pub(super) type LedgerHeadRow = (i64, Value, u64, Vec<u8>);

/// The query whose answer [`identity`] needs.
pub(super) fn columns(ledger: &LedgerTable) -> String {
    format!("{COLUMNS}{}", quote(ledger.as_str()))
}

pub(super) fn identity(meta: &[MetaRow], mut columns: Vec<ColumnRow>) -> LedgerIdentity {
    let value = |wanted: &str| meta.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    columns.sort();
    let is_ours = columns.iter().map(|(name, kind, digits)| (name.as_str(), kind.as_str(), *digits)).eq(OURS);
    LedgerIdentity {
        ledger_id: value(LEDGER_ID),
        low_water: value(LOW_WATER_SEQ).and_then(|seq| seq.parse().ok()).map(Seq),
        made_by_original: !is_ours,
    }
}

/// The query for the first `most` rows after `after`, or of the whole ledger.
pub(super) fn heads(ledger: &LedgerTable, after: Option<Seq>, most: usize) -> String {
    let sql = ledger.fill(HEAD).replace("{after}", &after.map_or(i64::MIN, |seq| seq.0).to_string());
    sql.replace("{look_at}", &Marker::LOOK_AT.to_string()).replace("{rows}", &most.to_string())
}

pub(super) fn head_row((seq, leader_ts, bytes, start): LedgerHeadRow) -> HeadRow {
    HeadRow { seq: Seq(seq), leader_ts: timestamp(&leader_ts), marker: Marker::of(&start), bytes }
}

/// A time as the server writes it, in our sessions' UTC.
pub(super) fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Bytes(text) => std::str::from_utf8(text).ok().and_then(Timestamp::parse),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_table_is_ours_only_with_both_of_our_columns() {
        let by_original = |columns: &[(&str, &str, i64)]| {
            let columns = columns.iter().map(|(name, kind, digits)| (name.to_string(), kind.to_string(), *digits));
            identity(&[], columns.collect()).made_by_original
        };
        assert!(!by_original(&[("seq", "bigint", 0), ("leader_ts", "datetime", 6)]));
        assert!(by_original(&[("seq", "int", 0), ("leader_ts", "datetime", 0)]));
        assert!(by_original(&[("seq", "bigint", 0), ("leader_ts", "datetime", 0)]));
        assert!(by_original(&[("seq", "int", 0), ("leader_ts", "datetime", 6)]));
        assert!(by_original(&[]));
    }
}
