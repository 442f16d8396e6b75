//! Whether the row that an LDB or a snapshot applied last is still the ledger's. A restored
//! ctldb has the same ledger id and gives seqs again, so id and seq alone do not tell.
//! [`HistoryCheck`] lets blocking code ask whoever has the ledger at hand; it knows no source.

use std::fmt;
use std::sync::Arc;

use super::follow::LdbPosition;

/// What the ledger has where a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRow {
    /// The same row, as far as its time tells, or it was pruned.
    Same,
    /// Another row has this seq.
    Other,
    /// No row has this seq, though there are rows before it, or the ledger ends before it.
    Missing,
    /// The ledger could not be asked.
    Unknown,
}

/// Asks about the last row of a copy. Blocks until the answer comes.
#[derive(Clone)]
pub struct HistoryCheck(Arc<dyn Fn(&LdbPosition) -> LastRow + Send + Sync>);

impl HistoryCheck {
    pub fn new(ask: impl Fn(&LdbPosition) -> LastRow + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// # Panics
    /// On a thread that runs asynchronous tasks, if the asker waits for one of them.
    pub fn ask(&self, position: &LdbPosition) -> LastRow {
        (self.0)(position)
    }
}

impl fmt::Debug for HistoryCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HistoryCheck")
    }
}
