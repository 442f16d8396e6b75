//! The failures of the LDB. The variants differ in what its owner can do about them. One
//! place turns SQLite's codes into variants; no text carries a value.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ffi::{self, ErrorCode};

use ctlstore_core::disk::too_many_open_files;
use ctlstore_core::ledger::Seq;

/// A failure of the LDB as a file or a database. [`DiskFull`](Self::DiskFull),
/// [`Busy`](Self::Busy) and [`Io`](Self::Io) can end without help. The others need a person.
#[derive(Debug, thiserror::Error)]
pub enum LdbError {
    #[error("ldb {path} is held by another applier ({holder})")]
    Locked { path: PathBuf, holder: String },
    #[error("versions in {path} are fetched by another process ({holder})")]
    VersionsClaimed { path: PathBuf, holder: String },
    #[error("ldb {path} is on a network filesystem ({kind}), where a write-ahead log is not safe")]
    NetworkFilesystem { path: PathBuf, kind: &'static str },
    /// It is another program's file, which stays as it is.
    #[error("{path} is not an ldb but {what}; name another file in ldb.path, or move this one away")]
    NotAnLdb { path: PathBuf, what: String },
    #[error("ldb {path} has format version {found}, this program knows versions up to {known}")]
    NewerFormat { path: PathBuf, found: String, known: u32 },
    #[error("sqlite {found} is older than {wanted}, which has a fix that the ldb needs")]
    SqliteTooOld { found: &'static str, wanted: &'static str },
    #[error("ldb {path} follows ledger {ldb}, not {other}")]
    OtherLedger { path: PathBuf, ldb: String, other: String },
    /// Rows are missing between the two, because another file has replaced the LDB meanwhile.
    #[error("ldb {path} is at seq {at}, the batch follows {follows}")]
    Behind { path: PathBuf, at: Seq, follows: Seq },
    /// The batch was rolled back, and is applied again after the next start.
    #[error("stopped at ledger row {seq}, which is applied again after the next start")]
    Stopped { seq: Seq },
    #[error("no space left for ldb {path} while {action}")]
    DiskFull { path: PathBuf, action: &'static str },
    #[error("{path} was deleted or replaced while the applier had it open")]
    Removed { path: PathBuf },
    /// Only the applier still has what the WAL held.
    #[error("{path} was deleted or replaced while the applier had it open")]
    WalRemoved { path: PathBuf },
    #[error("ldb {path} is damaged: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error("ldb {path} is locked by another program while {action}")]
    Busy { path: PathBuf, action: &'static str },
    #[error("{path} failed while {action}: {source}")]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("ldb {path} failed while {action}: {reason}")]
    Sqlite { path: PathBuf, action: &'static str, reason: String },
}

impl LdbError {
    /// An error of the filesystem. A full disk has a variant of its own.
    pub(super) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, action },
            _ => Self::Io { path, action, source },
        }
    }

    /// An error of SQLite on the database at `path`.
    pub(super) fn sqlite(path: &Path, action: &'static str, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let reason = error.to_string();
        let Some(code) = error.sqlite_error() else { return Self::Sqlite { path, action, reason } };
        match code.code {
            ErrorCode::DiskFull => Self::DiskFull { path, action },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { path, action },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt { path, reason },
            // A failure to map or extend a file is most often a lack of space.
            ErrorCode::SystemIoFailure if has_no_room(code.extended_code) => Self::DiskFull { path, action },
            ErrorCode::CannotOpen if let Some(source) = too_many_open_files() => Self::Io { path, action, source },
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                Self::Io { path, action, source: io::Error::other(reason) }
            }
            _ => Self::Sqlite { path, action, reason },
        }
    }

    /// Whether the file is no database, or a damaged one. Only another file helps.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Whether the same call may succeed later without help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Busy { .. } | Self::Io { .. })
    }
}

/// Whether the code means a full disk. SQLite extends the memory-mapped index of the WAL
/// without its usual check, and reports this code then.
fn has_no_room(extended: i32) -> bool {
    extended == ffi::SQLITE_IOERR_SHMSIZE
}

/// Whether `error` is the statement's own fault, so that the statement would fail on any host.
pub(super) fn is_statements_fault(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::Unknown
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::AuthorizationForStatementDenied
                | ErrorCode::ParameterOutOfRange
        ),
        // rusqlite's own refusals, such as a wrong number of parameters.
        None => true,
    }
}
