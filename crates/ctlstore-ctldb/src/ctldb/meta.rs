//! What is the same in the bookkeeping of every ctldb: the names in `ctlstore_meta`,
//! our format version, and the columns that a schema must have whoever made it.

use ctlstore_core::ledger::Seq;

use super::CtldbError;

pub(super) const FORMAT_VERSION: &str = "format_version";
pub(super) const LEDGER_ID: &str = "ledger_id";
pub(super) const LOW_WATER_SEQ: &str = "low_water_seq";

/// The layout of our own tables that this program writes.
pub(super) const OUR_FORMAT: u32 = 1;

/// Each fails where a table or column that we use is missing.
pub(super) const SCHEMA_PROBES: [&str; 7] = [
    "SELECT id, name FROM families WHERE 1 = 0",
    "SELECT writer, secret, cookie, clock FROM mutators WHERE 1 = 0",
    "SELECT seq, leader_ts, statement FROM {ledger} WHERE 1 = 0",
    "SELECT id, clock FROM locks WHERE 1 = 0",
    "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE 1 = 0",
    "SELECT writer_name, max_rows_per_minute FROM max_writer_rates WHERE 1 = 0",
    "SELECT writer_name, bucket, amount FROM writer_usage WHERE 1 = 0",
];

/// A ctldb that a newer program has written is not ours to touch.
pub(super) fn check_format(stored: &str) -> Result<(), CtldbError> {
    match stored.parse::<u32>() {
        Ok(version) if version <= OUR_FORMAT => Ok(()),
        _ => Err(CtldbError::Schema(format!("format version {stored} is newer than this program's, {OUR_FORMAT}"))),
    }
}

/// Where `last` is the ledger's last row, so many rows behind it must have a seq.
pub(super) fn check_seqs_left(last: Seq, rows: usize) -> Result<(), CtldbError> {
    let left = Seq::LAST.0.saturating_sub(last.0);
    if usize::try_from(left).is_ok_and(|left| left >= rows) {
        return Ok(());
    }
    let reason = format!("the ledger's last row has seq {last}, behind which no seqs are left; correct that row");
    Err(CtldbError::NotWritable(reason))
}

/// The lock row is gone: going on would be writing without the lock.
pub(super) fn no_lock_row() -> CtldbError {
    CtldbError::Schema("table locks has no row 'ledger'".to_owned())
}
