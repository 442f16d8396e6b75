//! [`Retention`]: the executive's task that prunes the ledger at an interval. Rows go that are old enough
//! and in a verified snapshot. `ctlstore_ctldb::executive::prune` decides which rows, and deletes them in
//! small transactions.
//!
//! To verify a snapshot is to fetch all of it. So that runs on a thread that may block, and only if rows
//! wait to be pruned. A failure here shows in the executive's status, in the metrics and in the log. It
//! does not concern writes, so the executive stays ready.

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
use ctlstore_core::ledger::{PruneLimit, Seq, VerifiedSnapshot};
use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::executive::{HasOldRows, PruneError, PruneOrder, PruneOutcome, prune};
use ctlstore_ctldb::{Ctldb, CtldbError};
use ctlstore_ldb::snapshot::Verifier;
use ctlstore_ldb::snapshot::fetch::FetchError;

/// The rounds in the time for which rows are kept, and the bounds of the interval between two rounds.
const ROUNDS: u32 = 20;
const INTERVAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(600));
/// The random part of the interval, so that executives on one ctldb don't prune at the same time.
const JITTER: f64 = 0.25;
/// The first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// How long a verification counts, while the verified object is still there. Its statement about the rows
/// before its seq stays true, unless the object's bytes are damaged meanwhile.
const TRUSTED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest time between two verifications, and the part of the kept time that it is if that is shorter.
/// Each verification is a whole download in each executive. If snapshots are taken every few minutes, the
/// verified one is gone by the next round. A snapshot that was just verified has nearly all rows that are
/// old enough; the others stay longer by at most this time.
const BETWEEN_VERIFICATIONS: Duration = Duration::from_secs(6 * 60 * 60);
const PART_OF_KEEP: u32 = 4;

/// The time for asking the ctldb whether there are rows to prune.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// How the ledger is pruned.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// Rows younger than this stay.
    pub keep: Duration,
    /// The operator's word that no reflector of the original follows this ledger.
    pub no_original_reflectors: bool,
    /// Verifies the snapshots that must have the pruned rows.
    pub verifier: Verifier,
}

/// The retention's part of the executive's status.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct RetentionDetails {
    /// When a round last succeeded.
    ledger_pruned_at: Option<String>,
    ledger_rows_pruned: u64,
    /// The first row that pruning has left.
    ledger_low_water_seq: Option<Seq>,
    /// The seq of the snapshot of the last successful round, even if that round pruned no row.
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

/// The status that the actor reads and the task writes. Both run on one thread.
struct SharedStatus {
    metrics: Arc<Metrics>,
    view: RefCell<(RetentionDetails, Failures)>,
}

/// The outcome of a round.
enum Round {
    /// No row is old enough.
    Nothing,
    /// The rows that may go are gone. The snapshot with this seq has them.
    Pruned(PruneOutcome, Seq),
    /// No verified snapshot counts any more, and it is too soon to verify another.
    Waits,
}

/// The task that prunes, and its part of the status. Without settings there is no task.
pub(super) struct Retention {
    settings: Option<RetentionSettings>,
    shared: Rc<SharedStatus>,
    task: Option<Task>,
}

