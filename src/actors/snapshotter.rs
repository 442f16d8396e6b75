//! The snapshotter: copies the LDB at an interval, without stopping the applier, and publishes the
//! copy. Entry point: [`Snapshotter::new`]. It decides when a round begins and records how it
//! ended. The round itself is `ctlstore_ldb`'s [`Publisher`], on a thread for blocking work.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;
use serde::Serialize;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{RoleView, Stopping, TaskActor, TaskRole};
use crate::backoff::{Backoff, jittered};
use crate::messages::ledger::SlowestCommit;
use crate::messages::status::{ActorKind, RoleState};
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::{
    Delivered, DestinationResult, PublishRound, Publisher, SnapshotError, StoreError, Target,
};

/// The pause after a round that found an LDB without data, and the first pause after a failure.
const SOON: Duration = Duration::from_secs(1);
/// The random part of the interval. Hosts that started together then publish at different times.
const JITTER: f64 = 0.1;

/// The snapshotter's LDB and destinations.
#[derive(Debug, Clone)]
pub struct SnapshotterOptions {
    pub ldb_path: PathBuf,
    pub interval: Duration,
    /// Every snapshot goes to each of them.
    pub targets: Vec<Target>,
}

/// The snapshotter's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SnapshotterDetails {
    /// Snapshots that reached a destination.
    snapshots: u64,
    /// Copies that failed their check, and were not published.
    failed_checks: u64,
    /// When the last snapshot was published.
    last_at: Option<String>,
    /// The uncompressed size of the last snapshot.
    last_bytes: Option<u64>,
    /// From asking the destination for its state to the published snapshot.
    last_seconds: Option<f64>,
    /// The applier's slowest commit, in milliseconds, during the last round that copied the LDB.
    /// `None` if the applier is not in this node.
    apply_stall_ms: Option<f64>,
    /// The largest of these since the start.
    max_apply_stall_ms: Option<f64>,
    /// In the order of the settings.
    destinations: Vec<Destination>,
}

/// One destination in `/status`.
#[derive(Debug, Clone, Serialize)]
struct Destination {
    url: String,
    state: DestinationState,
    /// The seq of the snapshot that is published there.
    last_seq: Option<Seq>,
    /// When this snapshotter last published there.
    last_at: Option<String>,
    /// The last failure. It stays after the next success.
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DestinationState {
    /// Nothing was published yet.
    Waiting,
    /// The newest snapshot is there.
    Current,
    /// It still takes an earlier snapshot. Rounds that begin meanwhile pass it over.
    Busy,
    /// The last try failed.
    Retrying,
}

/// The state that the actor and its task share.
pub struct SnapshotterRole {
    interval: Duration,
    metrics: Arc<Metrics>,
    view: RefCell<RoleView<SnapshotterDetails>>,
}

pub type Snapshotter = TaskActor<SnapshotterRole>;

impl Snapshotter {
    /// `applier` writes the LDB that is copied, if it is in this node. It is asked how long its
    /// commits took during a copy.
    pub fn new(options: SnapshotterOptions, applier: Option<Recipient<SlowestCommit>>, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Snapshotter, Arc::clone(&metrics));
        let destinations = options.targets.iter().map(|target| Destination::new(target.url.to_string())).collect();
        let view = RoleView::new(failures, SnapshotterDetails { destinations, ..SnapshotterDetails::default() });
        let role = SnapshotterRole { interval: options.interval, metrics, view };
        let publisher = Publisher::new(options.ldb_path, options.targets);
        Self::of(role, move |role, stopping| {
            role.view.borrow_mut().state = RoleState::Running;
            run(role, publisher, applier, stopping)
        })
    }
}

impl TaskRole for SnapshotterRole {
    type Details = SnapshotterDetails;

    const KIND: ActorKind = ActorKind::Snapshotter;

    fn view(&self) -> &RefCell<RoleView<SnapshotterDetails>> {
        &self.view
    }
}

