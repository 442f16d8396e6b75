//! What the executive says of itself: whether it can take a request, whether the ctldb does what it is asked, and
//! how often it took more than one try.

use actix::Handler;
use serde::Serialize;

use crate::actors::failures::failed;
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::metrics::{ErrorKind, RetryReason};
use ctlstore_ctldb::executive::ExecutiveError;
use ctlstore_ctldb::{Ctldb, CtldbError};

use super::{ExecutiveActor, not_serving, retention};

/// The executive's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct ExecutiveDetails {
    /// Requests that wait for the next commit.
    pub waiting: usize,
    /// Requests whose commit is on its way.
    pub committing: usize,
    /// Mutation requests committed, and in how many commits.
    pub requests_committed: u64,
    pub commits: u64,
    pub mutations: u64,
    /// Requests that were the client's to mend.
    pub requests_refused: u64,
    /// Requests that wrote to a table over its warning size.
    pub over_warn_size: u64,
    pub failures: u64,
    /// What the ctldb took without anyone being told.
    pub retries: u64,
    pub lost_commits: u64,
    pub intents_finished: u64,
    #[serde(flatten)]
    pub retention: retention::RetentionDetails,
}

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    /// Whether a request can be taken now; why not, otherwise.
    pub(super) fn admit(&self) -> Result<(), ExecutiveError> {
        if self.state == RoleState::Stopping {
            return Err(not_serving("the executive is stopping"));
        }
        if !self.prepared {
            let reason = self.takes_no_writes.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
            return Err(not_serving(&format!("the ctldb is not there yet{reason}")));
        }
        Ok(())
    }

    /// As [`Self::admit`], for what writes: a ctldb that takes no writes is not asked by each request.
    pub(super) fn admit_write(&self) -> Result<(), ExecutiveError> {
        self.admit()?;
        self.takes_no_writes.as_deref().map_or(Ok(()), |reason| Err(not_serving(reason)))
    }

    /// The ctldb did what was asked.
    pub(super) fn record_success(&mut self) {
        if self.state == RoleState::Retrying {
            tracing::info!(role = "executive", "the ctldb is back");
        }
        self.takes_no_writes = None;
        self.failures.end();
        if self.state != RoleState::Stopping {
            self.state = RoleState::Running;
        }
        self.backoff.reset();
    }

    /// The ctldb answered what only reads. That says nothing of a ctldb that takes no writes.
    pub(super) fn answers(&mut self) {
        if self.takes_no_writes.is_none() {
            self.record_success();
        }
    }

    /// The ctldb did not do what was asked.
    pub(super) fn record_failure(&mut self, error: &CtldbError) {
        let kind = match error {
            CtldbError::Unavailable(_) | CtldbError::NotWritable(_) => ErrorKind::Unavailable,
            CtldbError::Contention(_) => ErrorKind::Contention,
            CtldbError::OutcomeUnknown(_) => ErrorKind::Timeout,
            CtldbError::Refused(_) | CtldbError::ChangedByHand { .. } => return,
            CtldbError::Schema(_) | CtldbError::Failed(_) => ErrorKind::Storage,
        };
        failed!(self.failures, kind, error, "the ctldb failed");
        if let CtldbError::NotWritable(_) = error {
            self.takes_no_writes = Some(error.to_string());
        }
        if matches!(error, CtldbError::Unavailable(_) | CtldbError::NotWritable(_)) {
            self.retries();
        }
    }

    /// The ctldb is away, or not fit for anything yet.
    pub(super) fn retries(&mut self) {
        if self.state != RoleState::Stopping {
            self.state = RoleState::Retrying;
        }
    }

    /// Brings the ctldb's own counts into the status and the metrics.
    fn count_tally(&mut self) {
        let counters = self.rules.ctldb().counters();
        let before = std::mem::replace(&mut self.counted, counters);
        let metrics = &self.metrics.executive;
        metrics.retries(RetryReason::Contention, counters.contention_retries - before.contention_retries);
        metrics.retries(RetryReason::Unavailable, counters.unavailable_retries - before.unavailable_retries);
        metrics.lost_commits.inc_by(counters.lost_commits - before.lost_commits);
        metrics.intents_finished.inc_by(counters.intents_finished - before.intents_finished);
        self.details.retries = counters.contention_retries + counters.unavailable_retries;
        self.details.lost_commits = counters.lost_commits;
        self.details.intents_finished = counters.intents_finished;
    }
}

impl<C: Ctldb + Unpin> Handler<GetStatus> for ExecutiveActor<C> {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _ctx: &mut Self::Context) -> RoleStatus {
        self.details.failures = self.failures.count();
        self.details.retention = self.retention.details();
        self.count_tally();
        let status = RoleStatus::new(ActorKind::Executive, self.state).with_error(self.failures.last());
        let mut status = status.with_details(&self.details);
        status.last_seq = self.last_seq;
        status
    }
}
