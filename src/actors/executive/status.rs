//! [`ExecutiveStatus`]: the executive's state and counts. It decides whether a request may be taken now, and
//! records successes and failures of the ctldb. It counts for `/status` and the metrics. It sends nothing
//! and asks the ctldb nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::actors::failures::{Failures, failed};
use crate::backoff::Backoff;
use crate::messages::status::{ActorKind, RoleState, RoleStatus};
use crate::metrics::{Component, ErrorKind, Metrics, Queue, RetryReason};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;
use ctlstore_ctldb::executive::{ExecutiveError, OverWarnSize, Refusal, WrittenRequest};
use ctlstore_ctldb::{Counters, CtldbError};

use super::retention::RetentionDetails;

/// The pauses between tries to prepare the ctldb.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The executive's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
struct ExecutiveDetails {
    /// Requests that wait for the next commit.
    waiting: usize,
    /// Requests whose commit is running.
    committing: usize,
    /// Committed mutation requests, and the commits that they took.
    requests_committed: u64,
    commits: u64,
    mutations: u64,
    /// Requests that were refused because of a client's mistake.
    requests_refused: u64,
    /// Requests that wrote to a table over its warning size.
    over_warn_size: u64,
    failures: u64,
    /// The ctldb's counts of what went wrong and was put right.
    retries: u64,
    lost_commits: u64,
    intents_finished: u64,
    #[serde(flatten)]
    retention: RetentionDetails,
}

/// The executive's state and counts.
pub(super) struct ExecutiveStatus {
    metrics: Arc<Metrics>,
    state: RoleState,
    /// Whether the ctldb is prepared. No request is taken before.
    is_prepared: bool,
    /// Why the ctldb takes no writes, `None` if it takes them.
    takes_no_writes: Option<String>,
    /// When a write or a check last showed that the ctldb takes writes.
    writable_at: Option<Instant>,
    backoff: Backoff,
    failures: Failures,
    last_seq: Option<Seq>,
    /// The ctldb's counters as the metrics have them.
    counted: Counters,
    /// Tables over their warning size that the log has named since the last measuring.
    warned: HashSet<TableRef>,
    details: ExecutiveDetails,
}

