//! Records the result of each piece of the applier's work: its state, its failures and its counts. Tells other actors of
//! commits, and answers for `/status`. Entry points: [`Applier::applied`] and the other methods that record a result.
//! It decides nothing about the LDB.

use actix::prelude::*;

use crate::actors::failures::{failed, kind_of_ldb};
use crate::messages::ledger::{ApplyFailed, Committed};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::metrics::{ErrorKind, ExecutionPath};
use ctlstore_core::ledger::LdbPosition;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::Applied;

use super::managed_ldb::ObtainLdbError;
use super::status::Applying;
use super::work::Work;
use super::{Applier, thread};

/// The meaning of a failure, in the log's words.
const NO_CHANGELOG: &str = "can't write the changelog; followers will be told to start over";
const NO_MARK: &str = "can't say beside the ldb how old it is; readers of other processes take it for older";
const NO_SEQ_FILE: &str = "can't touch the seq file; who waits for it learns of commits later";

impl Applier {
    pub(super) fn applied(&mut self, applied: &Applied) {
        self.seq = applied.seq;
        self.leader_ts = applied.leader_ts.or(self.leader_ts);
        self.details.statements += applied.statements;
        self.details.rows += applied.rows_changed;
        self.details.commits += 1;
        self.slowest_commit = self.slowest_commit.max(applied.execute + applied.commit);
        self.count(applied);
        self.tell_of_commit();
    }

    fn count(&self, applied: &Applied) {
        self.gauges.set_seq(applied.seq.0);
        let applier = &self.metrics.applier;
        applier.rows.inc_by(applied.rows_changed);
        applier.statements(ExecutionPath::Bound, applied.bound);
        applier.statements(ExecutionPath::Text, applied.statements - applied.bound);
        applier.transactions.inc_by(applied.transactions);
        applier.commit_statements.observe(applied.statements as f64);
        applier.commit_seconds.observe((applied.execute + applied.commit).as_secs_f64());
    }

    fn tell_of_commit(&self) {
        for waiting in &self.waiting {
            // An actor with a full mailbox looks for new rows itself soon.
            let _ = waiting.try_send(Committed { seq: self.seq });
        }
    }

    /// Records the LDB's position. It may be a different file than last time, or have been brought forward.
    pub(super) fn record_position(
        &mut self,
        work: Work,
        found: Result<LdbPosition, ObtainLdbError>,
    ) -> Result<LdbPosition, ApplyFailed> {
        let position = found.map_err(|error| {
            let kind = match &error {
                ObtainLdbError::Ldb(error) => kind_of_ldb(error),
                ObtainLdbError::Snapshot(none) => none.kind,
            };
            self.record_failure(work, kind, &error)
        })?;
        let before = std::mem::replace(&mut self.seq, position.seq);
        self.leader_ts = position.leader_ts;
        self.details.ledger_id.clone_from(&position.ledger_id);
        self.gauges.set_seq(position.seq.0);
        if position.seq > before {
            self.tell_of_commit();
        }
        let fetched = self.record.as_ref().map_or(0, |record| record.details().fetched);
        let is_another = std::mem::replace(&mut self.fetched, fetched) != fetched;
        if std::mem::take(&mut self.is_given_up) || is_another {
            // Other failures were failures of the LDB, or of rows, that are replaced.
            self.failing.retain(|failing| *failing == work);
        }
        self.record_success(work);
        Ok(position)
    }

    pub(super) fn record_success(&mut self, work: Work) {
        self.failing.remove(&work);
        if self.failing.is_empty() && self.state == RoleState::Retrying {
            tracing::info!(role = "applier", seq = %self.seq, "working again");
            self.failures.end();
            self.state = RoleState::Running;
        }
    }

    /// Writes the time at which the LDB had all of the ledger beside the LDB, if the last write is long enough ago.
    pub(super) fn mark_caught_up(&mut self, ctx: &mut Context<Self>) {
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
        if let (Some(ldb), Some(reason)) = (&self.details.ldb, &mut status.not_ready) {
            *reason = format!("{ldb} {reason}");
        }
        status.last_seq = Some(self.seq);
        let lag = self.caught_up.lag(self.seq, self.leader_ts, Timestamp::now());
        status.lag_seconds = lag.map(|lag| lag.as_secs_f64());
        self.gauges.set_lag_seconds(status.lag_seconds.unwrap_or(f64::NAN));
        status
    }
}
