//! The applier's actor: gives ledger batches, one at a time, to the thread that owns the LDB's write
//! connection. While that thread works, it answers other messages. Entry point: [`Applier::open`]. `thread` has the thread, `managed_ldb` the LDB as the thread sees it.

mod bootstrap;
mod corruption;
mod integrity_check;
mod known_end;
mod managed_ldb;
mod thread;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::messages::ledger::{
    AdoptLedger, ApplyBatch, ApplyFailed, Bootstrap, CaughtUp, Committed, GetPosition, SlowestCommit,
};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, ExecutionPath, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::{Applied, ApplyError, ClaimedLdb, LdbError, LdbOptions, StatementLimits, StatementWatch};

pub use self::bootstrap::BootstrapOptions;

use self::bootstrap::{BootstrapDetails, BootstrapRecord};
use self::known_end::KnownEnd;
use self::managed_ldb::{ManagedLdb, NoLdb};
use self::thread::{Job, LdbWriterThread};
use super::failures::{Failures, failed, kind_of_ldb};

/// What a failure means for the work, in the log's words.
const CANT_APPLY: &str = "can't apply, retrying";
const NO_CHANGELOG: &str = "can't write the changelog; followers will be told to start over";
const NO_MARK: &str = "can't say beside the ldb how old it is; readers of other processes take it for older";
const NO_SEQ_FILE: &str = "can't touch the seq file; who waits for it learns of commits later";

/// The kinds of the applier's work. Each fails and succeeds on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    Position,
    Bootstrap,
    Adopt,
    Apply,
    Inspect,
    Upkeep,
}

/// The applier's part of `/status`.
#[derive(Debug, Default, Serialize)]
struct Details {
    ledger_id: Option<String>,
    /// The ledger row that is being applied now, and for how long.
    applying: Option<Applying>,
    /// When the last applied statement was written, by the ctldb's clock.
    applied_at: Option<String>,
    statements: u64,
    rows: u64,
    commits: u64,
    failures: u64,
    changelog_entries: u64,
    wal_bytes: u64,
    /// Why changelog entries can't be written; `None` while they can.
    changelog_error: Option<String>,
    /// Why the seq file can't be touched; `None` while it can.
    seq_file_error: Option<String>,
    /// Why the `.caughtup` file can't be written; `None` while it can.
    caught_up_error: Option<String>,
    /// How fetching snapshots goes; `None` if no source is set.
    bootstrap: Option<BootstrapDetails>,
}

/// The ledger row that is being applied.
#[derive(Debug, Serialize)]
struct Applying {
    seq: Seq,
    /// For how long.
    seconds: f64,
}

pub struct Applier {
    /// Until the actor is started.
    ldb_slot: Option<ManagedLdb>,
    thread: Option<LdbWriterThread>,
    watch: Arc<StatementWatch>,
    metrics: Arc<Metrics>,
    state: RoleState,
    seq: Seq,
    leader_ts: Option<Timestamp>,
    caught_up: KnownEnd,
    /// The slowest commit since `SlowestCommit` last asked.
    slowest_commit: Duration,
    /// The work that fails at the moment.
    failing: HashSet<Work>,
    failures: Failures,
    changelog_failures: Failures,
    mark_failures: Failures,
    details: Details,
    /// `None` if no source is set.
    record: Option<Arc<BootstrapRecord>>,
    /// Whether the LDB was found damaged and given up, and is not replaced yet.
    is_given_up: bool,
    /// Whether an integrity check runs.
    is_looking: bool,
    /// Snapshots that replaced the LDB, as the actor last saw it in the record.
    fetched: u64,
    /// Ends a fetch.
    abort: Abort,
    /// Actors that hear of every commit.
    waiting: Vec<Recipient<Committed>>,
}

