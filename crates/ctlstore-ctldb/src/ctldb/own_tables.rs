//! What all backends know of the ctldb's own tables: the ledger table's name, the names in
//! `ctlstore_meta`, the format version, and the columns that must exist. Entry point: [`LedgerTable`].
//! The module runs no SQL.

use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::quoted;

use super::error::CtldbError;

/// The ledger table's name, which the settings may change. As it comes from outside, it is checked: 1 to 64
/// of `a-z A-Z 0-9 _`, and no digit first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTable(String);

/// The other tables of a ctldb that have no family.
const OTHER_TABLES: [&str; 9] = [
    "families",
    "mutators",
    "locks",
    "max_table_sizes",
    "max_writer_rates",
    "writer_usage",
    "ctlstore_meta",
    "ctlstore_ddl_intent",
    "ctlstore_table_definition",
];

impl LedgerTable {
    pub fn new(name: &str) -> Result<Self, CtldbError> {
        let refused = |reason| CtldbError::Schema(format!("{name:?} can't be the ledger table's name: {reason}"));
        Self::check(name).map(|()| Self(name.to_owned())).map_err(refused)
    }

    /// # Errors
    /// Why the ledger's table can't have this name.
    pub fn check(name: &str) -> Result<(), &'static str> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
            return Err("not a letter followed by at most 63 letters, digits and underscores");
        }
        let lower = name.to_ascii_lowercase();
        if OTHER_TABLES.contains(&lower.as_str()) {
            return Err("the name of another table of the ctldb");
        }
        if lower.starts_with("sqlite_") || lower.contains("___") {
            return Err("begins with sqlite_, or has three underscores as a family's table has");
        }
        Ok(())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sql` with the quoted name in place of each `{ledger}`.
    pub(super) fn fill(&self, sql: &str) -> String {
        sql.replace("{ledger}", &quoted(&self.0))
    }
}

impl Default for LedgerTable {
    /// The protocol's name.
    fn default() -> Self {
        Self("ctlstore_dml_ledger".to_owned())
    }
}

pub(super) const FORMAT_VERSION: &str = "format_version";
pub(super) const LEDGER_ID: &str = "ledger_id";
pub(super) const LOW_WATER_SEQ: &str = "low_water_seq";

/// The layout of our own tables that this program writes.
pub(super) const OUR_FORMAT: u32 = 1;

/// Each of these queries fails if a table or column that we use is missing.
pub(super) const SCHEMA_PROBES: [&str; 7] = [
    "SELECT id, name FROM families WHERE 1 = 0",
    "SELECT writer, secret, cookie, clock FROM mutators WHERE 1 = 0",
    "SELECT seq, leader_ts, statement FROM {ledger} WHERE 1 = 0",
    "SELECT id, clock FROM locks WHERE 1 = 0",
    "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE 1 = 0",
    "SELECT writer_name, max_rows_per_minute FROM max_writer_rates WHERE 1 = 0",
    "SELECT writer_name, bucket, amount FROM writer_usage WHERE 1 = 0",
];

/// Fails for a ctldb that a newer program has written. This program must not change it.
pub(super) fn check_format(stored: &str) -> Result<(), CtldbError> {
    match stored.parse::<u32>() {
        Ok(version) if version <= OUR_FORMAT => Ok(()),
        _ => Err(CtldbError::Schema(format!("format version {stored} is newer than this program's, {OUR_FORMAT}"))),
    }
}

/// Fails unless `rows` more rows after the ledger's row `last` can have a seq.
pub(super) fn check_seqs_left(last: Seq, rows: usize) -> Result<(), CtldbError> {
    let left = Seq::LAST.0.saturating_sub(last.0);
    if usize::try_from(left).is_ok_and(|left| left >= rows) {
        return Ok(());
    }
    let reason = format!("the ledger's last row has seq {last}, behind which no seqs are left; correct that row");
    Err(CtldbError::NotWritable(reason))
}

/// The error if the lock row is missing. To go on would mean to write without the lock.
pub(super) fn no_lock_row() -> CtldbError {
    CtldbError::Schema("table locks has no row 'ledger'".to_owned())
}
