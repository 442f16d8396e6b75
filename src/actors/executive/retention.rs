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
use crate::messages::status::ErrorReport;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::{Limit, Seq, VerifiedSnapshot};
use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::executive::{HasOldRows, PruneError, PruneOrder, PruneOutcome, prune};
use ctlstore_ctldb::{Ctldb, CtldbError};
use ctlstore_ldb::snapshot::Verifier;
use ctlstore_ldb::snapshot::fetch::FetchError;

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

/// No snapshot is verified again before this has passed, or this part of the time that
/// rows are kept: each time is a whole download and a check, in each executive, and where
/// snapshots are taken every few minutes the verified one has gone by the next round. One
/// that was just verified has nearly all rows that are old enough: the others stay
/// longer by no more than this.
const BETWEEN_VERIFICATIONS: Duration = Duration::from_secs(6 * 60 * 60);
const PART_OF_KEEP: u32 = 4;

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
pub(super) struct RetentionDetails {
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
    view: RefCell<(RetentionDetails, Failures)>,
}

/// How a round ended.
enum Round {
    /// Nothing is old enough.
    Nothing,
    /// What could go has gone, on the word of the snapshot with this seq.
    Pruned(PruneOutcome, Seq),
    /// No verified snapshot stands, and it is too soon to verify another.
    Waits,
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
        let shared = Shared { metrics, view: RefCell::new((RetentionDetails::default(), failures)) };
        Self { settings, shared: Rc::new(shared), task: None }
    }

    /// On a ctldb that is prepared.
    pub fn start<C: Ctldb>(&mut self, ctldb: C) {
        if let Some(settings) = self.settings.take() {
            let between = (settings.keep / PART_OF_KEEP).min(BETWEEN_VERIFICATIONS);
            let keeper = Keeper { ctldb, settings, between, known: None };
            let shared = Rc::clone(&self.shared);
            self.task = Some(Task::spawn(|stopping| run(shared, keeper, stopping)));
        }
    }

    pub fn details(&self) -> RetentionDetails {
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
            Ok(round) => {
                shared.ended(round);
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
struct Admission {
    snapshot: VerifiedSnapshot,
    at: Instant,
    /// Whether older rows than it has wait for another one.
    is_used_up: bool,
}

impl Admission {
    fn new(snapshot: VerifiedSnapshot) -> Self {
        Self { snapshot, at: Instant::now(), is_used_up: false }
    }
}

struct Keeper<C> {
    ctldb: C,
    settings: RetentionSettings,
    /// The time between two verifications, at least.
    between: Duration,
    known: Option<Admission>,
}

impl<C: Ctldb> Keeper<C> {
    /// Prunes what may go now.
    async fn round(&mut self, abort: &Abort) -> Result<Round, RetentionError> {
        let keep = self.settings.keep;
        let asked = self.ctldb.read(HasOldRows { keep }, Instant::now() + ASK_TIMEOUT).await;
        if !asked.map_err(PruneError::from)? {
            return Ok(Round::Nothing);
        }
        let Some(snapshot) = self.verified(abort).await? else {
            return Ok(Round::Waits);
        };
        let seq = snapshot.seq;
        let no_original_reflectors = self.settings.no_original_reflectors;
        let order = PruneOrder { keep, snapshot, no_original_reflectors };
        let outcome = prune(&self.ctldb, order, |_| true).await?;
        if let Some(known) = &mut self.known {
            known.is_used_up = outcome.limit == Limit::Snapshot;
        }
        Ok(Round::Pruned(outcome, seq))
    }
}

impl<C> Keeper<C> {
    /// The snapshot whose word counts now, verified now where it is time for that; none
    /// where it is not.
    async fn verified(&mut self, abort: &Abort) -> Result<Option<VerifiedSnapshot>, FetchError> {
        let age = self.known.as_ref().map(|known| known.at.elapsed());
        let is_due = age.is_none_or(|age| age >= self.between);
        let may_count = self.known.as_ref().is_some_and(|known| !known.is_used_up && known.at.elapsed() < TRUSTED_FOR);
        let (mut verifier, abort) = (self.settings.verifier.clone(), abort.clone());
        let verifying = tokio::task::spawn_blocking(move || {
            let stands = may_count && verifier.stands(&abort);
            let verified = (!stands && is_due).then(|| verifier.lowest(&abort, &()));
            (verifier, stands, verified)
        });
        // A panic has ended the process already.
        let Ok((verifier, stands, verified)) = verifying.await else { return Err(FetchError::Aborted) };
        // It remembers what it has fetched.
        self.settings.verifier = verifier;
        if let Some(verified) = verified {
            self.known = None;
            self.known = Some(Admission::new(verified?));
        } else if !stands {
            return Ok(None);
        }
        Ok(self.known.as_ref().map(|known| known.snapshot.clone()))
    }
}

impl Shared {
    fn ended(&self, round: Round) {
        if let Round::Waits = round {
            // It did not go well, nor badly: what the round before showed stands.
            tracing::debug!(role = "executive", "old ledger rows wait until a snapshot is verified again");
            return;
        }
        let now = Timestamp::now();
        let (details, failures) = &mut *self.view.borrow_mut();
        failures.end();
        details.ledger_pruned_at = Some(now.to_string());
        let metrics = &self.metrics.executive;
        metrics.prune_last_success_seconds.set(now.unix_micros() as f64 / 1e6);
        let Round::Pruned(outcome, snapshot_seq) = round else { return };
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
        RetentionError::Snapshot(FetchError::DiskFull { .. } | FetchError::NoRoom { .. }) => ErrorKind::DiskFull,
        RetentionError::Snapshot(FetchError::Unavailable(_) | FetchError::NotFound(_)) => ErrorKind::Unavailable,
        RetentionError::Snapshot(_) => ErrorKind::Storage,
        RetentionError::Prune(PruneError::Refused(_)) => ErrorKind::Refused,
        RetentionError::Prune(PruneError::Ctldb(CtldbError::Contention(_))) => ErrorKind::Contention,
        RetentionError::Prune(PruneError::Ctldb(_) | PruneError::Source(_)) => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use ctlstore_ldb::snapshot::SnapshotUrl;
    use ctlstore_ldb::{Ldb, LdbOptions};

    #[actix_web::test]
    async fn a_snapshot_that_is_replaced_all_the_time_is_verified_no_more_often_than_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.db");
        let options = LdbOptions { wal_checkpoint_bytes: 1 << 20, changelog: None, history: None };
        let publish = |ledger_id: &str| {
            let mut ldb = Ldb::open(&directory.path().join(ledger_id), &options).unwrap();
            let incoming = directory.path().join("incoming.db");
            ldb.adopt_ledger_id(ledger_id).unwrap();
            ldb.copy_to(&incoming).unwrap();
            fs::rename(&incoming, &path).unwrap();
        };
        publish("one");
        let verifier = Verifier::new(&[SnapshotUrl::File(path.clone())], directory.path().join("verifying"));
        let settings = RetentionSettings { keep: Duration::ZERO, no_original_reflectors: false, verifier };
        let mut keeper = Keeper { ctldb: (), settings, between: BETWEEN_VERIFICATIONS, known: None };
        let abort = Abort::default();
        let first = keeper.verified(&abort).await.unwrap().expect("the first one is verified");
        assert_eq!(first.ledger_id.as_deref(), Some("one"));
        assert_eq!(keeper.verified(&abort).await.unwrap(), Some(first), "it stands");
        publish("two");
        // Neither is the one that has gone taken at its word, nor the one that nobody has checked.
        assert_eq!(keeper.verified(&abort).await.unwrap(), None);
        keeper.between = Duration::ZERO;
        let second = keeper.verified(&abort).await.unwrap().expect("it is time");
        assert_eq!(second.ledger_id.as_deref(), Some("two"));
        // One that has none of the rows that wait says nothing more either.
        keeper.known.as_mut().unwrap().is_used_up = true;
        keeper.between = BETWEEN_VERIFICATIONS;
        assert_eq!(keeper.verified(&abort).await.unwrap(), None);
    }
}
