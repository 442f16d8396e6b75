//! Why there is no new snapshot. What was published before stands in every case.

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
    /// Nothing has been applied yet.
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
    /// By whom, such as `pid 4711`.
    #[error("snapshots at {} are published by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    /// A ctldb that was restored from a backup, or a host that has fallen behind another.
    #[error("the snapshot at {destination} is at seq {published}, which this one at seq {taken} would undo")]
    Older { destination: String, published: Seq, taken: Seq },
    #[error("the snapshot at {destination} is of ledger {published}, this one is of {taken}")]
    OtherLedger { destination: String, published: String, taken: String },
    /// A ctldb that lost its data, or a bug; whoever means it removes what is there.
    #[error("the snapshot at {destination} has rows, this one at seq {taken} has none at all")]
    Emptied { destination: String, taken: Seq },
    /// Left by a newer version of this program.
    #[error("{destination}: {source}")]
    Manifest { destination: String, source: ManifestError },
    /// What lies there without a good manifest may be worth more than ours.
    #[error("what is at {destination} can't be told: {reason}")]
    Unknown { destination: String, reason: Box<BadSnapshot> },
    /// Only what was published is ever replaced.
    #[error("{destination}: {what}, and is not written over; move it away or name another key")]
    Foreign { destination: String, what: String },
    /// What another destination of the same round was told, in full.
    #[error("{0}")]
    NoCopy(String),
    #[error(transparent)]
    Store(StoreError),
    #[error("the snapshot was aborted")]
    Aborted,
}

impl SnapshotError {
    /// Whether the snapshot itself was found bad, and so went nowhere. True once in a
    /// round, however many destinations wait for it.
    pub fn is_failed_check(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Copy { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }

    /// Whether it may work elsewhere: it is the place that is at fault, and not the LDB.
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

/// Of looking at what a destination has.
impl From<FetchError> for SnapshotError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Bad { url, reason } => Self::Unknown { destination: url, reason },
            FetchError::NotFound(error)
            | FetchError::Unavailable(error)
            | FetchError::Changed(error)
            | FetchError::Refused(error) => error.into(),
            FetchError::DiskFull { path, .. } | FetchError::NoRoom { path, .. } => Self::DiskFull(path),
            FetchError::Io { doing, path, source } => Self::Io { doing, path, source },
            FetchError::Aborted => Self::Aborted,
        }
    }
}
