//! The trait of a place that ledger rows are read from, and the types of a read. Entry point:
//! [`LedgerSource`]. The ctldb is such a source.

use super::follow::LedgerInfo;
use super::row::{LedgerRow, Seq};

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimit {
    pub rows: usize,
    /// Bytes of statements. The row that reaches the limit still belongs to the block.
    pub bytes: usize,
}

/// The rows of one read, in seq order. It may be empty.
#[derive(Debug, Default)]
pub struct Block {
    pub rows: Vec<LedgerRow>,
    /// Whether these rows were the ledger's last ones when they were read.
    pub at_end: bool,
}

/// Why a source could not be read. Each of these may pass without help.
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

/// The state of a source that is a replica of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// It has all rows of its primary, as far as it knows.
    CaughtUp,
    Behind,
    Stopped,
    /// It takes no writes; its state can't be told.
    Unknown,
}

/// A ledger that can be read from any seq on.
#[allow(async_fn_in_trait)] // its users are actors, which live on one thread
pub trait LedgerSource {
    /// The facts that decide whether an LDB may follow this ledger.
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError>;

    /// The rows after `after`; if `up_to` is given, up to and with that one.
    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError>;

    /// Waits until no open transaction can commit a row between `after` and `up_to`, as far as the source can
    /// tell. A row that was written without the ledger lock may become visible before an earlier one.
    async fn settle(&mut self, _after: Seq, _up_to: Seq) -> Result<(), SourceError> {
        Ok(())
    }

    /// The source's state as a replica; `None` if it is no replica.
    async fn replication(&mut self) -> Option<Replication> {
        None
    }

    /// Closes connections. The next read opens them again.
    async fn close(&mut self);
}
