//! The snapshotter: copies the LDB at its interval, without stopping the applier, and
//! publishes the copy. The copying runs on a thread for blocking work; this actor
//! keeps the time and the record.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::Serialize;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::backoff::{Backoff, jittered};
use crate::messages::ledger::SlowestCommit;
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::{
    Delivered, DestinationResult, PublishRound, Publisher, SnapshotError, StoreError, Target,
};

/// How often an LDB without data is looked at again, and the first pause after a failure.
const SOON: Duration = Duration::from_secs(1);
/// The part of the interval that is left to chance, so that hosts started together
/// do not write their snapshots together.
const JITTER: f64 = 0.1;

/// What to copy where.
#[derive(Debug, Clone)]
pub struct SnapshotterOptions {
    pub ldb_path: PathBuf,
    pub interval: Duration,
    /// Each gets every snapshot.
    pub targets: Vec<Target>,
}

/// What the snapshotter shows of itself.
#[derive(Debug, Clone, Default, Serialize)]
struct Details {
    /// That reached a destination.
    snapshots: u64,
    failures: u64,
    /// Copies that failed their check, and so went nowhere.
    failed_checks: u64,
    /// When the last one was done.
    last_at: Option<String>,
    /// Of the last one, uncompressed.
    last_bytes: Option<u64>,
    /// From when its destination was asked until it had it.
    last_seconds: Option<f64>,
    /// The applier's slowest commit, in milliseconds, in the last round in which the LDB was
    /// copied, and the largest of these since the start; where the applier is in this node.
    apply_stall_ms: Option<f64>,
    max_apply_stall_ms: Option<f64>,
    /// In the order of the settings.
    destinations: Vec<Destination>,
}

/// What one destination shows of itself.
#[derive(Debug, Clone, Serialize)]
struct Destination {
    url: String,
    state: DestinationState,
    /// Of the snapshot that is there.
    last_seq: Option<Seq>,
    /// When it got its last one from here.
    last_at: Option<String>,
    /// Stays after its end.
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DestinationState {
    /// Nothing was published yet.
    Waiting,
    /// It has what there is.
    Current,
    /// It is at work on an earlier snapshot, and misses the rounds meanwhile.
    Busy,
    Retrying,
}

/// What the actor and its task share; both live on one thread.
struct Shared {
    interval: Duration,
    metrics: Arc<Metrics>,
    view: RefCell<View>,
}

/// What a status answer is made from.
struct View {
    state: RoleState,
    last_seq: Option<Seq>,
    failures: Failures,
    details: Details,
}

pub struct Snapshotter {
    shared: Rc<Shared>,
    /// Until the actor is started.
    publisher: Option<Publisher>,
    /// The applier of the LDB, where it is in this node.
    applier: Option<Recipient<SlowestCommit>>,
    task: Option<Task>,
}

impl Snapshotter {
    pub fn new(options: SnapshotterOptions, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Snapshotter, Arc::clone(&metrics));
        let destinations = options.targets.iter().map(|target| Destination::new(target.url.to_string())).collect();
        let details = Details { destinations, ..Details::default() };
        let view = View { state: RoleState::Starting, last_seq: None, failures, details };
        let shared = Shared { interval: options.interval, metrics, view: RefCell::new(view) };
        let publisher = Publisher::new(options.ldb_path, options.targets);
        Self { shared: Rc::new(shared), publisher: Some(publisher), applier: None, task: None }
    }

    /// Asks the applier that writes the LDB how long its commits take meanwhile.
    pub fn measuring(self, applier: Option<Recipient<SlowestCommit>>) -> Self {
        Self { applier, ..self }
    }
}

impl Actor for Snapshotter {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(publisher) = self.publisher.take() {
            self.shared.view.borrow_mut().state = RoleState::Running;
            let shared = Rc::clone(&self.shared);
            let applier = self.applier.take();
            self.task = Some(Task::spawn(|stopping| run(shared, publisher, applier, stopping)));
        }
    }
}

