//! A row of the ledger table, and its number. Entry points: [`LedgerRow`] and [`Seq`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schema::Timestamp;

/// The number of a ledger row. The first row has 1, and each row a higher one than the row before. 0 stands
/// for "no row yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The number before the first ledger row.
    pub const ZERO: Seq = Seq(0);

    /// The highest seq that an executive gives to a row. A row of another program can have a higher
    /// one; no row can be written after that.
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
    /// When the executive wrote the row, by the ctldb's clock; `None` if the column is NULL.
    pub leader_ts: Option<Timestamp>,
    pub statement: String,
}
