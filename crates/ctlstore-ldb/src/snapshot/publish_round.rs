//! Round after round: is there something new, copy it once, put it everywhere it
//! belongs. Each destination works on a thread of its own; one that is still busy with
//! an earlier snapshot misses a round and holds back nobody.

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
use super::progress::Progress;
use super::shared_copy::{SharedCopy, Stage};
use super::store::{StoreError, contained};

/// What a round did, and what busy destinations have ended since the one before.
#[derive(Debug)]
pub struct PublishRound {
    /// The LDB's; `None` while there is none, or nothing in it.
    pub position: Option<LdbPosition>,
    /// By each destination that is done, in that order.
    pub ended: Vec<DestinationResult>,
    /// Destinations that are still at work, by their place in the list of all.
    pub busy: Vec<usize>,
    /// Whether the LDB was being copied meanwhile, which the applier may have felt.
    pub is_copied: bool,
}

/// How it went at one destination.
#[derive(Debug)]
pub struct DestinationResult {
    /// The destination's place in the list of all.
    pub destination: usize,
    /// The LDB's, when it was asked; 0 while there is nothing in it.
    pub seq: Seq,
    /// Since it was asked, however many rounds ago.
    pub took: Duration,
    /// `None` where there was nothing new for it.
    pub outcome: Result<Option<Delivered>, SnapshotError>,
}

/// Publishes an LDB's snapshots to its destinations, round after round.
pub struct Publisher {
    ldb: PathBuf,
    stage: Arc<Stage>,
    places: Vec<DestinationSlot>,
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
struct DestinationSlot {
    target: Target,
    /// Once it could be opened, and while it is not away.
    destination: Option<Destination>,
    /// Whether it has said that nothing is no step back for it.
    has_nothing: bool,
}

/// What a destination's thread gives back.
type Back = (Option<Destination>, DestinationResult);

impl Publisher {
    /// Opens nothing yet.
    pub fn new(ldb: impl Into<PathBuf>, targets: impl IntoIterator<Item = Target>) -> Self {
        let places = targets
            .into_iter()
            .map(|target| DestinationSlot { target, destination: None, has_nothing: false })
            .collect();
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
    /// longer end in a later one. While there is nothing in the LDB, each destination is asked
    /// once whether that is a step back, and again and again where it is.
    ///
    /// # Errors
    /// The LDB can't be read.
    pub fn round(&mut self, patience: Duration, abort: &Abort) -> Result<PublishRound, SnapshotError> {
        let deadline = Instant::now().checked_add(patience);
        let mut ended: Vec<DestinationResult> = Vec::new();
        while let Ok(back) = self.back.1.try_recv() {
            ended.push(self.take_back(back));
        }
        let position = ldb_position(&self.ldb)?;
        let is_asked = |place: &DestinationSlot| match &position {
            None => false,
            Some(position) => position.seq > Seq::ZERO || !place.has_nothing,
        };
        let asked = |index: &usize| !self.busy.contains_key(index) && is_asked(&self.places[*index]);
        let asked: Vec<usize> = (0..self.places.len()).filter(asked).collect();
        if let Some(position) = &position
            && !asked.is_empty()
        {
            ended.extend(self.ask(&asked, position, deadline, abort));
        }
        let busy = self.busy.keys().copied().collect();
        let position = position.filter(|position| position.seq > Seq::ZERO);
        Ok(PublishRound { position, ended, busy, is_copied: self.stage.was_copying() })
    }

    /// Offers a new copy to these destinations.
    fn ask(
        &mut self,
        places: &[usize],
        position: &LdbPosition,
        deadline: Option<Instant>,
        abort: &Abort,
    ) -> Vec<DestinationResult> {
        if self.rounds == 0 {
            self.stage.clear();
        }
        self.rounds += 1;
        let copy = Arc::new(SharedCopy::new(&self.stage, self.rounds));
        let (mut failed, mut offered) = (Vec::new(), 0);
        for index in places.iter().copied() {
            match self.offer(index, position, &copy, abort) {
                Ok(()) => offered += 1,
                Err(error) => {
                    let took = Duration::ZERO;
                    failed.push(DestinationResult { destination: index, seq: position.seq, took, outcome: Err(error) });
                }
            }
        }
        // Dropped, so that the copy goes when the last destination is done with it.
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
        let place = &mut self.places[index];
        let (target, mut destination) = (place.target.clone(), place.destination.take());
        let (position, copy, back) = (position.clone(), Arc::clone(copy), self.back.0.clone());
        let (in_thread, began) = (abort.clone(), Instant::now());
        let work = move || {
            let place = || target.url.to_string();
            let outcome = contained(place, || offer(&target, &mut destination, &position, &copy, &in_thread));
            drop(copy);
            if matches!(outcome, Err(SnapshotError::Store(StoreError::Panicked { .. }))) {
                // Whatever it was in the middle of, it begins anew.
                destination = None;
            }
            let ended = DestinationResult { destination: index, seq: position.seq, took: began.elapsed(), outcome };
            // The publisher is gone only when nobody wants to know any more.
            let _ = back.send((destination, ended));
        };
        let thread = thread::Builder::new().name(format!("snapshot-to-{index}")).spawn(work);
        let thread = thread.map_err(SnapshotError::io("start a thread for", &self.ldb))?;
        self.busy.insert(index, Busy { thread, abort: abort.clone() });
        Ok(())
    }

    /// Waits for `count` destinations, or for the deadline.
    fn wait(&mut self, count: usize, deadline: Option<Instant>) -> Vec<DestinationResult> {
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

    fn take_back(&mut self, (destination, ended): Back) -> DestinationResult {
        let place = &mut self.places[ended.destination];
        place.destination = destination;
        place.has_nothing = ended.seq == Seq::ZERO && ended.outcome.is_ok();
        if let Some(busy) = self.busy.remove(&ended.destination) {
            // It has sent its last word, also where its work panicked.
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

/// `None` while there is no LDB.
fn ldb_position(ldb: &Path) -> Result<Option<LdbPosition>, SnapshotError> {
    match LdbReader::new(ldb).position() {
        Ok(position) => Ok(Some(position)),
        Err(ReadError::NotThereYet { .. }) => Ok(None),
        Err(error) => Err(SnapshotError::Ldb(error)),
    }
}
