//! How a command ends: the exit codes, and which error gets which. Entry points: [`Exit::of`], and
//! [`Failure`] for an error that has its exit code.

use crate::config::Problems;
use ctlstore_core::ledger::SourceError;
use ctlstore_ctldb::CtldbError;
use ctlstore_ctldb::executive::{PruneError, PruneRefusal};
use ctlstore_ldb::snapshot::fetch::FetchError;
use ctlstore_ldb::snapshot::{SnapshotError, StoreError};
use ctlstore_reader::read::ReadError;

use super::output::Closed;

/// The process's exit code after a failure; `ctlstore --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command was tried and failed.
    Failed = 1,
    /// The command line or the settings are wrong; nothing was tried. Clap ends with this code too.
    Usage = 2,
    /// A thing that was named is not there.
    Absent = 3,
    /// It is not allowed, or is in conflict with what is there.
    Refused = 4,
    /// The server or database can't be reached, or can't do it now: try again.
    Unavailable = 5,
    /// A signal ended it early. Shells give this code to a process that SIGINT has killed.
    Interrupted = 130,
}

impl Exit {
    /// An error's exit code. `None` if it is no failure: the output's reader has closed the pipe.
    pub fn of(error: &anyhow::Error) -> Option<Self> {
        error.chain().find_map(of_cause).unwrap_or(Some(Self::Failed))
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Option<Exit>> {
    if cause.is::<Closed>() {
        return Some(None);
    }
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(Some(failure.exit));
    }
    if cause.is::<Interrupted>() {
        return Some(Some(Exit::Interrupted));
    }
    if cause.is::<Problems>() {
        return Some(Some(Exit::Usage));
    }
    if cause.is::<PruneRefusal>() || matches!(cause.downcast_ref(), Some(PruneError::Refused(_))) {
        return Some(Some(Exit::Refused));
    }
    let of_ctldb = cause.downcast_ref::<CtldbError>().and_then(|error| match error {
        CtldbError::Unavailable(_) | CtldbError::Contention(_) | CtldbError::NotWritable(_) => Some(Exit::Unavailable),
        _ => None,
    });
    let of_source = cause.downcast_ref::<SourceError>().and_then(|error| match error {
        SourceError::Unavailable(_) => Some(Exit::Unavailable),
        SourceError::NoLedger(_) => Some(Exit::Absent),
        _ => None,
    });
    let of_snapshot = cause.downcast_ref::<SnapshotError>().and_then(|error| match error {
        SnapshotError::Ldb(ReadError::NotThereYet { .. }) | SnapshotError::Empty(_) => Some(Exit::Absent),
        SnapshotError::InUse { .. }
        | SnapshotError::Foreign { .. }
        | SnapshotError::Older { .. }
        | SnapshotError::OtherLedger { .. }
        | SnapshotError::Emptied { .. } => Some(Exit::Refused),
        SnapshotError::Store(error) => of_store(error),
        _ => None,
    });
    let of_fetch = cause.downcast_ref::<FetchError>().and_then(|error| match error {
        FetchError::NotFound(_) => Some(Exit::Absent),
        FetchError::Unavailable(_) | FetchError::Changed(_) => Some(Exit::Unavailable),
        FetchError::Refused(error) => of_store(error),
        _ => None,
    });
    let of_read = cause.downcast_ref::<ReadError>().and_then(|error| match error {
        ReadError::NotThereYet { .. } | ReadError::UnknownTable(_) => Some(Exit::Absent),
        ReadError::Busy => Some(Exit::Unavailable),
        _ => None,
    });
    of_ctldb.or(of_read).or(of_source).or(of_snapshot).or(of_fetch).map(Some)
}

fn of_store(error: &StoreError) -> Option<Exit> {
    match error {
        StoreError::NotFound { .. } => Some(Exit::Absent),
        StoreError::Temporary { .. } | StoreError::Changed { .. } => Some(Exit::Unavailable),
        StoreError::Denied { .. } => Some(Exit::Refused),
        _ => None,
    }
}

/// The command was stopped by a signal, in good order, before it had done everything.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Interrupted;

/// The command failed, and the log says why.
#[derive(Debug, thiserror::Error)]
#[error("failed, see the log")]
pub struct Logged;

/// A failure with its exit code and the line that explains it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: Exit,
    message: String,
    /// Whether the request was not sent, because there was no connection.
    was_unsent: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), was_unsent: false }
    }

    /// Marks a request that was not sent.
    pub fn unsent(self) -> Self {
        Self { was_unsent: true, ..self }
    }

    /// Whether the server can't have seen the request.
    pub fn was_unsent(&self) -> bool {
        self.was_unsent
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn absent(message: impl Into<String>) -> Self {
        Self::new(Exit::Absent, message)
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }
}
