//! The applier's actor: gives ledger batches, one at a time, to the thread that owns the LDB's write
//! connection. While that thread works, it answers other messages. Entry point: [`Applier::open`].
//!
//! `thread` has the thread, `managed_ldb` the LDB as the thread sees it. `outcome` records the result of each piece of
//! work, and `status` answers for the actor. If a host has several LDBs, each has its own applier. The poller feeds them
//! all.

mod bootstrap;
mod catch_up;
mod corruption;
mod integrity_check;
mod known_end;
mod managed_ldb;
mod outcome;
mod status;
mod thread;
mod work;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::messages::ledger::{
    AdoptLedger, ApplyBatch, ApplyFailed, Bootstrap, CaughtUp, Committed, GetPosition, SlowestCommit,
};
use crate::messages::status::RoleState;
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, LdbGauges, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::{ApplyError, ClaimedLdb, LdbError, LdbOptions, StatementLimits, StatementWatch};
use ctlstore_reader::read::Rotation;

pub use self::bootstrap::BootstrapOptions;

use self::bootstrap::BootstrapRecord;
use self::known_end::KnownEnd;
use self::managed_ldb::ManagedLdb;
use self::status::Details;
use self::thread::{Job, LdbWriterThread};
use self::work::{Work, kind_of};
use super::failures::{Failures, failed, kind_of_ldb};

/// The meaning of a failure for the work, in the log's words.
const CANT_APPLY: &str = "can't apply, retrying";

/// One LDB, and what is written beside it.
#[derive(Debug, Clone)]
pub struct ApplierOptions {
    pub path: PathBuf,
    /// Whether it is the only LDB of this host, or the first of several.
    pub is_first: bool,
    /// If this host has several LDBs.
    pub rotation: Option<Rotation>,
    pub ldb: LdbOptions,
    pub limits: StatementLimits,
    pub bootstrap: BootstrapOptions,
}

pub struct Applier {
    /// Until the actor is started.
    ldb_slot: Option<ManagedLdb>,
    thread: Option<LdbWriterThread>,
    watch: Arc<StatementWatch>,
    metrics: Arc<Metrics>,
    gauges: Arc<LdbGauges>,
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
    /// `None` if no source is set, and there is no other LDB to copy.
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
    /// Claims and opens the LDB. If it is missing or unreadable and there is a source, a snapshot will
    /// replace it; without a source a missing one is made.
    ///
    /// # Errors
    /// If the path can't be claimed or the LDB can't be opened.
    pub fn open(options: ApplierOptions, metrics: Arc<Metrics>) -> Result<Self, LdbError> {
        let ApplierOptions { path, is_first, rotation, ldb, limits, bootstrap } = options;
        let abort = Abort::default();
        let record = BootstrapRecord::new(Arc::clone(&metrics));
        let bootstrap = bootstrap::LdbFetch::new(bootstrap, abort.clone(), Arc::clone(&record));
        let shown = bootstrap.has_sources().then_some(record);
        let home = ClaimedLdb::claim_with(&path, limits)?;
        let watch = home.watch();
        let name = rotation.as_ref().map(|_| path.display().to_string());
        let mut ldb_slot = ManagedLdb::open(home, ldb, rotation, bootstrap)?;
        let position = ldb_slot.open_position()?.unwrap_or_default();
        let gauges = Arc::new(metrics.applier.ldb(is_first, name.as_deref()));
        gauges.set_seq(position.seq.0);
        let details = Details { ledger_id: position.ledger_id, ..Details::of(name) };
        Ok(Self {
            ldb_slot: Some(ldb_slot),
            thread: None,
            watch,
            failing: HashSet::new(),
            failures: Failures::new(Component::Applier, Arc::clone(&metrics)),
            changelog_failures: Failures::new(Component::Changelog, Arc::clone(&metrics)),
            mark_failures: Failures::new(Component::Applier, Arc::clone(&metrics)),
            metrics,
            gauges,
            state: RoleState::Starting,
            seq: position.seq,
            leader_ts: position.leader_ts,
            caught_up: KnownEnd::beside(&path),
            slowest_commit: Duration::ZERO,
            details,
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

    /// Records a failure and logs it, here for the sake of the log's target.
    fn record_failure(&mut self, work: Work, kind: ErrorKind, error: &impl ToString) -> ApplyFailed {
        failed!(self.failures, kind, error, CANT_APPLY);
        self.failing.insert(work);
        if self.state != RoleState::Stopping {
            self.state = RoleState::Retrying;
        }
        ApplyFailed { kind, message: error.to_string() }
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
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(ldb_slot) = self.ldb_slot.take() else { return };
        let upkeep = ctx.address().recipient();
        let gauges = Arc::clone(&self.gauges);
        match LdbWriterThread::start(ldb_slot, upkeep, self.metrics.clone(), gauges) {
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
