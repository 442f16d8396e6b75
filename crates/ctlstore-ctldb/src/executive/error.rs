//! Why a request was not done. [`Refusal`] has a variant for each mistake of a client, [`ExecutiveError`]
//! adds everything else. The node's `http/error.rs` maps both to statuses.

use crate::ctldb::CtldbError;
use ctlstore_core::schema::{
    FamilyName, FieldName, HeaderTextError, NameError, TableError, TableRef, ValueError, WriterName,
};

use super::limits::{MAX_COOKIE_BYTES, MAX_MUTATIONS, MAX_SECRET_BYTES, MAX_STATEMENT_BYTES, MIN_SECRET_BYTES};

/// A mistake that the client has to correct. The message names the field or value at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // The request itself is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("table {0} is named twice")]
    TableTwice(TableRef),
    #[error("table {0}: no field is given")]
    NoFields(TableRef),
    #[error("table {table}: field {field} is given twice")]
    FieldTwice { table: String, field: String },
    #[error("table {table} has no field {field}")]
    UnknownField { table: TableRef, field: String },
    #[error("table {table}: field {field} is missing")]
    MissingField { table: TableRef, field: FieldName },
    #[error("table {table}: field {field}: {reason}")]
    BadValue { table: TableRef, field: FieldName, reason: ValueError },
    #[error("table {table}: field {field}: this ctldb can't tell a key that ends in a space from one that does not")]
    PaddedKey { table: TableRef, field: FieldName },
    #[error("table {table}: the statement has {bytes} bytes, at most {MAX_STATEMENT_BYTES} fit")]
    StatementTooLarge { table: TableRef, bytes: usize },
    #[error("no mutations")]
    NoMutations,
    #[error("{0} mutations, at most {MAX_MUTATIONS} fit in a request")]
    TooManyMutations(usize),
    #[error("the cookie has {0} bytes, at most {MAX_COOKIE_BYTES} fit")]
    CookieTooLong(usize),
    #[error("the secret has {0} bytes, it must have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}")]
    SecretLength(usize),
    #[error("the secret {0}")]
    SecretText(HeaderTextError),
    #[error("table {table}: field {field} has a name that innodb keeps for itself")]
    ReservedField { table: TableRef, field: FieldName },
    #[error("limit: {0}")]
    BadLimit(String),
    #[error("destructive schema changes are not enabled; executive.destructive_schema_changes turns them on")]
    DestructiveChangesOff,
    /// The database can't hold the data, such as a row or key that is too large.
    #[error("the ctldb can't hold this: {0}")]
    ByCtldb(String),

    // The credentials are wrong.
    #[error("unknown writer or wrong secret")]
    Unauthorized,
    #[error("unknown writer or wrong secret")]
    NoSuchCredentials,

    // Something does not exist.
    #[error("no family {0}")]
    NoFamily(FamilyName),
    #[error("no table {0}")]
    NoTable(TableRef),
    #[error("no writer {:?}", .0.as_str())]
    NoWriter(WriterName),
    #[error("no limit for table {0}")]
    NoTableLimit(TableRef),
    #[error("no limit for writer {0:?}")]
    NoWriterLimit(String),

    // Something exists already, or has another value.
    #[error("family {0} exists")]
    FamilyExists(FamilyName),
    #[error("table {0} exists")]
    TableExists(TableRef),
    #[error("table {table} has a field {field} already")]
    FieldExists { table: TableRef, field: FieldName },
    #[error("writer {:?} exists with another secret", .0.as_str())]
    WriterExists(WriterName),
    #[error("check_cookie is not the stored cookie")]
    CookieMismatch,
    #[error("table {table}: the ctldb takes key {given} for the stored key {stored}, which an ldb does not")]
    MergedKeys { table: TableRef, given: String, stored: String },

    /// The table is not as the ledger defines it. An operator changed it by hand.
    #[error("table {table} was changed by hand: {reason}; `ctlstore doctor` tells how to mend it")]
    ChangedByHand { table: TableRef, reason: String },

    // A limit is passed.
    #[error(
        "{rows} rows in one request can never pass: writer {:?} is limited to {limit} rows in {period_seconds} s",
        .writer.as_str()
    )]
    NeverWithinLimit { writer: WriterName, rows: i64, limit: i64, period_seconds: i64 },
    /// Waiting helps nothing: an operator stopped it.
    #[error("writer {:?} is stopped: its limit is {limit} rows; raise it with POST /limits/writers", .writer.as_str())]
    WriterStopped { writer: WriterName, limit: i64 },
    #[error("writer {:?} is over its limit of {limit} rows in {period_seconds} s", .writer.as_str())]
    RateLimited { writer: WriterName, limit: i64, period_seconds: i64, retry_after_seconds: u64 },
    #[error("table {table} has {bytes} bytes, its maximum is {max_bytes}")]
    TableFull { table: TableRef, bytes: u64, max_bytes: i64 },
}

/// Why a request was not done, or only a part of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecutiveError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Ctldb(#[from] CtldbError),
    /// A request of several steps stopped at one of them. The steps before it stay done.
    #[error("{cause}; done: {}; not done: {}", listed(.done), listed(.not_done))]
    Stopped { cause: Box<ExecutiveError>, done: Vec<String>, not_done: Vec<String> },
    /// The executive can't take the request now. Nothing was written.
    #[error("{0}")]
    NotServing(String),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl ExecutiveError {
    /// Adds how far a request of several steps got: step `at` of `steps` failed. For a request of one step
    /// it is the error itself.
    pub(super) fn at_step(self, steps: &[String], at: usize) -> Self {
        if steps.len() < 2 {
            return self;
        }
        Self::Stopped { cause: Box::new(self), done: steps[..at].to_vec(), not_done: steps[at..].to_vec() }
    }
}
