//! The executive's upkeep of the ledger: rows that are old enough and in a verified
//! snapshot are pruned, at an interval and a little at a time. Verifying fetches a
//! whole snapshot, so it runs where it may block, and only when rows wait for it.
//!
//! What goes wrong here is no trouble of writing: it shows in the executive's status,
//! in the metrics and in the log, and the executive stays ready.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::backoff::{Backoff, jittered};
use crate::ctldb::{Ctldb, CtldbError};
use crate::executive::{HasOldRows, PruneError, PruneOrder, PruneOutcome, prune};
use crate::ledger::{Limit, Seq};
use crate::messages::status::ErrorReport;
use crate::metrics::{Component, ErrorKind, Metrics};
use crate::schema::Timestamp;
use crate::snapshot::fetch::FetchError;
use crate::snapshot::{Abort, VerifiedSnapshot, Verifier};

/// Rounds in the time that rows are kept, and the bounds of the time between two.
const ROUNDS: u32 = 20;
const INTERVAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(600));
/// The part of the interval that is left to chance, so that executives on one ctldb
/// don't come together.
const JITTER: f64 = 0.25;
/// The first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// How long the word of one verification counts, while what was verified is still
/// there. What it says of the rows before its seq stays true, unless its bytes have gone
/// bad meanwhile.
const TRUSTED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What asking the ctldb whether there is anything to do may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// How the ledger is kept short.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// Rows younger than this stay.
    pub keep: Duration,
    /// That nothing made by the original follows this ledger.
    pub no_original_reflectors: bool,
    /// The snapshots that must have what goes.
    pub verifier: Verifier,
}

/// Its part of the executive's status.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Details {
    /// When a round last ended well.
    ledger_pruned_at: Option<String>,
    ledger_rows_pruned: u64,
    /// The first row that pruning has left.
    ledger_low_water_seq: Option<Seq>,
    /// Of the snapshot on whose word rows were last pruned, or would have been.
    ledger_snapshot_seq: Option<Seq>,
    ledger_prune_failures: u64,
    ledger_prune_error: Option<ErrorReport>,
}

#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error("no verified snapshot: {0}")]
    Snapshot(#[from] FetchError),
    #[error(transparent)]
    Prune(#[from] PruneError),
}

/// What the actor and the task share; both live on one thread.
struct Shared {
    metrics: Arc<Metrics>,
    view: RefCell<(Details, Failures)>,
}

/// The task that prunes, if rows are not kept for ever.
pub(super) struct Retention {
    settings: Option<RetentionSettings>,
    shared: Rc<Shared>,
    task: Option<Task>,
}

impl Retention {
    pub fn new(settings: Option<RetentionSettings>, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Retention, Arc::clone(&metrics));
        let shared = Shared { metrics, view: RefCell::new((Details::default(), failures)) };
        Self { settings, shared: Rc::new(shared), task: None }
    }

    /// On a ctldb that is prepared.
    pub fn start<C: Ctldb>(&mut self, ctldb: C) {
        if let Some(settings) = self.settings.take() {
            let keeper = Keeper { ctldb, settings, known: None };
            let shared = Rc::clone(&self.shared);
            self.task = Some(Task::spawn(|stopping| run(shared, keeper, stopping)));
        }
    }

    pub fn details(&self) -> Details {
        let (details, failures) = &mut *self.shared.view.borrow_mut();
        details.ledger_prune_failures = failures.count();
        details.ledger_prune_error = failures.last();
        details.clone()
    }

    /// The task, to be stopped before the ctldb is closed.
    pub fn take_task(&mut self) -> Option<Task> {
        self.task.take()
    }
}

async fn run<C: Ctldb>(shared: Rc<Shared>, mut keeper: Keeper<C>, mut stopping: Stopping) {
    let interval = (keeper.settings.keep / ROUNDS).clamp(INTERVAL.0, INTERVAL.1);
    let mut backoff = Backoff::new(FIRST_RETRY.min(interval), interval);
    let mut pause = interval.mul_f64(rand::random_range(0.0..JITTER));
    while stopping.unless(tokio::time::sleep(pause)).await.is_some() {
        let abort = Abort::default();
        // Dropped where it stands when the node stops: a transaction is whole or not there.
        let Some(outcome) = stopping.unless(keeper.round(&abort)).await else {
            abort.abort();
            return;
        };
        pause = match outcome {
            Ok(outcome) => {
                shared.succeeded(outcome);
                backoff.reset();
                jittered(interval, JITTER)
            }
            Err(error) => {
                shared.failed(&error);
                backoff.next_pause()
            }
        };
    }
}

