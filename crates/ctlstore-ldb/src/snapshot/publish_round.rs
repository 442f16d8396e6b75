//! Publishes round after round: checks whether the LDB has news, copies it once, and offers
//! the copy to every destination. Entry point: [`Publisher::round`]. Each destination has a
//! thread of its own. One that is still busy with an earlier snapshot misses a round and
//! holds up no other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ctlstore_core::Abort;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_reader::read::{LdbReader, ReadError};

use super::destination::{Delivered, Destination, Target};
use super::error::SnapshotError;
use super::progress::SnapshotProgress;
use super::shared_copy::{SharedCopy, Staging};
use super::store::{StoreError, contained};

/// The result of a round, with the results of destinations that were busy before.
#[derive(Debug)]
pub struct PublishRound {
    /// The LDB's position; `None` while there is no LDB, or nothing in it.
    pub position: Option<LdbPosition>,
    /// The results of destinations, in the order in which they finished.
    pub ended: Vec<DestinationResult>,
    /// Destinations that are still at work, as indexes of the list of all.
    pub busy: Vec<usize>,
    /// Whether the LDB was being copied during the round, which can slow the applier down.
    pub is_copied: bool,
}

/// The result of one destination.
#[derive(Debug)]
pub struct DestinationResult {
    /// The destination's index in the list of all.
    pub destination: usize,
    /// The LDB's seq at the time of the offer; 0 while there is nothing in it.
    pub seq: Seq,
    /// The time since the offer, which may be several rounds ago.
    pub took: Duration,
    /// `None` if the destination needed nothing.
    pub outcome: Result<Option<Delivered>, SnapshotError>,
}

/// Publishes an LDB's snapshots to its destinations, round after round.
pub struct Publisher {
    ldb: PathBuf,
    staging: Arc<Staging>,
    slots: Vec<DestinationSlot>,
    /// The destinations at work, by index. Their slots are empty.
    busy: HashMap<usize, BusyDestination>,
    finished: (Sender<Finished>, Receiver<Finished>),
    rounds: u64,
}

#[derive(Debug)]
struct BusyDestination {
    thread: JoinHandle<()>,
    abort: Abort,
}

#[derive(Debug)]
struct DestinationSlot {
    target: Target,
    /// Set after it was opened, and while its thread does not have it.
    destination: Option<Destination>,
    /// Whether it accepts an LDB without anything in it.
    has_nothing: bool,
}

/// The message that a destination's thread ends with.
type Finished = (Option<Destination>, DestinationResult);

impl Publisher {
    /// Opens no destination yet.
    pub fn new(ldb: impl Into<PathBuf>, targets: impl IntoIterator<Item = Target>) -> Self {
        let slots = targets
            .into_iter()
            .map(|target| DestinationSlot { target, destination: None, has_nothing: false })
            .collect();
        let ldb = ldb.into();
        let staging = Arc::new(Staging::new(&ldb, Arc::new(())));
        Self { ldb, staging, slots, busy: HashMap::new(), finished: channel(), rounds: 0 }
    }

    /// Reports the progress of its rounds to `progress`.
    pub fn reporting(mut self, progress: Arc<dyn SnapshotProgress>) -> Self {
        self.staging = Arc::new(Staging::new(&self.ldb, progress));
        self
    }

    /// Runs one round. It waits at most `patience` for its destinations; those that take longer
    /// finish in a later round. While the LDB has nothing in it, each destination is asked once
    /// whether it accepts that, and again in every round if it does not.
    ///
    /// # Errors
    /// If the LDB can't be read.
    pub fn round(&mut self, patience: Duration, abort: &Abort) -> Result<PublishRound, SnapshotError> {
        let deadline = Instant::now().checked_add(patience);
        let mut ended: Vec<DestinationResult> = Vec::new();
        while let Ok(finished) = self.finished.1.try_recv() {
            ended.push(self.take_back(finished));
        }
        let position = ldb_position(&self.ldb)?;
        let is_asked = |slot: &DestinationSlot| match &position {
            None => false,
            Some(position) => position.seq > Seq::ZERO || !slot.has_nothing,
        };
        let asked = |index: &usize| !self.busy.contains_key(index) && is_asked(&self.slots[*index]);
        let asked: Vec<usize> = (0..self.slots.len()).filter(asked).collect();
        if let Some(position) = &position
            && !asked.is_empty()
        {
            ended.extend(self.offer_to_all(&asked, position, deadline, abort));
        }
        let busy = self.busy.keys().copied().collect();
        let position = position.filter(|position| position.seq > Seq::ZERO);
        Ok(PublishRound { position, ended, busy, is_copied: self.staging.was_copying() })
    }