impl Handler<GetStatus> for Snapshotter {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let view = &mut *self.shared.view.borrow_mut();
        view.details.failures = view.failures.count();
        let status = RoleStatus::new(ActorKind::Snapshotter, view.state).with_error(view.failures.last());
        let mut status = status.with_details(&view.details);
        status.last_seq = view.last_seq;
        status
    }
}

/// A copy in the making is aborted; what is published stays.
impl Handler<Stop> for Snapshotter {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        Task::then_stop(self.task.take())
    }
}

async fn run(
    shared: Rc<Shared>,
    mut publisher: Publisher,
    applier: Option<Recipient<SlowestCommit>>,
    mut stopping: Stopping,
) {
    let mut backoff = Backoff::new(SOON.min(shared.interval), shared.interval);
    // One for all rounds: destinations may be busy beyond theirs.
    let abort = Abort::default();
    loop {
        // What was slow before is none of the snapshot's doing.
        slowest_commit(applier.as_ref()).await;
        let began = Instant::now();
        let (in_thread, patience) = (abort.clone(), shared.interval);
        let mut round = tokio::task::spawn_blocking(move || {
            let outcome = publisher.round(patience, &in_thread);
            (publisher, outcome)
        });
        let Some(done) = stopping.unless(&mut round).await else {
            abort.abort();
            // Nothing is begun after this, and what is at work ends within moments.
            if let Ok((publisher, _)) = round.await {
                close(publisher).await;
            }
            return;
        };
        // A round that panicked has ended the process already.
        let Ok((back, outcome)) = done else { return };
        publisher = back;
        if outcome.as_ref().is_ok_and(|round| round.is_copied)
            && let Some(stall) = slowest_commit(applier.as_ref()).await
        {
            shared.stalled(stall);
        }
        let pause = shared.record(outcome, began.elapsed(), &mut backoff);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            abort.abort();
            close(publisher).await;
            return;
        }
    }
}

/// Since the applier was last asked; `None` where there is none.
async fn slowest_commit(applier: Option<&Recipient<SlowestCommit>>) -> Option<Duration> {
    applier?.send(SlowestCommit).await.ok()
}

/// Waits for destinations that are still at work, and lets go of all.
async fn close(publisher: Publisher) {
    // The only error is a panic, which has ended the process already.
    let _ = tokio::task::spawn_blocking(move || drop(publisher)).await;
}

impl Destination {
    fn new(url: String) -> Self {
        Self { url, state: DestinationState::Waiting, last_seq: None, last_at: None, last_error: None }
    }
}

impl Shared {
    /// Keeps the round's outcome and says how long to wait for the next.
    fn record(&self, outcome: Result<PublishRound, SnapshotError>, took: Duration, backoff: &mut Backoff) -> Duration {
        let round = match outcome {
            Ok(round) => round,
            Err(error) => {
                self.failed(&error);
                return backoff.next_pause();
            }
        };
        for destination in &round.busy {
            self.view.borrow_mut().details.destinations[*destination].state = DestinationState::Busy;
            self.metrics.snapshotter.busy(*destination, true);
        }
        for ended in round.ended {
            self.ended(ended);
        }
        let is_failing = |destination: &Destination| destination.state == DestinationState::Retrying;
        if self.view.borrow().details.destinations.iter().any(is_failing) {
            return backoff.next_pause();
        }
        backoff.reset();
        if round.position.is_none() {
            return SOON.min(self.interval);
        }
        if round.busy.is_empty() {
            self.works();
        }
        // A round that waited for a slow destination has used some of the pause already.
        let pause = jittered(self.interval, JITTER);
        if round.busy.is_empty() { pause } else { pause.saturating_sub(took) }
    }