impl Retention {
    pub fn new(settings: Option<RetentionSettings>, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Retention, Arc::clone(&metrics));
        let shared = SharedStatus { metrics, view: RefCell::new((RetentionDetails::default(), failures)) };
        Self { settings, shared: Rc::new(shared), task: None }
    }

    /// Starts the task, on a ctldb that is prepared.
    pub fn start<C: Ctldb>(&mut self, ctldb: C) {
        if let Some(settings) = self.settings.take() {
            let between = (settings.keep / PART_OF_KEEP).min(BETWEEN_VERIFICATIONS);
            let keeper = Keeper { ctldb, settings, between, last: None };
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

    /// Takes the task out. It must be stopped before the ctldb is closed.
    pub fn take_task(&mut self) -> Option<Task> {
        self.task.take()
    }
}

async fn run<C: Ctldb>(shared: Rc<SharedStatus>, mut keeper: Keeper<C>, mut stopping: Stopping) {
    let interval = (keeper.settings.keep / ROUNDS).clamp(INTERVAL.0, INTERVAL.1);
    let mut backoff = Backoff::new(FIRST_RETRY.min(interval), interval);
    let mut pause = interval.mul_f64(rand::random_range(0.0..JITTER));
    while stopping.unless(tokio::time::sleep(pause)).await.is_some() {
        let abort = Abort::default();
        // A stop of the node drops the round wherever it is. Each transaction is whole or rolled back.
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

/// A verified snapshot.
struct Verification {
    snapshot: VerifiedSnapshot,
    /// When it was verified.
    at: Instant,
    /// Whether all of its rows that may go are gone, and further rows wait for a newer snapshot.
    is_used_up: bool,
}

impl Verification {
    fn new(snapshot: VerifiedSnapshot) -> Self {
        Self { snapshot, at: Instant::now(), is_used_up: false }
    }
}

struct Keeper<C> {
    ctldb: C,
    settings: RetentionSettings,
    /// The shortest time between two verifications.
    between: Duration,
    last: Option<Verification>,
}

impl<C: Ctldb> Keeper<C> {
    /// Prunes the rows that may go now.
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
        if let Some(last) = &mut self.last {
            last.is_used_up = outcome.limit == PruneLimit::Snapshot;
        }
        Ok(Round::Pruned(outcome, seq))
    }
}

impl<C> Keeper<C> {
    /// The verified snapshot that counts now. If the last one counts no more, another is verified, if that is
    /// due; otherwise `None`.
    async fn verified(&mut self, abort: &Abort) -> Result<Option<VerifiedSnapshot>, FetchError> {
        let age = self.last.as_ref().map(|last| last.at.elapsed());
        let is_due = age.is_none_or(|age| age >= self.between);
        let may_count = self.last.as_ref().is_some_and(|last| !last.is_used_up && last.at.elapsed() < TRUSTED_FOR);
        let mut verifier = self.settings.verifier.clone();
        let abort = abort.clone();
        let verifying = tokio::task::spawn_blocking(move || {
            let stands = may_count && verifier.stands(&abort);
            let verified = (!stands && is_due).then(|| verifier.lowest(&abort, &()));
            (verifier, stands, verified)
        });
        // A panic has ended the process already.
        let Ok((verifier, stands, verified)) = verifying.await else { return Err(FetchError::Aborted) };
        // The verifier remembers what it has fetched.
        self.settings.verifier = verifier;
        if let Some(verified) = verified {
            self.last = None;
            self.last = Some(Verification::new(verified?));
        } else if !stands {
            return Ok(None);
        }
        Ok(self.last.as_ref().map(|last| last.snapshot.clone()))
    }
}

impl SharedStatus {
    fn ended(&self, round: Round) {
        if let Round::Waits = round {
            // This is neither a success nor a failure, so the status stays as the round before left it.
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
        let mut keeper = Keeper { ctldb: (), settings, between: BETWEEN_VERIFICATIONS, last: None };
        let abort = Abort::default();
        let first = keeper.verified(&abort).await.unwrap().expect("the first one is verified");
        assert_eq!(first.ledger_id.as_deref(), Some("one"));
        assert_eq!(keeper.verified(&abort).await.unwrap(), Some(first), "it stands");
        publish("two");
        // The first one is gone and counts no more. The second one is not verified.
        assert_eq!(keeper.verified(&abort).await.unwrap(), None);
        keeper.between = Duration::ZERO;
        let second = keeper.verified(&abort).await.unwrap().expect("it is time");
        assert_eq!(second.ledger_id.as_deref(), Some("two"));
        // A snapshot that has none of the waiting rows counts no more either.
        keeper.last.as_mut().unwrap().is_used_up = true;
        keeper.between = BETWEEN_VERIFICATIONS;
        assert_eq!(keeper.verified(&abort).await.unwrap(), None);
    }
}
