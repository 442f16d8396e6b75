//! Maps SQLite's errors to [`CtldbError`], for everything that writes the ctldb. `source` maps those of
//! reading the ledger.

use rusqlite::{ErrorCode, ffi};

use crate::ctldb::error::CtldbError;
use ctlstore_core::disk::too_many_open_files;

impl From<rusqlite::Error> for CtldbError {
    fn from(error: rusqlite::Error) -> Self {
        let reason = reason(&error);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Contention(reason),
            Some(ErrorCode::CannotOpen) if let Some(why) = too_many_open_files() => Self::Unavailable(why.to_string()),
            // After a failed flush the commit's last frame may be in the log. All other I/O errors come before that.
            Some(ErrorCode::SystemIoFailure) if is_flush(&error) => Self::OutcomeUnknown(reason),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::AuthorizationForStatementDenied,
            ) => Self::NotWritable(reason),
            Some(ErrorCode::TooBig) => Self::Refused(reason),
            // The only limit of a table without a code of its own.
            _ if reason.starts_with("too many columns") => Self::Refused(reason),
            _ => Self::Failed(reason),
        }
    }
}

fn is_flush(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    matches!(code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
}

/// SQLite's own message, without the SQL that rusqlite adds.
pub(super) fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
