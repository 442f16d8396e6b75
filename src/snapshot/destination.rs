//! Where snapshots go: what every kind of place can do.

use std::fmt;
use std::path::PathBuf;

use crate::ledger::LdbPosition;

use super::copy::{Abort, Snapshot};
use super::error::SnapshotError;
use super::file::FileDestination;

/// The address of a place for snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, replaced by each snapshot.
    File(PathBuf),
}

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
    /// Takes hold of the place.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] while another process holds it.
    pub fn open(target: &Target) -> Result<Self, SnapshotError> {
        match target {
            Target::File(path) => FileDestination::open(path).map(Self::File),
        }
    }

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

    /// Whether a snapshot of this position is news here.
    ///
    /// # Errors
    /// [`SnapshotError::Older`] and [`SnapshotError::OtherLedger`] where it would take
    /// hosts back or elsewhere.
    pub fn wants(&self, position: &LdbPosition) -> Result<bool, SnapshotError> {
        let Published::At(published) = self.published() else { return Ok(true) };
        self.refuse_a_step_back(&published, position)?;
        Ok(published.seq < position.seq)
    }

    /// Puts the snapshot in place of what is there.
    ///
    /// # Errors
    /// As [`Destination::wants`]; what is there stays.
    pub fn publish(&self, snapshot: &Snapshot, abort: &Abort) -> Result<(), SnapshotError> {
        // Asked again: the copy is newer than the position that was asked about.
        self.wants(&snapshot.position)?;
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