impl Applier {
    /// Claims and opens the LDB at `path`. If it is missing or unreadable and a source is set, a snapshot
    /// will replace it; without a source a missing one is made.
    ///
    /// # Errors
    /// If the path can't be claimed or the LDB can't be opened.
    pub fn open(
        path: &Path,
        options: LdbOptions,
        limits: StatementLimits,
        bootstrap: BootstrapOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LdbError> {
        let abort = Abort::default();
        let record = BootstrapRecord::new(Arc::clone(&metrics));
        let shown = (!bootstrap.urls.is_empty()).then(|| Arc::clone(&record));
        let bootstrap = bootstrap::Bootstrap::new(bootstrap, abort.clone(), record);
        let home = ClaimedLdb::claim_with(path, limits)?;
        let watch = home.watch();
        let mut ldb_slot = ManagedLdb::open(home, options, bootstrap)?;
        let position = ldb_slot.open_position()?.unwrap_or_default();
        metrics.applier.seq.set(position.seq.0);
        Ok(Self {
            ldb_slot: Some(ldb_slot),
            thread: None,
            watch,
            failing: HashSet::new(),
            failures: Failures::new(Component::Applier, Arc::clone(&metrics)),
            changelog_failures: Failures::new(Component::Changelog, Arc::clone(&metrics)),
            mark_failures: Failures::new(Component::Applier, Arc::clone(&metrics)),
            metrics,
            state: RoleState::Starting,
            seq: position.seq,
            leader_ts: position.leader_ts,
            caught_up: KnownEnd::beside(path),
            slowest_commit: Duration::ZERO,
            details: Details { ledger_id: position.ledger_id, ..Details::default() },
            record: shown,
            is_given_up: false,
            is_looking: false,
            fetched: 0,
            abort,
            waiting: Vec::new(),
        })
    }

    /// Shows which statement is being applied and can stop it, even while the actor is busy.
    pub fn watch(&self) -> Arc<StatementWatch> {
        Arc::clone(&self.watch)
    }

    /// Sets the actors that hear of every commit.
    pub fn telling(self, waiting: Vec<Recipient<Committed>>) -> Self {
        Self { waiting, ..self }
    }

    /// Gives a job to the thread and resolves with its answer.
    fn ask<T: 'static>(
        &mut self,
        job: impl FnOnce(oneshot::Sender<T>) -> Job,
    ) -> impl Future<Output = Result<T, ApplyFailed>> + 'static {
        let (reply, answer) = oneshot::channel();
        let sent = self.thread.as_ref().ok_or_else(ended).and_then(|thread| thread.send(job(reply)));
        async move {
            sent?;
            answer.await.map_err(|_| ended())
        }
    }

    fn applied(&mut self, applied: &Applied) {
        self.seq = applied.seq;
        self.leader_ts = applied.leader_ts.or(self.leader_ts);
        self.details.statements += applied.statements;
        self.details.rows += applied.rows_changed;
        self.details.commits += 1;
        self.slowest_commit = self.slowest_commit.max(applied.execute + applied.commit);
        self.count(applied);
        for waiting in &self.waiting {
            // An actor with a full mailbox looks for new rows itself soon.
            let _ = waiting.try_send(Committed { seq: self.seq });
        }
    }

    fn count(&self, applied: &Applied) {
        let applier = &self.metrics.applier;
        applier.seq.set(applied.seq.0);
        applier.rows.inc_by(applied.rows_changed);
        applier.statements(ExecutionPath::Bound, applied.bound);
        applier.statements(ExecutionPath::Text, applied.statements - applied.bound);
        applier.transactions.inc_by(applied.transactions);
        applier.commit_statements.observe(applied.statements as f64);
        applier.commit_seconds.observe((applied.execute + applied.commit).as_secs_f64());
    }

    /// Records the LDB's position. It may be a different file than last time.
    fn record_position(&mut self, work: Work, found: Result<LdbPosition, NoLdb>) -> Result<LdbPosition, ApplyFailed> {
        let position = found.map_err(|error| {
            let kind = match &error {
                NoLdb::Ldb(error) => kind_of_ldb(error),
                NoLdb::Snapshot(none) => none.kind,
            };
            self.record_failure(work, kind, &error)
        })?;
        self.seq = position.seq;
        self.leader_ts = position.leader_ts;
        self.details.ledger_id.clone_from(&position.ledger_id);
        self.metrics.applier.seq.set(position.seq.0);
        let fetched = self.record.as_ref().map_or(0, |record| record.details().fetched);
        let is_another = std::mem::replace(&mut self.fetched, fetched) != fetched;
        if std::mem::take(&mut self.is_given_up) || is_another {
            // Other failures were failures of the LDB that is replaced.
            self.failing.retain(|failing| *failing == work);
        }
        self.record_success(work);
        Ok(position)
    }

    fn record_success(&mut self, work: Work) {
        self.failing.remove(&work);
        if self.failing.is_empty() && self.state == RoleState::Retrying {
            tracing::info!(role = "applier", seq = %self.seq, "working again");
            self.failures.end();
            self.state = RoleState::Running;
        }
    }

    fn record_failure(&mut self, work: Work, kind: ErrorKind, error: &impl ToString) -> ApplyFailed {
        failed!(self.failures, kind, error, CANT_APPLY);
        self.failing.insert(work);
        if self.state != RoleState::Stopping {
            self.state = RoleState::Retrying;
        }
        ApplyFailed { kind, message: error.to_string() }
    }

    /// Writes the time at which the LDB had all of the ledger beside the LDB, if the last write is long enough ago.
    fn mark_caught_up(&mut self, ctx: &mut Context<Self>) {
        let Some(write) = self.caught_up.due() else { return };
        let written = tokio::task::spawn_blocking(write).into_actor(self);
        ctx.spawn(written.map(|outcome, this, _| match outcome {
            Ok(Err(error)) => {
                this.details.caught_up_error = Some(error.to_string());
                failed!(this.mark_failures, ErrorKind::Storage, error, NO_MARK);
            }
            _ => {
                this.details.caught_up_error = None;
                this.mark_failures.end();
            }
        }));
    }

    /// Records how writing the changelog and the seq file went. Their failures do not stop the applier.
    fn record_side_files(&mut self, upkeep: &thread::Upkeep) {
        let details = &mut self.details;
        details.changelog_entries = upkeep.changelog.entries;
        match &upkeep.changelog_error {
            Some(error) if details.changelog_error.as_ref() != Some(error) => {
                failed!(self.changelog_failures, ErrorKind::Storage, error, NO_CHANGELOG);
            }
            Some(_) => {}
            None => self.changelog_failures.end(),
        }
        details.changelog_error.clone_from(&upkeep.changelog_error);
        match &upkeep.seq_file_error {
            Some(error) if details.seq_file_error.as_ref() != Some(error) => {
                failed!(self.failures, ErrorKind::Storage, error, NO_SEQ_FILE);
            }
            _ => {}
        }
        details.seq_file_error.clone_from(&upkeep.seq_file_error);
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(ldb_slot) = self.ldb_slot.take() else { return };
        match LdbWriterThread::start(ldb_slot, ctx.address().recipient(), self.metrics.clone()) {
            Ok(thread) => {
                self.thread = Some(thread);
                self.state = RoleState::Running;
            }
            // A later try would fail, too. As a panic this ends the process.
            Err(error) => panic!("no thread for the ldb: {error}"),
        }
    }
}

