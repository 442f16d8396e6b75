//! Round after round: is there something new, copy it once, put it everywhere it
//! belongs. Each destination works on a thread of its own; one that is still busy with
//! an earlier snapshot misses a round and holds back nobody.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ldb::read::{LdbReader, ReadError};
use crate::ledger::{LdbPosition, Seq};

use super::destination::{Delivered, Destination, Target};
use super::error::SnapshotError;
use super::progress::Progress;
use super::staged::{SharedCopy, Stage};
use super::take::Abort;

/// What a round did, and what busy destinations have ended since the one before.
#[derive(Debug)]
pub struct Round {
    /// The LDB's; `None` while there is none, or nothing in it.
    pub position: Option<LdbPosition>,
    /// By each destination that is done, in that order.
    pub ended: Vec<Ended>,
    /// Destinations that are still at work, by their place in the list of all.
    pub busy: Vec<usize>,
}

impl Round {
    /// Whether a destination got a snapshot.
    pub fn has_delivered(&self) -> bool {
        self.ended.iter().any(|ended| matches!(ended.outcome, Ok(Some(_))))
    }
}

/// How it went at one destination.
#[derive(Debug)]
pub struct Ended {
    /// The destination's place in the list of all.
    pub destination: usize,
    /// The LDB's, when it was asked.
    pub seq: Seq,
    /// `None` where there was nothing new for it.
    pub outcome: Result<Option<Delivered>, SnapshotError>,
}

/// Publishes an LDB's snapshots to its destinations, round after round.
pub struct Publisher {
    ldb: PathBuf,
    stage: Arc<Stage>,
    places: Vec<Place>,
    /// Those whose places are away, by index.
    busy: HashMap<usize, Busy>,
    back: (Sender<Back>, Receiver<Back>),
    rounds: u64,
}

#[derive(Debug)]
struct Busy {
    thread: JoinHandle<()>,
    abort: Abort,
}

#[derive(Debug)]
struct Place {
    target: Target,
    /// Once it could be opened, and while it is not away.
    destination: Option<Destination>,
}

/// What a destination's thread gives back.
type Back = (Option<Destination>, Ended);

impl Publisher {
    /// Opens nothing yet.
    pub fn new(ldb: impl Into<PathBuf>, targets: impl IntoIterator<Item = Target>) -> Self {
        let places = targets.into_iter().map(|target| Place { target, destination: None }).collect();
        let ldb = ldb.into();
        let stage = Arc::new(Stage::new(&ldb, Arc::new(())));
        Self { ldb, stage, places, busy: HashMap::new(), back: channel(), rounds: 0 }
    }

    /// Tells how far its rounds are.
    pub fn reporting(mut self, progress: Arc<dyn Progress>) -> Self {
        self.stage = Arc::new(Stage::new(&self.ldb, progress));
        self
    }

    /// One round. It waits for its destinations at most `patience`; those that take
    /// longer end in a later one.
    ///
    /// # Errors
    /// The LDB can't be read.
    pub fn round(&mut self, patience: Duration, abort: &Abort) -> Result<Round, SnapshotError> {
        let deadline = Instant::now().checked_add(patience);
        let mut ended: Vec<Ended> = Vec::new();
        while let Ok(back) = self.back.1.try_recv() {
            ended.push(self.take_back(back));
        }
        let position = ldb_position(&self.ldb)?;
        if let Some(position) = &position {
            if self.rounds == 0 {
                self.stage.clear();
            }
            self.rounds += 1;
            let copy = Arc::new(SharedCopy::new(&self.stage, self.rounds));
            let idle: Vec<usize> = (0..self.places.len()).filter(|index| !self.busy.contains_key(index)).collect();
            let mut offered = idle.len();
            for index in idle {
                if let Err(error) = self.offer(index, position, &copy, abort) {
                    ended.push(Ended { destination: index, seq: position.seq, outcome: Err(error) });
                    offered -= 1;
                }
            }
            // Dropped, so that the copy goes when the last destination is done with it.
            drop(copy);
            ended.extend(self.wait(offered, deadline));
        }
        Ok(Round { position, ended, busy: self.busy.keys().copied().collect() })
    }

    fn offer(
        &mut self,
        index: usize,
        position: &LdbPosition,
        copy: &Arc<SharedCopy>,
        abort: &Abort,
    ) -> Result<(), SnapshotError> {
        let place = &mut self.places[index];
        let (target, mut destination) = (place.target.clone(), place.destination.take());
        let (position, copy, back) = (position.clone(), Arc::clone(copy), self.back.0.clone());
        let in_thread = abort.clone();
        let work = move || {
            let outcome = offer(&target, &mut destination, &position, &copy, &in_thread);
            drop(copy);
            // The publisher is gone only when nobody wants to know any more.
            let _ = back.send((destination, Ended { destination: index, seq: position.seq, outcome }));
        };
        let thread = thread::Builder::new().name(format!("snapshot-to-{index}")).spawn(work);
        let thread = thread.map_err(SnapshotError::io("start a thread for", &self.ldb))?;
        self.busy.insert(index, Busy { thread, abort: abort.clone() });
        Ok(())
    }

    /// Waits for `count` destinations, or for the deadline.
    fn wait(&mut self, count: usize, deadline: Option<Instant>) -> Vec<Ended> {
        let mut ended = Vec::new();
        while ended.len() < count {
            let back = match deadline {
                Some(deadline) => {
                    let Ok(back) = self.back.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                        break;
                    };
                    back
                }
                None => match self.back.1.recv() {
                    Ok(back) => back,
                    Err(_) => break,
                },
            };
            ended.push(self.take_back(back));
        }
        ended
    }

    fn take_back(&mut self, (destination, ended): Back) -> Ended {
        self.places[ended.destination].destination = destination;
        if let Some(busy) = self.busy.remove(&ended.destination) {
            // It has sent its last word; a panic has ended the process already.
            let _ = busy.thread.join();
        }
        ended
    }
}

/// Destinations that are at work are aborted and waited for, so that the places are free.
impl Drop for Publisher {
    fn drop(&mut self) {
        for busy in self.busy.values() {
            busy.abort.abort();
        }
        for (_, busy) in self.busy.drain() {
            let _ = busy.thread.join();
        }
    }
}

fn offer(
    target: &Target,
    destination: &mut Option<Destination>,
    position: &LdbPosition,
    copy: &SharedCopy,
    abort: &Abort,
) -> Result<Option<Delivered>, SnapshotError> {
    let destination = match destination {
        Some(destination) if !destination.is_gone() => destination,
        none => none.insert(Destination::open(target)?),
    };
    destination.offer(position, copy, abort)
}

/// `None` while there is no LDB, or nothing in it.
fn ldb_position(ldb: &Path) -> Result<Option<LdbPosition>, SnapshotError> {
    match LdbReader::new(ldb).position() {
        Ok(position) => Ok(Some(position).filter(|position| position.seq > Seq::ZERO)),
        Err(ReadError::NotThereYet { .. }) => Ok(None),
        Err(error) => Err(SnapshotError::Ldb(error)),
    }
}
