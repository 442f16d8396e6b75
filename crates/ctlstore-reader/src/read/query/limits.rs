//! The bounds of a query. Those in [`QueryLimits`] are settings; the others are constants.

use std::time::Duration;

/// The longest SQL, in bytes.
pub(super) const MAX_SQL_BYTES: usize = 64 * 1024;

/// The longest value or row that a query may read or make, in bytes. No row of the ledger is
/// longer: its statement has at most 768 KiB.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// The bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    pub max_rows: u64,
    /// The most bytes of the answer.
    pub max_bytes: usize,
    pub max_time: Duration,
    /// The most bytes that SQLite may allocate for the query: values, sorters, intermediate tables
    /// and the statement itself.
    pub max_memory_bytes: usize,
}
