//! Why a query failed. Entry point: [`QueryError`], with one variant for each thing that the client can
//! do about it.

use std::time::Duration;

use rusqlite::{Error, ErrorCode, ffi};

use super::super::error::ReadError;

/// The error of a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// SQLite's own words. They repeat parts of the SQL.
    #[error("{0}")]
    Sql(String),
    #[error("params: {0}")]
    Parameters(String),
    #[error("limit must be at most {max}")]
    Limit { max: u64 },
    #[error("column {column:?} holds an infinite number, which json can't say")]
    Infinite { column: String },
    /// The refused action, such as `call load_extension`.
    #[error("a query may not {0}")]
    NotAllowed(String),
    #[error("the sql has more than {max} bytes")]
    SqlTooLong { max: usize },
    #[error("the query gives more than {max} rows; ask for some of them with limit")]
    TooManyRows { max: u64 },
    #[error("the answer has more than {max} bytes")]
    TooManyBytes { max: usize },
    /// `is_of_its_steps` says that a query with fewer operations for each row may read longer values.
    #[error(
        "a value or row within the query has more than {max} bytes{}",
        if *is_of_its_steps { ", which is the most for so many operations on each row" } else { "" }
    )]
    ValueTooLong { max: usize, is_of_its_steps: bool },
    #[error("the query takes longer than {} ms", max.as_millis())]
    TooLong { max: Duration },
    #[error("the query needs more than {max} bytes of memory")]
    TooMuchMemory { max: usize },
    /// The client is gone.
    #[error("the query was given up")]
    Cancelled,
    /// The fault is the LDB's and not the query's.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The error of a query that SQLite has failed. The caller has checked before that none of the
/// query's limits is the cause.
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

/// Whether SQLite says that it got no memory.
pub(super) fn is_of_memory(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        failure.code == ErrorCode::OutOfMemory || failure.extended_code == ffi::SQLITE_IOERR_NOMEM
    })
}