impl Handler<ApplyBatch> for Applier {
    type Result = ResponseActFuture<Self, Result<Seq, ApplyFailed>>;

    fn handle(&mut self, ApplyBatch(batch): ApplyBatch, _: &mut Self::Context) -> Self::Result {
        let outcome = self.ask(|reply| Job::Apply(batch, reply));
        Box::pin(outcome.into_actor(self).map(|outcome, this, _| match outcome? {
            Ok(applied) => {
                this.applied(&applied);
                this.record_success(Work::Apply);
                this.record_success(Work::Bootstrap);
                Ok(this.seq)
            }
            Err(error) => {
                if let ApplyError::Statement { applied: Some(before), .. } = &error {
                    this.applied(before);
                }
                if let ApplyError::Ldb(stopped @ LdbError::Stopped { .. }) = &error {
                    // A stop of the node is no failure.
                    tracing::info!(role = "applier", "{stopped}");
                    return Err(ApplyFailed { kind: ErrorKind::Internal, message: stopped.to_string() });
                }
                Err(this.record_failure(Work::Apply, kind_of(&error), &error))
            }
        }))
    }
}

impl Handler<GetPosition> for Applier {
    type Result = ResponseActFuture<Self, Result<LdbPosition, ApplyFailed>>;

    fn handle(&mut self, GetPosition(ledger): GetPosition, _: &mut Self::Context) -> Self::Result {
        let outcome = self.ask(|reply| Job::Position(ledger, reply));
        Box::pin(outcome.into_actor(self).map(|outcome, this, _| this.record_position(Work::Position, outcome?)))
    }
}

