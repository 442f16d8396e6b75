//! [`CtldbError`]: why a ctldb did not do what was asked. A mistake of the client is no `CtldbError` but a
//! `Refusal` of the executive, unless only the database finds it ([`CtldbError::Refused`]).

use ctlstore_core::schema::TableRef;

/// Why the ctldb did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CtldbError {
    /// Not reachable, or busy past the deadline. Nothing was written.
    #[error("ctldb is not available: {0}")]
    Unavailable(String),
    /// A deadlock or lock-wait time-out ended the transaction, or its turn never came. Nothing was written.
    #[error("ctldb is busy: {0}")]
    Contention(String),
    /// The answer to a commit was lost and could not be looked up either.
    #[error("the outcome of the write is unknown: {0}")]
    OutcomeUnknown(String),
    /// The ctldb can't hold the data, such as a row or key that is too large. The client has to change it.
    #[error("{0}")]
    Refused(String),
    /// The server answered that it takes no writes: it is read-only or full, or a right is missing. Nothing was
    /// written.
    #[error("ctldb takes no writes: {0}")]
    NotWritable(String),
    /// One table is not as the ledger defines it. Nothing was written.
    #[error("table {table} was changed by hand: {reason}; `ctlstore doctor` tells how to mend it")]
    ChangedByHand { table: TableRef, reason: String },
    /// The schema in the ctldb is newer than this program, or a part of it is missing.
    #[error("ctldb schema: {0}")]
    Schema(String),
    #[error("ctldb: {0}")]
    Failed(String),
}
