//! What SQLite's errors mean to those who write. The only place that knows.

use rusqlite::ErrorCode;

use crate::ctldb::CtldbError;

impl From<rusqlite::Error> for CtldbError {
    fn from(error: rusqlite::Error) -> Self {
        let reason = reason(&error);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Contention(reason),
            Some(ErrorCode::DiskFull) => Self::Unavailable(reason),
            Some(ErrorCode::TooBig) => Self::Refused(reason),
            // The one limit of a table that has no code of its own.
            _ if reason.starts_with("too many columns") => Self::Refused(reason),
            _ => Self::Failed(reason),
        }
    }
}

/// SQLite's own words, without the statement's text that rusqlite adds.
pub(super) fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
