//! A row of the ledger table, and its number.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schema::Timestamp;

/// A ledger row's number: 1 for the first, growing, 0 for "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// Before the first ledger row.
    pub const ZERO: Seq = Seq(0);

    /// The last seq that an executive gives. Rows of others can have higher ones, behind which nothing can be written.
    pub const LAST: Seq = Seq(i64::MAX - 1);

    pub const fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    pub seq: Seq,
    /// When the executive wrote it, by the ctldb's clock; `None` where the column is NULL.
    pub leader_ts: Option<Timestamp>,
    pub statement: String,
}