    /// Offers one new copy to these destinations, and waits for them.
    fn offer_to_all(
        &mut self,
        destinations: &[usize],
        position: &LdbPosition,
        deadline: Option<Instant>,
        abort: &Abort,
    ) -> Vec<DestinationResult> {
        if self.rounds == 0 {
            self.staging.clear();
        }
        self.rounds += 1;
        let copy = Arc::new(SharedCopy::new(&self.staging, self.rounds));
        let mut failed = Vec::new();
        let mut offered = 0;
        for index in destinations.iter().copied() {
            match self.offer(index, position, &copy, abort) {
                Ok(()) => offered += 1,
                Err(error) => {
                    let took = Duration::ZERO;
                    failed.push(DestinationResult { destination: index, seq: position.seq, took, outcome: Err(error) });
                }
            }
        }
        // The copy goes when the last destination drops it, so this one must not hold it.
        drop(copy);
        failed.extend(self.wait(offered, deadline));
        failed
    }

    fn offer(
        &mut self,
        index: usize,
        position: &LdbPosition,
        copy: &Arc<SharedCopy>,
        abort: &Abort,
    ) -> Result<(), SnapshotError> {
        let slot = &mut self.slots[index];
        let target = slot.target.clone();
        let mut destination = slot.destination.take();
        let position = position.clone();
        let copy = Arc::clone(copy);
        let sender = self.finished.0.clone();
        let in_thread = abort.clone();
        let began = Instant::now();
        let work = move || {
            let place = || target.url.to_string();
            let outcome = contained(place, || offer(&target, &mut destination, &position, &copy, &in_thread));
            drop(copy);
            if matches!(outcome, Err(SnapshotError::Store(StoreError::Panicked { .. }))) {
                // Its state may be half changed, so it is opened anew.
                destination = None;
            }
            let ended = DestinationResult { destination: index, seq: position.seq, took: began.elapsed(), outcome };
            // Sending fails only if the publisher is gone, and then no thread needs the result.
            let _ = sender.send((destination, ended));
        };
        let thread = thread::Builder::new().name(format!("snapshot-to-{index}")).spawn(work);
        let thread = thread.map_err(SnapshotError::io("start a thread for", &self.ldb))?;
        self.busy.insert(index, BusyDestination { thread, abort: abort.clone() });
        Ok(())
    }

    /// Waits for `count` destinations, or for the deadline.
    fn wait(&mut self, count: usize, deadline: Option<Instant>) -> Vec<DestinationResult> {
        let mut ended = Vec::new();
        while ended.len() < count {
            let finished = match deadline {
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let Ok(finished) = self.finished.1.recv_timeout(left) else { break };
                    finished
                }
                None => match self.finished.1.recv() {
                    Ok(finished) => finished,
                    Err(_) => break,
                },
            };
            ended.push(self.take_back(finished));
        }
        ended
    }

    fn take_back(&mut self, (destination, ended): Finished) -> DestinationResult {
        let slot = &mut self.slots[ended.destination];
        slot.destination = destination;
        slot.has_nothing = ended.seq == Seq::ZERO && ended.outcome.is_ok();
        if let Some(busy) = self.busy.remove(&ended.destination) {
            // The thread has sent its result and ends now, also if its work panicked.
            let _ = busy.thread.join();
        }
        ended
    }
}

/// Aborts the destinations that are at work and waits for them, so that the places are free.
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

/// The LDB's position; `None` while there is no LDB.
fn ldb_position(ldb: &Path) -> Result<Option<LdbPosition>, SnapshotError> {
    match LdbReader::new(ldb).position() {
        Ok(position) => Ok(Some(position)),
        Err(ReadError::NotThereYet { .. }) => Ok(None),
        Err(error) => Err(SnapshotError::Ldb(error)),
    }
}
