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

use crate::actors::backoff::Backoff;
use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::ledger::Seq;
use crate::messages::status::{GetStatus, Role, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use crate::schema::Timestamp;
use crate::snapshot::{Abort, Publisher, Round, SnapshotError, Target};

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
    snapshots: u64,
    failures: u64,
    /// When the last one was done.
    last_at: Option<String>,
    /// Of the last one, uncompressed.
    last_bytes: Option<u64>,
    /// From the start of the copy to the last destination.
    last_seconds: Option<f64>,
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
    task: Option<Task>,
}

impl Snapshotter {
    pub fn new(options: SnapshotterOptions, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Snapshotter, Arc::clone(&metrics));
        let view = View { state: RoleState::Starting, last_seq: None, failures, details: Details::default() };
        let shared = Shared { interval: options.interval, metrics, view: RefCell::new(view) };
        let publisher = Publisher::new(options.ldb_path, options.targets);
        Self { shared: Rc::new(shared), publisher: Some(publisher), task: None }
    }
}

impl Actor for Snapshotter {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(publisher) = self.publisher.take() {
            self.shared.view.borrow_mut().state = RoleState::Running;
            let shared = Rc::clone(&self.shared);
            self.task = Some(Task::spawn(|stopping| run(shared, publisher, stopping)));
        }
    }
}

impl Handler<GetStatus> for Snapshotter {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let view = &mut *self.shared.view.borrow_mut();
        view.details.failures = view.failures.count();
        let status = RoleStatus::new(Role::Snapshotter, view.state).with_error(view.failures.last());
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
        let ended = Task::stop(self.task.take());
        Box::pin(ended.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

async fn run(shared: Rc<Shared>, mut publisher: Publisher, mut stopping: Stopping) {
    let mut backoff = Backoff::new(SOON.min(shared.interval), shared.interval);
    loop {
        let began = Instant::now();
        let abort = Abort::default();
        let in_thread = abort.clone();
        let mut round = tokio::task::spawn_blocking(move || {
            let outcome = publisher.round(&in_thread);
            (publisher, outcome)
        });
        let Some(done) = stopping.unless(&mut round).await else {
            abort.abort();
            // Nothing is begun after this, and a copy ends within milliseconds.
            let _ = round.await;
            return;
        };
        // A round that panicked has ended the process already.
        let Ok((back, outcome)) = done else { return };
        publisher = back;
        let pause = shared.record(outcome, began.elapsed(), &mut backoff);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

impl Shared {
    /// Keeps the round's outcome and says how long to wait for the next.
    fn record(&self, outcome: Result<Round, SnapshotError>, took: Duration, backoff: &mut Backoff) -> Duration {
        let failures = match outcome {
            Ok(Round::NothingYet) => return SOON.min(self.interval),
            Ok(Round::Unchanged(seq)) => {
                self.view.borrow_mut().last_seq = Some(seq);
                Vec::new()
            }
            Ok(Round::Taken { position, bytes, failures }) => {
                if failures.is_empty() {
                    self.taken(position.seq, bytes, took);
                }
                failures
            }
            Err(error) => vec![error],
        };
        if !failures.is_empty() {
            self.failed(&failures);
            return backoff.next_pause();
        }
        backoff.reset();
        self.works();
        self.interval.mul_f64(1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0))
    }

    fn taken(&self, seq: Seq, bytes: u64, took: Duration) {
        let now = Timestamp::now();
        let view = &mut *self.view.borrow_mut();
        view.last_seq = Some(seq);
        view.details.snapshots += 1;
        view.details.last_at = Some(now.to_string());
        view.details.last_bytes = Some(bytes);
        view.details.last_seconds = Some(took.as_secs_f64());
        let metrics = &self.metrics.snapshotter;
        metrics.snapshots.inc();
        metrics.duration_seconds.observe(took.as_secs_f64());
        metrics.size_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics.seq.set(seq.0);
        metrics.last_success_seconds.set(now.unix_micros() as f64 / 1e6);
        tracing::info!(role = "snapshotter", %seq, bytes, ms = took.as_millis() as u64, "snapshot published");
    }

    fn works(&self) {
        let mut view = self.view.borrow_mut();
        if view.state == RoleState::Retrying {
            tracing::info!(role = "snapshotter", "publishing again");
            view.state = RoleState::Running;
        }
        view.failures.end();
    }

    fn failed(&self, failures: &[SnapshotError]) {
        let view = &mut *self.view.borrow_mut();
        for error in failures {
            failed!(view.failures, kind_of(error), error, "no snapshot, retrying");
        }
        if view.state != RoleState::Stopping {
            view.state = RoleState::Retrying;
        }
    }
}

fn kind_of(error: &SnapshotError) -> ErrorKind {
    match error {
        SnapshotError::DiskFull(_) => ErrorKind::DiskFull,
        SnapshotError::Older { .. } | SnapshotError::OtherLedger { .. } => ErrorKind::Ledger,
        SnapshotError::InUse { .. } => ErrorKind::Contention,
        _ => ErrorKind::Storage,
    }
}
