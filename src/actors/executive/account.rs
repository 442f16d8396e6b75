//! What the executive knows of itself, for its status, the metrics and the log; and
//! what it tells the poller.

use actix::{Context, Handler};
use serde::Serialize;

use crate::ctldb::{Ctldb, CtldbError};
use crate::executive::Written;
use crate::ledger::Seq;
use crate::messages::executive::LedgerGrew;
use crate::messages::status::{ErrorReport, GetStatus, Role, RoleState, RoleStatus};
use crate::metrics::{Component, ErrorKind, Queue as QueueLabel};

use super::ExecutiveActor;

/// The executive's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Details {
    /// Requests that wait for the ledger lock.
    pub waiting: usize,
    /// Mutation requests committed, and in how many commits.
    pub requests_committed: u64,
    pub commits: u64,
    pub mutations: u64,
    /// Requests that were the client's to mend.
    pub requests_refused: u64,
    /// Requests that wrote to a table over its warning size.
    pub over_warn_size: u64,
}

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    pub(super) fn show_queue(&mut self) {
        self.details.waiting = self.queue.len();
        let depth = i64::try_from(self.queue.len()).unwrap_or(i64::MAX);
        self.metrics.queue(QueueLabel::ExecutiveWrites).set(depth);
    }

    pub(super) fn ledger_grew(&mut self, seq: Seq) {
        self.last_seq = self.last_seq.max(Some(seq));
        if let Some(poller) = &self.poller {
            // A full mailbox has a wake-up in it already.
            let _ = poller.try_send(LedgerGrew { seq });
        }
    }

    pub(super) fn warn_of_sizes(&mut self, written: &Written) {
        if !written.over_warn.is_empty() {
            self.details.over_warn_size += 1;
            self.metrics.executive.over_warn_size.inc();
        }
        for over in &written.over_warn {
            if self.warned.insert(over.table.clone()) {
                tracing::warn!(table = %over.table, bytes = over.bytes, warn_bytes = over.warn_bytes,
                    "a table is over its warning size");
            }
        }
    }

    /// The ctldb did what was asked.
    pub(super) fn works(&mut self) {
        if self.state == RoleState::Retrying {
            tracing::info!("the ctldb is back");
        }
        if self.state != RoleState::Stopping {
            self.state = RoleState::Running;
        }
        self.backoff.reset();
    }

    /// The ctldb did not do what was asked: counted, kept for the status, and logged
    /// unless it is what was logged last. Where the ctldb is away, it is looked for.
    pub(super) fn fails(&mut self, error: &CtldbError, ctx: &mut Context<Self>) {
        let kind = match error {
            CtldbError::Unavailable(_) => ErrorKind::Unavailable,
            CtldbError::Contention(_) => ErrorKind::Contention,
            CtldbError::OutcomeUnknown(_) => ErrorKind::Timeout,
            CtldbError::Refused(_) => return,
            CtldbError::Schema(_) | CtldbError::Failed(_) => ErrorKind::Storage,
        };
        self.metrics.error(Component::Executive, kind);
        let report = ErrorReport::now(kind, error);
        let again = self.state == RoleState::Retrying
            && self.last_error.as_ref().is_some_and(|last| last.message == report.message);
        if again {
            tracing::debug!(%error, "the ctldb still fails");
        } else {
            tracing::warn!(%error, "the ctldb failed");
        }
        self.last_error = Some(report);
        if matches!(error, CtldbError::Unavailable(_)) {
            self.look_for_ctldb(ctx);
        }
    }
}

impl<C: Ctldb + Unpin> Handler<GetStatus> for ExecutiveActor<C> {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _ctx: &mut Context<Self>) -> RoleStatus {
        let mut status = RoleStatus::new(Role::Executive, self.state).with_details(&self.details);
        status.last_seq = self.last_seq;
        status.last_error.clone_from(&self.last_error);
        status
    }
}
