//! The LDB applier: hands ledger batches to the thread that owns the LDB's one write
//! connection, one at a time, and stays responsive while that thread works.

mod thread;

use std::sync::Arc;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::ldb::{Applied, ApplyError, Ldb, LdbError};
use crate::ledger::{LdbPosition, Seq, lag};
use crate::messages::ledger::{AdoptLedger, ApplyBatch, ApplyFailed, CaughtUp, GetPosition};
use crate::messages::status::{ErrorReport, GetStatus, Role, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, ExecutionPath, Metrics};
use crate::schema::Timestamp;

use self::thread::{Job, WriterThread};

/// What the applier shows of itself.
#[derive(Debug, Default, Serialize)]
struct Details {
    ledger_id: Option<String>,
    statements: u64,
    rows: u64,
    commits: u64,
    failures: u64,
    changelog_entries: u64,
    wal_bytes: u64,
    /// Why changelog entries can't be written, while they can't.
    changelog_error: Option<String>,
}

pub struct Applier {
    /// Until the actor is started.
    ldb: Option<Ldb>,
    thread: Option<WriterThread>,
    metrics: Arc<Metrics>,
    state: RoleState,
    seq: Seq,
    leader_ts: Option<Timestamp>,
    caught_up_at: Option<Timestamp>,
    last_error: Option<ErrorReport>,
    details: Details,
}

impl Applier {
    /// Takes over an open LDB.
    pub fn new(ldb: Ldb, position: &LdbPosition, metrics: Arc<Metrics>) -> Self {
        metrics.applier.seq.set(position.seq.0);
        Self {
            ldb: Some(ldb),
            thread: None,
            metrics,
            state: RoleState::Starting,
            seq: position.seq,
            leader_ts: position.leader_ts,
            caught_up_at: None,
            last_error: None,
            details: Details { ledger_id: position.ledger_id.clone(), ..Details::default() },
        }
    }

    /// Hands a job to the thread and resolves with its answer.
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
        self.count(applied);
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

    fn works(&mut self) {
        if self.state == RoleState::Retrying {
            tracing::info!(role = "applier", seq = %self.seq, "applying again");
        }
        self.state = RoleState::Running;
    }

    fn failed(&mut self, kind: ErrorKind, message: &str) -> ApplyFailed {
        let repeats =
            self.state == RoleState::Retrying && self.last_error.as_ref().is_some_and(|last| last.message == message);
        if repeats {
            tracing::debug!(role = "applier", error = message, "still can't apply");
        } else {
            tracing::error!(role = "applier", error = message, "can't apply, retrying");
        }
        self.metrics.error(Component::Applier, kind);
        self.state = RoleState::Retrying;
        self.details.failures += 1;
        self.last_error = Some(ErrorReport::now(kind, message));
        ApplyFailed { kind, message: message.to_owned() }
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(ldb) = self.ldb.take() else { return };
        match WriterThread::start(ldb, ctx.address().recipient(), self.metrics.clone()) {
            Ok(thread) => {
                self.thread = Some(thread);
                self.state = RoleState::Running;
            }
            Err(error) => drop(self.failed(ErrorKind::Internal, &format!("no thread for the ldb: {error}"))),
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
                this.works();
                Ok(this.seq)
            }
            Err(error) => {
                if let ApplyError::Statement { applied: Some(before), .. } = &error {
                    this.applied(before);
                }
                Err(this.failed(kind_of(&error), &error.to_string()))
            }
        }))
    }
}

impl Handler<GetPosition> for Applier {
    type Result = ResponseActFuture<Self, Result<LdbPosition, ApplyFailed>>;

    fn handle(&mut self, _: GetPosition, _: &mut Self::Context) -> Self::Result {
        let outcome = self.ask(Job::Position);
        Box::pin(
            outcome
                .into_actor(self)
                .map(|outcome, this, _| outcome?.map_err(|error| this.failed(kind_of_ldb(&error), &error.to_string()))),
        )
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
            outcome?.map_err(|error| this.failed(kind_of_ldb(&error), &error.to_string()))?;
            this.details.ledger_id = Some(id);
            Ok(())
        }))
    }
}

impl Handler<CaughtUp> for Applier {
    type Result = ();

    fn handle(&mut self, caught_up: CaughtUp, _: &mut Self::Context) {
        if caught_up.seq <= self.seq {
            self.caught_up_at = Some(caught_up.at);
        }
    }
}

impl Handler<thread::Upkeep> for Applier {
    type Result = ();

    fn handle(&mut self, upkeep: thread::Upkeep, _: &mut Self::Context) {
        self.details.wal_bytes = upkeep.wal_bytes;
        self.details.changelog_entries = upkeep.changelog.entries;
        if let Err(error) = upkeep.outcome {
            self.failed(kind_of_ldb(&error), &error.to_string());
        }
        let is_new = upkeep.changelog_error.is_some() && upkeep.changelog_error != self.details.changelog_error;
        if let (true, Some(error)) = (is_new, &upkeep.changelog_error) {
            tracing::error!(role = "applier", %error, "can't write the changelog; followers will be told to start over");
            self.metrics.error(Component::Changelog, ErrorKind::Storage);
        }
        self.details.changelog_error = upkeep.changelog_error;
    }
}

impl Handler<GetStatus> for Applier {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let mut status = RoleStatus::new(Role::Applier, self.state).with_details(&self.details);
        status.last_seq = Some(self.seq);
        status.lag_seconds = lag(self.leader_ts, self.caught_up_at, Timestamp::now()).map(|lag| lag.as_secs_f64());
        self.metrics.applier.lag_seconds.set(status.lag_seconds.unwrap_or(f64::NAN));
        status.last_error = self.last_error.clone();
        status
    }
}

impl Handler<Stop> for Applier {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.state = RoleState::Stopping;
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

fn kind_of_ldb(error: &LdbError) -> ErrorKind {
    match error {
        LdbError::DiskFull { .. } => ErrorKind::DiskFull,
        LdbError::OtherLedger { .. } => ErrorKind::Ledger,
        LdbError::Busy { .. } => ErrorKind::Contention,
        _ => ErrorKind::Storage,
    }
}