/// A verified snapshot and when that was done.
struct Known {
    snapshot: VerifiedSnapshot,
    at: Instant,
}

struct Keeper<C> {
    ctldb: C,
    settings: RetentionSettings,
    known: Option<Known>,
}

impl<C: Ctldb> Keeper<C> {
    /// Prunes what may go now, and says on the word of which snapshot; nothing where
    /// nothing is old enough.
    async fn round(&mut self, abort: &Abort) -> Result<Option<(PruneOutcome, Seq)>, RetentionError> {
        let keep = self.settings.keep;
        let asked = self.ctldb.read(HasOldRows { keep }, Instant::now() + ASK_TIMEOUT).await;
        if !asked.map_err(PruneError::from)? {
            return Ok(None);
        }
        let snapshot = self.verified(abort).await?;
        let seq = snapshot.seq;
        let no_original_reflectors = self.settings.no_original_reflectors;
        let order = PruneOrder { keep, snapshot, no_original_reflectors };
        let outcome = prune(&self.ctldb, order, |_| true).await?;
        if outcome.limit == Limit::Snapshot {
            // Older rows than the snapshot has wait for the next one.
            self.known = None;
        }
        Ok(Some((outcome, seq)))
    }

    async fn verified(&mut self, abort: &Abort) -> Result<VerifiedSnapshot, FetchError> {
        let known = self.known.take().filter(|known| known.at.elapsed() < TRUSTED_FOR);
        let (mut verifier, abort) = (self.settings.verifier.clone(), abort.clone());
        let verifying = tokio::task::spawn_blocking(move || {
            let known = match known.filter(|_| verifier.stands(&abort)) {
                Some(known) => Ok(known),
                None => verifier.lowest(&abort, &()).map(|snapshot| Known { snapshot, at: Instant::now() }),
            };
            (verifier, known)
        });
        // A panic has ended the process already.
        let Ok((verifier, known)) = verifying.await else { return Err(FetchError::Aborted) };
        // It remembers what it has fetched.
        self.settings.verifier = verifier;
        Ok(self.known.insert(known?).snapshot.clone())
    }
}

impl Shared {
    fn succeeded(&self, outcome: Option<(PruneOutcome, Seq)>) {
        let now = Timestamp::now();
        let (details, failures) = &mut *self.view.borrow_mut();
        failures.end();
        details.ledger_pruned_at = Some(now.to_string());
        let metrics = &self.metrics.executive;
        metrics.prune_last_success_seconds.set(now.unix_micros() as f64 / 1e6);
        let Some((outcome, snapshot_seq)) = outcome else { return };
        details.ledger_rows_pruned += outcome.rows;
        details.ledger_low_water_seq = outcome.low_water;
        details.ledger_snapshot_seq = Some(snapshot_seq);
        metrics.rows_pruned.inc_by(outcome.rows);
        metrics.low_water_seq.set(outcome.low_water.map_or(0, |seq| seq.0));
        if outcome.rows > 0 {
            let low_water = outcome.low_water.unwrap_or_default();
            tracing::info!(role = "executive", rows = outcome.rows, %low_water, "ledger pruned");
        }
    }

    fn failed(&self, error: &RetentionError) {
        let (_, failures) = &mut *self.view.borrow_mut();
        failed!(*failures, kind_of(error), error, "the ledger is not pruned, retrying");
    }
}

fn kind_of(error: &RetentionError) -> ErrorKind {
    match error {
        RetentionError::Snapshot(FetchError::DiskFull { .. }) => ErrorKind::DiskFull,
        RetentionError::Snapshot(FetchError::Unavailable(_) | FetchError::NotFound(_)) => ErrorKind::Unavailable,
        RetentionError::Snapshot(_) => ErrorKind::Storage,
        RetentionError::Prune(PruneError::Refused(_)) => ErrorKind::Refused,
        RetentionError::Prune(PruneError::Ctldb(CtldbError::Contention(_))) => ErrorKind::Contention,
        RetentionError::Prune(PruneError::Ctldb(_) | PruneError::Source(_)) => ErrorKind::Unavailable,
    }
}
