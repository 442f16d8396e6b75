//! Where snapshots go: what every kind of place can do.

use std::fmt;
use std::path::PathBuf;

use crate::ledger::LdbPosition;

use super::copy::{Abort, Snapshot};
use super::error::SnapshotError;
use super::file::FileDestination;

/// A place for snapshots, held by this process as long as this value lives.
#[derive(Debug)]
pub enum Destination {
    File(FileDestination),
}

/// What a destination holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    Nothing,
    /// A file that no reader could use.
    Unreadable(String),
    At(LdbPosition),
}

impl Destination {
    pub fn published(&self) -> Published {
        match self {
            Self::File(file) => file.published(),
        }
    }

    /// A path on the destination's own file system at which a copy can be made that
    /// [`Destination::publish`] then takes without copying it again.
    pub fn staging(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) => Some(file.staging()),
        }
    }

    /// Puts the snapshot in place of what is there.
    ///
    /// # Errors
    /// [`SnapshotError::Older`] and [`SnapshotError::OtherLedger`] where that would
    /// take hosts back or elsewhere; what is there stays.
    pub fn publish(&self, snapshot: &Snapshot, abort: &Abort) -> Result<(), SnapshotError> {
        if let Published::At(published) = self.published() {
            self.refuse_a_step_back(&published, &snapshot.position)?;
        }
        match self {
            Self::File(file) => file.publish(snapshot, abort),
        }
    }

    fn refuse_a_step_back(&self, published: &LdbPosition, taken: &LdbPosition) -> Result<(), SnapshotError> {
        let destination = self.to_string();
        if let (Some(published), Some(taken)) = (&published.ledger_id, &taken.ledger_id)
            && published != taken
        {
            let (published, taken) = (published.clone(), taken.clone());
            return Err(SnapshotError::OtherLedger { destination, published, taken });
        }
        if taken.seq < published.seq {
            return Err(SnapshotError::Older { destination, published: published.seq, taken: taken.seq });
        }
        Ok(())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "file://{}", file.path().display()),
        }
    }
}
