//! Where ledger rows come from. The ctldb is one source; others may follow.

use super::follow::LedgerInfo;
use super::row::{LedgerRow, Seq};

/// How much one read may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimit {
    pub rows: usize,
    /// Bytes of statements. The row that passes it is still part of the block.
    pub bytes: usize,
}

/// Rows in seq order, as one read found them. May be empty.
#[derive(Debug, Default)]
pub struct Block {
    pub rows: Vec<LedgerRow>,
    /// Whether nothing stood behind these rows when they were read.
    pub at_end: bool,
}

/// Why a source could not be read. All of these may pass by themselves.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    #[error("ctldb is not available: {0}")]
    Unavailable(String),
    #[error("ctldb has no ledger table {0}")]
    NoLedger(String),
    #[error("ledger row {seq}: {reason}")]
    BadRow { seq: Seq, reason: String },
    #[error("{0}")]
    Failed(String),
}

/// How far a source is that is a copy of another server's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// It has all that its primary has, as far as it knows.
    CaughtUp,
    Behind,
    Stopped,
    /// It takes no writes, and does not tell more.
    Unknown,
}

/// A ledger that can be read from any seq on.
#[allow(async_fn_in_trait)] // its readers are actors, which live on one thread
pub trait LedgerSource {
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError>;

    /// The rows with a seq above `after` and, where given, up to `up_to`.
    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError>;

    /// How far the source is behind the server that it copies; `None` where it is no copy.
    async fn replication(&mut self) -> Option<Replication> {
        None
    }

    /// Closes what is open. A source that is read again opens it anew.
    async fn close(&mut self);
}