    fn ended(&self, DestinationResult { destination: index, seq, took, outcome }: DestinationResult) {
        self.metrics.snapshotter.busy(index, false);
        match outcome {
            Ok(Some(delivered)) => self.delivered(index, delivered, took),
            Ok(None) if seq == Seq::ZERO => {
                self.view.borrow_mut().details.destinations[index].state = DestinationState::Waiting;
            }
            Ok(None) => {
                let view = &mut *self.view.borrow_mut();
                let destination = &mut view.details.destinations[index];
                (destination.state, destination.last_seq) = (DestinationState::Current, Some(seq));
                view.last_seq = view.last_seq.max(Some(seq));
                self.metrics.snapshotter.reached(index, seq.0, None);
            }
            Err(error) => self.failed_at(index, &error),
        }
    }

    fn delivered(&self, index: usize, delivered: Delivered, took: Duration) {
        let now = Timestamp::now();
        let (seq, bytes, seconds) = (delivered.position.seq, delivered.bytes, now.unix_micros() as f64 / 1e6);
        let view = &mut *self.view.borrow_mut();
        let is_new = view.last_seq < Some(seq);
        let details = &mut view.details;
        let destination = &mut details.destinations[index];
        destination.state = DestinationState::Current;
        destination.last_seq = Some(seq);
        destination.last_at = Some(now.to_string());
        let metrics = &self.metrics.snapshotter;
        metrics.reached(index, seq.0, Some(seconds));
        tracing::info!(role = "snapshotter", destination = destination.url, %seq, bytes, "snapshot published");
        if is_new {
            view.last_seq = Some(seq);
            details.snapshots += 1;
            details.last_at = Some(now.to_string());
            details.last_bytes = Some(bytes);
            details.last_seconds = Some(took.as_secs_f64());
            metrics.snapshots.inc();
            metrics.duration_seconds.observe(took.as_secs_f64());
            metrics.size_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            metrics.seq.set(seq.0);
            metrics.last_success_seconds.set(seconds);
        }
        if let Some(trouble) = delivered.trouble {
            failed!(view.failures, kind_of(&trouble), trouble, "snapshot published, older ones not put in order");
        }
    }

    fn stalled(&self, stall: Duration) {
        let details = &mut self.view.borrow_mut().details;
        let ms = stall.as_secs_f64() * 1e3;
        details.apply_stall_ms = Some(ms);
        details.max_apply_stall_ms = Some(details.max_apply_stall_ms.unwrap_or(0.0).max(ms));
        self.metrics.snapshotter.apply_stall_seconds.set(stall.as_secs_f64());
    }

    fn works(&self) {
        let mut view = self.view.borrow_mut();
        if view.state == RoleState::Retrying {
            tracing::info!(role = "snapshotter", "publishing again");
            view.state = RoleState::Running;
        }
        view.failures.end();
    }

    fn failed_at(&self, index: usize, error: &SnapshotError) {
        let mut view = self.view.borrow_mut();
        let destination = &mut view.details.destinations[index];
        destination.state = DestinationState::Retrying;
        destination.last_error = Some(error.to_string());
        drop(view);
        self.metrics.snapshotter.failed_at(index);
        self.failed(error);
    }

    fn failed(&self, error: &SnapshotError) {
        let view = &mut *self.view.borrow_mut();
        failed!(view.failures, kind_of(error), error, "no snapshot, retrying");
        if error.is_failed_check() {
            view.details.failed_checks += 1;
            self.metrics.snapshotter.failed_checks.inc();
        }
        if view.state != RoleState::Stopping {
            view.state = RoleState::Retrying;
        }
    }
}

fn kind_of(error: &SnapshotError) -> ErrorKind {
    match error {
        SnapshotError::DiskFull(_) => ErrorKind::DiskFull,
        SnapshotError::Older { .. }
        | SnapshotError::OtherLedger { .. }
        | SnapshotError::Emptied { .. }
        | SnapshotError::Unknown { .. } => ErrorKind::Ledger,
        SnapshotError::Foreign { .. } => ErrorKind::Refused,
        SnapshotError::InUse { .. } | SnapshotError::Store(StoreError::Changed { .. }) => ErrorKind::Contention,
        SnapshotError::Store(StoreError::Temporary { .. }) => ErrorKind::Unavailable,
        SnapshotError::Store(_) => ErrorKind::Refused,
        _ => ErrorKind::Storage,
    }
}
