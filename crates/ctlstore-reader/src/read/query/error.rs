//! Why a query gave no answer, told apart by what its sender can do about it.

use std::time::Duration;

use rusqlite::{Error, ErrorCode, ffi};

use super::super::error::ReadError;

/// What can go wrong with a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// SQLite's own words; they repeat what was sent.
    #[error("{0}")]
    Sql(String),
    #[error("params: {0}")]
    Parameters(String),
    #[error("limit must be at most {max}")]
    Limit { max: u64 },
    #[error("column {column:?} holds an infinite number, which json can't say")]
    Infinite { column: String },
    /// `0`: what it wanted to do.
    #[error("a query may not {0}")]
    NotAllowed(String),
    #[error("the sql has more than {max} bytes")]
    SqlTooLong { max: usize },
    #[error("the query gives more than {max} rows; ask for some of them with limit")]
    TooManyRows { max: u64 },
    #[error("the answer has more than {max} bytes")]
    TooManyBytes { max: usize },
    /// `is_of_its_steps`: a query with fewer operations for each row may meet longer ones.
    #[error(
        "a value or row within the query has more than {max} bytes{}",
        if *is_of_its_steps { ", which is the most for so many operations on each row" } else { "" }
    )]
    ValueTooLong { max: usize, is_of_its_steps: bool },
    #[error("the query takes longer than {} ms", max.as_millis())]
    TooLong { max: Duration },
    #[error("the query needs more than {max} bytes of memory")]
    TooMuchMemory { max: usize },
    /// Nobody waits for the answer any more.
    #[error("the query was given up")]
    Cancelled,
    /// The LDB's fault, not the query's.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A failure of SQLite while it had the query in hand; what a limit of ours caused has
/// been told apart before.
pub(super) fn of_sqlite(error: Error) -> QueryError {
    match error {
        Error::MultipleStatement => return QueryError::Sql("one statement at a time".to_owned()),
        Error::SqlInputError { msg, offset, .. } if offset >= 0 => {
            return QueryError::Sql(format!("{msg} (at byte {offset} of the sql)"));
        }
        Error::SqlInputError { msg, .. } => return QueryError::Sql(msg),
        _ => {}
    }
    let Some(failure) = error.sqlite_error() else { return QueryError::Sql(error.to_string()) };
    match failure.code {
        ErrorCode::Unknown
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::AuthorizationForStatementDenied
        | ErrorCode::ConstraintViolation
        | ErrorCode::ReadOnly
        | ErrorCode::ApiMisuse => QueryError::Sql(error.to_string()),
        _ => QueryError::Read(error.into()),
    }
}

/// Whether it says that an allocation failed.
pub(super) fn is_of_memory(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        failure.code == ErrorCode::OutOfMemory || failure.extended_code == ffi::SQLITE_IOERR_NOMEM
    })
}
