//! Why there is no new snapshot. The published one stays in every case.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use ctlstore_core::Aborted;
use ctlstore_core::disk::too_many_open_files;
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::ReadError;

use super::fetch::{BadSnapshot, FetchError};
use super::manifest::ManifestError;
use super::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Ldb(ReadError),
    /// No batch has been applied yet.
    #[error("ldb {} holds nothing yet", .0.display())]
    Empty(PathBuf),
    #[error("copy the ldb to {}: {source}", path.display())]
    Copy { path: PathBuf, source: rusqlite::Error },
    /// The copy failed its check.
    #[error("the copy of the ldb at {} is damaged: {report}", path.display())]
    Damaged { path: PathBuf, report: String },
    #[error("no room for a snapshot at {}", .0.display())]
    DiskFull(PathBuf),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// `holder` is the process, such as `pid 4711`.
    #[error("snapshots at {} are published by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    /// The ctldb was restored from a backup, or this host lags more than another publisher.
    #[error("the snapshot at {destination} is at seq {published}, which this one at seq {taken} would undo")]
    Older { destination: String, published: Seq, taken: Seq },
    #[error("the snapshot at {destination} is of ledger {published}, this one is of {taken}")]
    OtherLedger { destination: String, published: String, taken: String },
    /// The ctldb lost its data, or there is a bug. To publish anyway, remove what is there.
    #[error("the snapshot at {destination} has rows, this one at seq {taken} has none at all")]
    Emptied { destination: String, taken: Seq },
    /// A newer version of this program left the manifest.
    #[error("{destination}: {source}")]
    Manifest { destination: String, source: ManifestError },
    /// The object without a good manifest may be worth more than our snapshot.
    #[error("what is at {destination} can't be told: {reason}")]
    Unknown { destination: String, reason: Box<BadSnapshot> },
    /// Only snapshots are ever replaced.
    #[error("{destination}: {what}, and is not written over; move it away or name another key")]
    Foreign { destination: String, what: String },
    /// The full error that another destination of the same round got.
    #[error("{0}")]
    NoCopy(String),
    #[error(transparent)]
    Store(StoreError),
    #[error("the snapshot was aborted")]
    Aborted,
}

impl SnapshotError {
    /// Whether the snapshot itself was found bad, and so went nowhere. True once in a round,
    /// however many destinations wait for it.
    pub fn is_failed_check(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Copy { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }

    /// Whether it may work elsewhere, because the place is at fault and not the LDB.
    pub(super) fn is_of_the_place(&self) -> bool {
        match self {
            Self::DiskFull(_) | Self::Io { .. } => true,
            Self::Copy { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure))
            }
            _ => false,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    pub(super) fn copy(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(path.to_owned()),
            Some(ErrorCode::OperationInterrupted) => Self::Aborted,
            Some(ErrorCode::CannotOpen) if let Some(source) = too_many_open_files() => {
                Self::Io { doing: "open", path: path.to_owned(), source }
            }
            _ => Self::Copy { path: path.to_owned(), source },
        }
    }
}

impl From<Aborted> for SnapshotError {
    fn from(_: Aborted) -> Self {
        Self::Aborted
    }
}

impl From<StoreError> for SnapshotError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Aborted => Self::Aborted,
            StoreError::DiskFull(path) => Self::DiskFull(path),
            StoreError::Io { doing, path, source } => Self::Io { doing, path, source },
            error => Self::Store(error),
        }
    }
}

/// The errors of reading what a destination has.
impl From<FetchError> for SnapshotError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Bad { url, reason } => Self::Unknown { destination: url, reason },
            FetchError::NotFound(error)
            | FetchError::Unavailable(error)
            | FetchError::Changed(error)
            | FetchError::Refused(error) => error.into(),
            FetchError::LostHistory { published, .. } => (*published).into(),
            FetchError::DiskFull { path, .. } | FetchError::NoRoom { path, .. } => Self::DiskFull(path),
            FetchError::Io { doing, path, source } => Self::Io { doing, path, source },
            FetchError::Aborted => Self::Aborted,
        }
    }
}
