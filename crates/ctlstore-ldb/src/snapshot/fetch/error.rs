//! Why a snapshot could not be fetched. The variants differ in what the caller can do about them.

use std::io;
use std::path::{Path, PathBuf};

use ctlstore_core::ledger::{CannotFollow, LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;

use crate::snapshot::store::StoreError;

/// The fault of a snapshot that was downloaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BadSnapshot {
    #[error("is no sqlite database")]
    NotADatabase,
    #[error("is no ldb: it lacks the table _ldb_seq or _ldb_last_update")]
    NotAnLdb,
    /// It has a trigger or a view that could change or replace rows without the ledger.
    #[error("has a {0}, which no ledger makes; drop it in the ldb that the snapshot was taken of")]
    Foreign(String),
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Its bytes or rows are not those that its manifest or checksum says.
    #[error("does not match: {0}")]
    Mismatch(String),
    #[error("has {what} format version {found}, this program knows versions up to {known}")]
    NewerFormat { what: &'static str, found: String, known: u32 },
    /// It grows more than a snapshot without a manifest may.
    #[error(
        "is refused: {stored} bytes of it have become {bytes}, more than {max_expansion} times as many, and no \
         manifest says that this is right"
    )]
    TooLarge { bytes: u64, stored: u64, max_expansion: u64 },
    #[error("is of no use here: {reason}")]
    Unwanted { position: LdbPosition, reason: Unwanted },
    /// The disk failed, not the snapshot.
    #[error("can't be read back: {0}")]
    Io(String),
    #[error("is not had: the download was aborted")]
    Aborted,
}

impl BadSnapshot {
    /// Whether no host could start from it, with this program or another.
    pub(in crate::snapshot) fn is_useless(&self) -> bool {
        matches!(
            self,
            Self::NotADatabase
                | Self::NotAnLdb
                | Self::Foreign(_)
                | Self::Damaged(_)
                | Self::Mismatch(_)
                | Self::TooLarge { .. }
        )
    }
}

/// Why a sound snapshot is not what was wanted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unwanted {
    #[error("it is of ledger {found}, not {wanted}")]
    OtherLedger { found: String, wanted: String },
    #[error("it is at seq {found}, wanted is {wanted} or a later one")]
    Behind { found: Seq, wanted: Seq },
    #[error("{0}; {REMOVE_IT}")]
    CannotFollow(#[from] CannotFollow),
    /// A restored ctldb has given the seq to another row, or has no such row.
    #[error(
        "its last row {seq} of {} is not the ledger's: the ctldb was restored from an older backup, or is another one; \
         {REMOVE_IT}",
        at.map_or_else(|| "unknown time".to_owned(), |at| at.to_string())
    )]
    OtherHistory { seq: Seq, at: Option<Timestamp> },
}

/// The advice about a snapshot that does not belong to the ledger.
const REMOVE_IT: &str = "remove that snapshot, and publish one of a host that follows this ledger";

/// Why no snapshot was fetched. No file is left at the path that it was for.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The place answers, and has no snapshot.
    #[error("{0}")]
    NotFound(StoreError),
    /// The place can't be reached, or breaks off again and again.
    #[error("{0}")]
    Unavailable(StoreError),
    /// The place refuses, or can't do what is asked.
    #[error("{0}")]
    Refused(StoreError),
    /// A publisher replaced it while it was read. The next try gets the new one.
    #[error("{0}")]
    Changed(StoreError),
    #[error("the snapshot at {url} {reason}")]
    Bad { url: String, reason: Box<BadSnapshot> },
    /// The published snapshot is of a history that the ledger lost, and no kept one serves either.
    #[error("{published}; {}", kept.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    LostHistory { published: Box<FetchError>, kept: Vec<FetchError> },
    #[error("no room for the snapshot at {}: {}", path.display(), needed(*.wanted, *.free))]
    DiskFull { path: PathBuf, wanted: Option<u64>, free: Option<u64> },
    /// The disk is full, and the snapshot's size was not known before.
    #[error("no room for the snapshot at {}: it has more than {more_than} bytes", path.display())]
    NoRoom { path: PathBuf, more_than: u64 },
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the download was aborted")]
    Aborted,
}

impl FetchError {
    pub(super) fn bad(url: &str) -> impl Fn(BadSnapshot) -> Self {
        move |reason| match reason {
            BadSnapshot::Aborted => Self::Aborted,
            reason => Self::Bad { url: url.to_owned(), reason: Box::new(reason) },
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), wanted: None, free: None }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// Whether the place answers, and has no snapshot.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether the published snapshot has rows that the ledger does not have, by their times.
    pub fn is_lost_history(&self) -> bool {
        match self {
            Self::LostHistory { .. } => true,
            Self::Bad { reason, .. } => {
                matches!(**reason, BadSnapshot::Unwanted { reason: Unwanted::OtherHistory { .. }, .. })
            }
            _ => false,
        }
    }

    /// Whether a publisher that replaced the snapshot meanwhile could be the cause.
    pub(super) fn may_be_a_race(&self) -> bool {
        match self {
            Self::NotFound(_) | Self::Changed(_) => true,
            Self::Bad { reason, .. } => {
                !matches!(**reason, BadSnapshot::Unwanted { .. } | BadSnapshot::TooLarge { .. } | BadSnapshot::Io(_))
            }
            _ => false,
        }
    }
}

impl From<StoreError> for FetchError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::NotFound(error),
            StoreError::Temporary { .. } => Self::Unavailable(error),
            StoreError::Changed { .. } => Self::Changed(error),
            StoreError::Denied { .. }
            | StoreError::Unsupported { .. }
            | StoreError::Misconfigured { .. }
            | StoreError::Panicked { .. }
            | StoreError::Other { .. } => Self::Refused(error),
            StoreError::DiskFull(path) => Self::DiskFull { path, wanted: None, free: None },
            StoreError::Io { doing, path, source } => Self::Io { doing, path, source },
            StoreError::Aborted => Self::Aborted,
        }
    }
}

impl From<io::Error> for BadSnapshot {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

fn needed(wanted: Option<u64>, free: Option<u64>) -> String {
    match (wanted, free) {
        (Some(wanted), Some(free)) => format!("{wanted} bytes are wanted, {free} are free"),
        _ => "the disk is full".to_owned(),
    }
}