impl ExecutiveStatus {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            failures: Failures::new(Component::Executive, Arc::clone(&metrics)),
            metrics,
            state: RoleState::Starting,
            is_prepared: false,
            takes_no_writes: None,
            writable_at: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            last_seq: None,
            counted: Counters::default(),
            warned: HashSet::new(),
            details: ExecutiveDetails::default(),
        }
    }

    /// Fails if no request can be taken now.
    pub fn admit(&self) -> Result<(), ExecutiveError> {
        if self.is_stopping() {
            return Err(not_serving("the executive is stopping"));
        }
        if !self.is_prepared {
            let reason = self.takes_no_writes.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
            return Err(not_serving(&format!("the ctldb is not there yet{reason}")));
        }
        Ok(())
    }

    /// As [`Self::admit`], for a write. If the ctldb takes no writes, requests are refused without asking it.
    pub fn admit_write(&self) -> Result<(), ExecutiveError> {
        self.admit()?;
        self.takes_no_writes.as_deref().map_or(Ok(()), |reason| Err(not_serving(reason)))
    }

    pub fn is_stopping(&self) -> bool {
        self.state == RoleState::Stopping
    }

    pub fn is_retrying(&self) -> bool {
        self.state == RoleState::Retrying
    }

    pub fn begin_stop(&mut self) {
        self.state = RoleState::Stopping;
    }

    pub fn record_prepared(&mut self) {
        self.is_prepared = true;
        self.record_success();
    }

    /// Returns the pause before the next try.
    pub fn record_not_prepared(&mut self, error: &CtldbError) -> Duration {
        self.record_failure(error);
        self.record_retry();
        self.backoff.next_pause()
    }

    /// The ctldb did what was asked.
    pub fn record_success(&mut self) {
        if self.is_retrying() {
            tracing::info!(role = "executive", "the ctldb is back");
        }
        self.takes_no_writes = None;
        self.failures.end();
        if !self.is_stopping() {
            self.state = RoleState::Running;
        }
        self.backoff.reset();
    }

    /// The ctldb has answered a read. That does not show whether it takes writes.
    fn record_read(&mut self) {
        if self.takes_no_writes.is_none() {
            self.record_success();
        }
    }

    /// The ctldb takes writes.
    pub fn record_writable(&mut self) {
        self.writable_at = Some(Instant::now());
        self.record_success();
    }

    /// Whether the ctldb took writes at some time within the last `time`.
    pub fn was_writable_within(&self, time: Duration) -> bool {
        self.writable_at.is_some_and(|at| at.elapsed() < time)
    }

    /// The ctldb did not do what was asked.
    pub fn record_failure(&mut self, error: &CtldbError) {
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
            self.record_retry();
        }
    }

    /// The ctldb is away, or can't be used yet.
    fn record_retry(&mut self) {
        if !self.is_stopping() {
            self.state = RoleState::Retrying;
        }
    }

    pub fn record_queue(&mut self, waiting: usize, committing: usize) {
        self.details.waiting = waiting;
        self.details.committing = committing;
        self.metrics.queue(Queue::ExecutiveWrites).set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Records a group of mutation requests whose commit took the time `took`.
    pub fn record_commit(&mut self, outcomes: &[Result<WrittenRequest, Refusal>], took: Duration) {
        let written: Vec<&WrittenRequest> = outcomes.iter().flatten().collect();
        self.details.requests_refused += (outcomes.len() - written.len()) as u64;
        if written.is_empty() {
            return self.record_read();
        }
        self.record_writable();
        self.details.commits += 1;
        self.metrics.executive.commit_seconds.observe(took.as_secs_f64());
        self.metrics.executive.commit_requests.observe(written.len() as f64);
        for request in written {
            self.record_seq(request.seq);
            self.details.requests_committed += 1;
            self.details.mutations += request.rows as u64;
            self.metrics.executive.mutations.inc_by(request.rows as u64);
            self.metrics.executive.statements.inc_by(request.statements as u64);
            self.warn_of_sizes(request);
        }
    }

    /// Records how a request other than mutations ended.
    pub fn record_request(&mut self, is_write: bool, outcome: &Result<Option<Seq>, ExecutiveError>) {
        let error: &ExecutiveError = match outcome {
            Ok(seq) => {
                if is_write {
                    self.record_success();
                } else {
                    self.record_read();
                }
                return seq.iter().for_each(|seq| self.record_seq(*seq));
            }
            Err(ExecutiveError::Stopped { cause, .. }) => cause,
            Err(error) => error,
        };
        match error {
            ExecutiveError::Ctldb(error) => self.record_failure(error),
            _ => self.details.requests_refused += 1,
        }
    }

    fn record_seq(&mut self, seq: Seq) {
        self.last_seq = self.last_seq.max(Some(seq));
    }

    /// The tables were measured, so the log may name those over their warning size again.
    pub fn record_measured(&mut self) {
        self.warned.clear();
    }

    fn warn_of_sizes(&mut self, written: &WrittenRequest) {
        if !written.over_warn.is_empty() {
            self.details.over_warn_size += 1;
            self.metrics.executive.over_warn_size.inc();
        }
        for over in &written.over_warn {
            if self.warned.insert(over.table.clone()) {
                let OverWarnSize { table, bytes, warn_bytes } = over;
                tracing::warn!(role = "executive", %table, bytes, warn_bytes, "a table is over its warning size");
            }
        }
    }

    /// Makes the actor's status. `counters` are the ctldb's.
    pub fn report(&mut self, counters: Counters, retention: RetentionDetails) -> RoleStatus {
        self.details.failures = self.failures.count();
        self.details.retention = retention;
        self.record_counters(counters);
        let status = RoleStatus::new(ActorKind::Executive, self.state).with_error(self.failures.last());
        let mut status = status.with_details(&self.details);
        status.last_seq = self.last_seq;
        status
    }

    /// Adds what the ctldb's counters have gained to the metrics.
    fn record_counters(&mut self, counters: Counters) {
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

pub(super) fn not_serving(why: &str) -> ExecutiveError {
    ExecutiveError::NotServing(why.to_owned())
}