/// A stop aborts the copy that is being made. What is published stays.
async fn run(
    role: Rc<SnapshotterRole>,
    mut publisher: Publisher,
    applier: Option<Recipient<SlowestCommit>>,
    mut stopping: Stopping,
) {
    let mut backoff = Backoff::new(SOON.min(role.interval), role.interval);
    // All rounds share it, because a destination may be busy for longer than its round.
    let abort = Abort::default();
    loop {
        // Commits before the round say nothing about the snapshot.
        slowest_commit(applier.as_ref()).await;
        let began = Instant::now();
        let in_thread = abort.clone();
        let patience = role.interval;
        let mut round = tokio::task::spawn_blocking(move || {
            let outcome = publisher.round(patience, &in_thread);
            (publisher, outcome)
        });
        let Some(done) = stopping.unless(&mut round).await else {
            abort.abort();
            // Nothing new begins after this, and the work in progress ends within moments.
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
            role.record_stall(stall);
        }
        let pause = role.record(outcome, began.elapsed(), &mut backoff);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            abort.abort();
            close(publisher).await;
            return;
        }
    }
}

/// The slowest commit since the applier was last asked. `None` if it is not in this node.
async fn slowest_commit(applier: Option<&Recipient<SlowestCommit>>) -> Option<Duration> {
    applier?.send(SlowestCommit).await.ok()
}

/// Waits for destinations that are still busy.
async fn close(publisher: Publisher) {
    // The only error is a panic, which has ended the process already.
    let _ = tokio::task::spawn_blocking(move || drop(publisher)).await;
}

impl Destination {
    fn new(url: String) -> Self {
        Self { url, state: DestinationState::Waiting, last_seq: None, last_at: None, last_error: None }
    }
}

impl SnapshotterRole {
    /// Records the round's outcome. Returns the pause before the next round.
    fn record(&self, outcome: Result<PublishRound, SnapshotError>, took: Duration, backoff: &mut Backoff) -> Duration {
        let round = match outcome {
            Ok(round) => round,
            Err(error) => {
                self.record_failure(&error);
                return backoff.next_pause();
            }
        };
        for destination in &round.busy {
            self.view.borrow_mut().details.destinations[*destination].state = DestinationState::Busy;
            self.metrics.snapshotter.busy(*destination, true);
        }
        for ended in round.ended {
            self.record_result(ended);
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
            self.record_success();
        }
        let pause = jittered(self.interval, JITTER);
        // A round that waited for a slow destination has used some of the pause already.
        if round.busy.is_empty() { pause } else { pause.saturating_sub(took) }
    }

    fn record_result(&self, DestinationResult { destination: index, seq, took, outcome }: DestinationResult) {
        self.metrics.snapshotter.busy(index, false);
        match outcome {
            Ok(Some(delivered)) => self.record_delivery(index, delivered, took),
            Ok(None) if seq == Seq::ZERO => {
                self.view.borrow_mut().details.destinations[index].state = DestinationState::Waiting;
            }
            Ok(None) => {
                let view = &mut *self.view.borrow_mut();
                let destination = &mut view.details.destinations[index];
                destination.state = DestinationState::Current;
                destination.last_seq = Some(seq);
                view.last_seq = view.last_seq.max(Some(seq));
                self.metrics.snapshotter.reached(index, seq.0, None);
            }
            Err(error) => self.record_failure_at(index, &error),
        }
    }

    fn record_delivery(&self, index: usize, delivered: Delivered, took: Duration) {
        let now = Timestamp::now();
        let seconds = now.unix_micros() as f64 / 1e6;
        let seq = delivered.position.seq;
        let bytes = delivered.bytes;
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

    fn record_stall(&self, stall: Duration) {
        let details = &mut self.view.borrow_mut().details;
        let ms = stall.as_secs_f64() * 1e3;
        details.apply_stall_ms = Some(ms);
        details.max_apply_stall_ms = Some(details.max_apply_stall_ms.unwrap_or(0.0).max(ms));
        self.metrics.snapshotter.apply_stall_seconds.set(stall.as_secs_f64());
    }

    fn record_success(&self) {
        let mut view = self.view.borrow_mut();
        if view.state == RoleState::Retrying {
            tracing::info!(role = "snapshotter", "publishing again");
            view.state = RoleState::Running;
        }
        view.failures.end();
    }

    fn record_failure_at(&self, index: usize, error: &SnapshotError) {
        let mut view = self.view.borrow_mut();
        let destination = &mut view.details.destinations[index];
        destination.state = DestinationState::Retrying;
        destination.last_error = Some(error.to_string());
        drop(view);
        self.metrics.snapshotter.failed_at(index);
        self.record_failure(error);
    }

    fn record_failure(&self, error: &SnapshotError) {
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