impl Handler<Bootstrap> for Applier {
    type Result = ResponseActFuture<Self, Result<LdbPosition, ApplyFailed>>;

    fn handle(&mut self, Bootstrap(ledger): Bootstrap, _: &mut Self::Context) -> Self::Result {
        let outcome = self.ask(|reply| Job::Replace(ledger, reply));
        Box::pin(outcome.into_actor(self).map(|outcome, this, _| this.record_position(Work::Bootstrap, outcome?)))
    }
}

impl Handler<AdoptLedger> for Applier {
    type Result = ResponseActFuture<Self, Result<(), ApplyFailed>>;

    fn handle(&mut self, AdoptLedger(id): AdoptLedger, _: &mut Self::Context) -> Self::Result {
        let outcome = self.ask({
            let id = id.clone();
            |reply| Job::Adopt(id, reply)
        });
        Box::pin(outcome.into_actor(self).map(|outcome, this, _| {
            outcome?.map_err(|error| this.record_failure(Work::Adopt, kind_of_ldb(&error), &error))?;
            this.record_success(Work::Adopt);
            this.details.ledger_id = Some(id);
            Ok(())
        }))
    }
}

impl Handler<CaughtUp> for Applier {
    type Result = ();

    fn handle(&mut self, caught_up: CaughtUp, ctx: &mut Self::Context) {
        if caught_up.seq <= self.seq {
            self.caught_up.learn(caught_up.seq, caught_up.at);
            self.mark_caught_up(ctx);
            // The LDB has all of the ledger, so rows that could not be applied are no longer in it.
            self.record_success(Work::Apply);
            self.record_success(Work::Bootstrap);
        }
    }
}

impl Handler<SlowestCommit> for Applier {
    type Result = MessageResult<SlowestCommit>;

    fn handle(&mut self, _: SlowestCommit, _: &mut Self::Context) -> Self::Result {
        MessageResult(std::mem::take(&mut self.slowest_commit))
    }
}

impl Handler<thread::Upkeep> for Applier {
    type Result = ();

    fn handle(&mut self, upkeep: thread::Upkeep, _: &mut Self::Context) {
        self.details.wal_bytes = upkeep.wal_bytes;
        self.record_side_files(&upkeep);
        match upkeep.outcome {
            Ok(()) => self.record_success(Work::Upkeep),
            Err(error) => drop(self.record_corruption(Work::Upkeep, &error)),
        }
    }
}

impl Handler<GetStatus> for Applier {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let at_work = self.watch.at_work();
        self.details.applying = at_work.map(|(seq, time)| Applying { seq, seconds: time.as_secs_f64() });
        self.details.failures = self.failures.count();
        self.details.applied_at = self.leader_ts.as_ref().map(ToString::to_string);
        self.details.bootstrap = self.record.as_ref().map(|record| record.details());
        let is_fetching = self.record.as_ref().is_some_and(|record| record.is_active());
        let state =
            if is_fetching && self.state != RoleState::Stopping { RoleState::Bootstrapping } else { self.state };
        let status = RoleStatus::new(ActorKind::Applier, state).with_error(self.failures.last());
        let mut status = status.with_details(&self.details);
        status.last_seq = Some(self.seq);
        let lag = self.caught_up.lag(self.seq, self.leader_ts, Timestamp::now());
        status.lag_seconds = lag.map(|lag| lag.as_secs_f64());
        self.metrics.applier.lag_seconds.set(status.lag_seconds.unwrap_or(f64::NAN));
        status
    }
}

impl Handler<Stop> for Applier {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.state = RoleState::Stopping;
        self.abort.abort();
        self.watch.stop();
        let thread = self.thread.take();
        let ended = async move {
            if let Some(thread) = thread {
                thread.join().await;
            }
        };
        Box::pin(ended.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

fn ended() -> ApplyFailed {
    ApplyFailed { kind: ErrorKind::Internal, message: "the ldb's writer thread has ended".to_owned() }
}

fn kind_of(error: &ApplyError) -> ErrorKind {
    match error {
        ApplyError::Statement { .. } => ErrorKind::Statement,
        ApplyError::Ldb(error) => kind_of_ldb(error),
    }
}
