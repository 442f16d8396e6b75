//! One round: is there something new, copy it once, put it everywhere it belongs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ldb::read::{LdbReader, ReadError};
use crate::ledger::{LdbPosition, Seq};

use super::copy::{Abort, copy};
use super::destination::{Destination, Target};
use super::error::SnapshotError;

/// What a round did.
#[derive(Debug)]
pub enum Round {
    /// There is no LDB, or nothing in it yet.
    NothingYet,
    /// Every destination has this seq already.
    Unchanged(Seq),
    Taken {
        position: LdbPosition,
        bytes: u64,
        /// One for each destination that did not get it.
        failures: Vec<SnapshotError>,
    },
}

/// Publishes an LDB's snapshots to its destinations, round after round.
#[derive(Debug)]
pub struct Publisher {
    ldb: PathBuf,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    target: Target,
    /// Once it could be opened.
    destination: Option<Destination>,
}

impl Place {
    /// The destination, if a snapshot of this position is news there.
    fn behind(&mut self, position: &LdbPosition) -> Result<Option<&Destination>, SnapshotError> {
        let destination = match &mut self.destination {
            Some(destination) => destination,
            none => none.insert(Destination::open(&self.target)?),
        };
        // Asked anew each time: someone may have cleared the place since.
        Ok(destination.wants(position)?.then_some(&*destination))
    }
}

impl Publisher {
    /// Opens nothing yet.
    pub fn new(ldb: impl Into<PathBuf>, targets: impl IntoIterator<Item = Target>) -> Self {
        let places = targets.into_iter().map(|target| Place { target, destination: None }).collect();
        Self { ldb: ldb.into(), places }
    }

    /// # Errors
    /// When there is no snapshot at all: the LDB can't be read or copied, or nowhere
    /// that lacks it takes it.
    pub fn round(&mut self, abort: &Abort) -> Result<Round, SnapshotError> {
        let Some(position) = ldb_position(&self.ldb)? else { return Ok(Round::NothingYet) };
        let (mut behind, mut failures) = (Vec::new(), Vec::new());
        for place in &mut self.places {
            match place.behind(&position) {
                Ok(destination) => behind.extend(destination),
                Err(error) => failures.push(error),
            }
        }
        let Some(staging) = behind.iter().find_map(|destination| destination.staging()) else {
            return failures.into_iter().next().map_or(Ok(Round::Unchanged(position.seq)), Err);
        };
        let snapshot = copy(&self.ldb, &staging, abort)?;
        // The one that takes the copy itself comes last.
        for destination in behind.into_iter().rev() {
            failures.extend(destination.publish(&snapshot, abort).err());
        }
        discard(&staging);
        Ok(Round::Taken { position: snapshot.position, bytes: snapshot.bytes, failures })
    }
}

/// `None` while there is no LDB, or nothing in it.
fn ldb_position(ldb: &Path) -> Result<Option<LdbPosition>, SnapshotError> {
    match LdbReader::new(ldb).position() {
        Ok(position) => Ok(Some(position).filter(|position| position.seq > Seq::ZERO)),
        Err(ReadError::NotThereYet { .. }) => Ok(None),
        Err(error) => Err(SnapshotError::Ldb(error)),
    }
}

/// Removes a copy that its destination refused. The next round would, if this can't.
fn discard(staging: &Path) {
    let _ = fs::remove_file(staging);
}
