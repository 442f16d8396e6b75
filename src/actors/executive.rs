//! The executive: takes mutations ([`Mutate`]) and every other request ([`Ask`]),
//! answers after the ctldb's commit, and tells the poller that the ledger grew.
//!
//! Mutations that arrive while a write is in flight wait in a bounded queue and are
//! committed together by the next one; `commit_delay` says whether that one lets the writers
//! come back who were just answered. Everything else has the ctldb for itself.
//! Transactions run in this actor's own tasks, so a client that goes away touches
//! no connection. While the ctldb is away nothing is queued: that is a 503.

mod commit_delay;
mod maintenance;
mod queue;
mod retention;
mod status;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, ResponseActFuture, ResponseFuture,
    SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;

use crate::backoff::Backoff;
use crate::http::executive::ExecutiveRecipients;
use crate::messages::executive::{Ask, LedgerGrew, Mutate, answer};
use crate::messages::status::RoleState;
use crate::messages::stop::Stop;
use crate::metrics::{Component, Metrics, Queue as QueueLabel};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;
use ctlstore_ctldb::executive::{Executive, ExecutiveError, Options, Refusal, Request, Written};
use ctlstore_ctldb::{Counters, Ctldb, CtldbError};

use self::commit_delay::CommitDelay;
use self::queue::{MAX_GROUP, Queue, Waiting};
use self::retention::Retention;
pub use self::retention::RetentionSettings;
use self::status::ExecutiveDetails;
use super::failures::Failures;

/// Messages that may wait for this actor; each is handled in microseconds. One of mutations holds what a
/// worker has read at a time, which its number of connections bounds.
const MAILBOX: usize = 1024;

/// Requests other than mutations that may be in the works at one time.
const MAX_ASKED: usize = 64;

/// How an executive is set up.
#[derive(Debug, Clone)]
pub struct ExecutiveSettings {
    pub rules: Options,
    /// Each request is answered within this time.
    pub request_timeout: Duration,
    /// How often the tables are measured.
    pub size_interval: Duration,
    /// How often old usage is forgotten.
    pub prune_interval: Duration,
    /// How the ledger is kept short; `None` keeps all of it.
    pub retention: Option<RetentionSettings>,
}

impl Default for ExecutiveSettings {
    fn default() -> Self {
        Self {
            rules: Options::default(),
            request_timeout: Duration::from_secs(30),
            size_interval: Duration::from_secs(60),
            prune_interval: Duration::from_secs(60 * 60),
            retention: None,
        }
    }
}

pub struct ExecutiveActor<C: Ctldb + Unpin> {
    rules: Executive<C>,
    settings: ExecutiveSettings,
    metrics: Arc<Metrics>,
    poller: Option<Recipient<LedgerGrew>>,
    state: RoleState,
    /// Whether the ctldb's schema is there; nothing is asked of it before.
    prepared: bool,
    /// Why the ctldb takes no writes, while it does not.
    takes_no_writes: Option<String>,
    /// When something was last written, or found that it could be.
    writable_at: Option<Instant>,
    backoff: Backoff,
    queue: Queue,
    /// Requests whose commit is on its way.
    committing: usize,
    commit_delay: CommitDelay,
    /// Wakes the group that is held back.
    held: Option<SpawnHandle>,
    asked: usize,
    measuring: bool,
    looking: bool,
    stopping: Vec<oneshot::Sender<()>>,
    last_seq: Option<Seq>,
    failures: Failures,
    /// What the metrics have of the ctldb's counters.
    counted: Counters,
    /// Tables that the log has warned of since they were last measured.
    warned: HashSet<TableRef>,
    details: ExecutiveDetails,
    retention: Retention,
}

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    /// `poller` is the one of the same node, if it has one.
    pub fn new(
        ctldb: C,
        mut settings: ExecutiveSettings,
        metrics: Arc<Metrics>,
        poller: Option<Recipient<LedgerGrew>>,
    ) -> Self {
        Self {
            rules: Executive::new(ctldb, settings.rules.clone()),
            retention: Retention::new(settings.retention.take(), Arc::clone(&metrics)),
            settings,
            failures: Failures::new(Component::Executive, Arc::clone(&metrics)),
            metrics,
            poller,
            state: RoleState::Starting,
            prepared: false,
            takes_no_writes: None,
            writable_at: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            queue: Queue::default(),
            committing: 0,
            commit_delay: CommitDelay::default(),
            held: None,
            asked: 0,
            measuring: false,
            looking: false,
            stopping: Vec::new(),
            last_seq: None,
            counted: Counters::default(),
            warned: HashSet::new(),
            details: ExecutiveDetails::default(),
        }
    }

    /// What the HTTP server is handed.
    pub fn recipients(executive: &Addr<Self>) -> ExecutiveRecipients {
        let to = executive;
        ExecutiveRecipients {
            mutate: to.clone().recipient(),
            create_family: to.clone().recipient(),
            create_tables: to.clone().recipient(),
            add_fields: to.clone().recipient(),
            drop_table: to.clone().recipient(),
            clear_table: to.clone().recipient(),
            clear_family: to.clone().recipient(),
            read_table: to.clone().recipient(),
            read_family: to.clone().recipient(),
            register_writer: to.clone().recipient(),
            rotate_secret: to.clone().recipient(),
            remove_writer: to.clone().recipient(),
            read_cookie: to.clone().recipient(),
            set_cookie: to.clone().recipient(),
            list_table_limits: to.clone().recipient(),
            set_table_limit: to.clone().recipient(),
            delete_table_limit: to.clone().recipient(),
            list_writer_limits: to.clone().recipient(),
            set_writer_limit: to.clone().recipient(),
            delete_writer_limit: to.clone().recipient(),
            ping: to.clone().recipient(),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.request_timeout
    }

    /// Whether the next group waits for more requests, which wakes it when it has waited enough.
    fn holds_back(&mut self, ctx: &mut Context<Self>) -> bool {
        let goes = self.state == RoleState::Stopping || self.queue.next_is_alone();
        let left = self.commit_delay.hold(Instant::now(), self.queue.len()).filter(|_| !goes);
        match left {
            Some(left) if self.held.is_none() => {
                self.held = Some(ctx.run_later(left, |this, ctx| {
                    this.held = None;
                    this.write_next(ctx);
                    // All that waited may have expired, and then no write ends that would ask.
                    this.finish_stop(ctx);
                }));
            }
            Some(_) => {}
            None => drop(self.held.take().map(|held| ctx.cancel_future(held))),
        }
        left.is_some()
    }

    /// Sends the next group on its way, unless one is under way already or it waits for more.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        let late = self.queue.expired(Instant::now()).into_iter();
        answer(late.map(|late| (late.answer_to, Err(not_serving("the request waited too long for the ctldb")))));
        if self.committing > 0 || self.queue.is_empty() || self.holds_back(ctx) {
            self.show_queue();
            return;
        }
        let group = self.queue.next_group();
        self.committing = group.len();
        self.show_queue();
        let rules = self.rules.clone();
        let requests = group.iter().map(|waiting| Arc::clone(&waiting.request)).collect();
        let deadline = group.iter().map(|waiting| waiting.deadline).min().unwrap_or_else(Instant::now);
        let write = async move {
            let start = Instant::now();
            let outcome = rules.mutate(requests, deadline).await;
            (group, outcome, start.elapsed())
        };
        ctx.spawn(write.into_actor(self).map(move |(group, outcome, took), this, ctx| {
            this.committing = 0;
            match outcome {
                Ok(outcomes) => this.committed(group, outcomes, took),
                Err(error) => this.failed(group, &error, deadline),
            }
            this.write_next(ctx);
            this.finish_stop(ctx);
        }));
    }

    fn show_queue(&mut self) {
        (self.details.waiting, self.details.committing) = (self.queue.len(), self.committing);
        let depth = i64::try_from(self.queue.len()).unwrap_or(i64::MAX);
        self.metrics.queue(QueueLabel::ExecutiveWrites).set(depth);
    }

    fn committed(&mut self, group: Vec<Waiting>, outcomes: Vec<Result<Written, Refusal>>, took: Duration) {
        if outcomes.iter().any(Result::is_ok) {
            self.writable_at = Some(Instant::now());
            self.record_success();
        } else {
            self.answers();
        }
        self.commit_delay.answered(Instant::now(), took, group.len(), self.queue.len(), MAX_GROUP);
        let written: Vec<&Written> = outcomes.iter().flatten().collect();
        if let Some(last) = written.last() {
            self.ledger_grew(last.seq);
            self.details.commits += 1;
            self.metrics.executive.commit_seconds.observe(took.as_secs_f64());
            self.metrics.executive.commit_requests.observe(written.len() as f64);
        }
        for one in &written {
            self.details.requests_committed += 1;
            self.details.mutations += one.rows as u64;
            self.metrics.executive.mutations.inc_by(one.rows as u64);
            self.metrics.executive.statements.inc_by(one.statements as u64);
        }
        self.details.requests_refused += (outcomes.len() - written.len()) as u64;
        outcomes.iter().flatten().for_each(|written| self.warn_of_sizes(written));
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(ExecutiveError::from));
        answer(group.into_iter().map(|waiting| waiting.answer_to).zip(outcomes));
    }

    /// Nothing of the group is written, or nobody can know. Requests that still
    /// have time go on waiting when it was another's that ran out.
    fn failed(&mut self, group: Vec<Waiting>, error: &CtldbError, deadline: Instant) {
        if matches!(error, CtldbError::Refused(_)) && group.len() > 1 {
            // The commit found something that can't be held, and does not say whose it is.
            return self.queue.put_back_alone(group);
        }
        self.record_failure(error);
        let now = Instant::now();
        let nothing_written =
            matches!(error, CtldbError::Unavailable(_) | CtldbError::Contention(_) | CtldbError::NotWritable(_));
        let (again, over): (Vec<Waiting>, Vec<Waiting>) =
            group.into_iter().partition(|waiting| nothing_written && now >= deadline && waiting.deadline > now);
        self.queue.put_back(again);
        answer(over.into_iter().map(|waiting| (waiting.answer_to, Err(error.clone().into()))));
    }

    fn warn_of_sizes(&mut self, written: &Written) {
        if !written.over_warn.is_empty() {
            self.details.over_warn_size += 1;
            self.metrics.executive.over_warn_size.inc();
        }
        for over in &written.over_warn {
            if self.warned.insert(over.table.clone()) {
                tracing::warn!(role = "executive", table = %over.table, bytes = over.bytes, warn_bytes = over.warn_bytes,
                    "a table is over its warning size");
            }
        }
    }

    fn ledger_grew(&mut self, seq: Seq) {
        self.last_seq = self.last_seq.max(Some(seq));
        if let Some(poller) = &self.poller {
            // A full mailbox has a wake-up in it already.
            let _ = poller.try_send(LedgerGrew { seq });
        }
    }

    fn idle(&self) -> bool {
        self.committing == 0 && self.asked == 0 && self.queue.is_empty()
    }
}

impl<C: Ctldb + Unpin> Actor for ExecutiveActor<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.prepare(ctx);
    }
}

impl<C: Ctldb + Unpin> Handler<Mutate> for ExecutiveActor<C> {
    type Result = ();

    fn handle(&mut self, Mutate(requests): Mutate, ctx: &mut Self::Context) {
        let (admitted, deadline) = (self.admit_write(), self.deadline());
        let mut refused = Vec::new();
        for (request, answer_to) in requests {
            let full = || not_serving("too many requests wait for the ctldb");
            // Nothing of it is begun yet, and nobody waits for it any more.
            if answer_to.waiter.is_closed() {
                continue;
            }
            let waiting = Waiting::new(request, answer_to, deadline);
            match admitted.clone() {
                Err(error) => refused.push((waiting.answer_to, Err(error))),
                Ok(()) => refused.extend(self.queue.push(waiting).err().map(|it| (it.answer_to, Err(full())))),
            }
        }
        answer(refused);
        if admitted.is_ok() {
            self.write_next(ctx);
        }
    }
}

impl<C: Ctldb + Unpin, R: Request> Handler<Ask<R>> for ExecutiveActor<C> {
    type Result = ResponseActFuture<Self, Result<R::Answer, ExecutiveError>>;

    fn handle(&mut self, Ask(request): Ask<R>, _ctx: &mut Self::Context) -> Self::Result {
        let mut admitted = if R::IS_WRITE { self.admit_write() } else { self.admit() };
        if admitted.is_ok() && self.asked >= MAX_ASKED {
            admitted = Err(not_serving("too many requests are in the works"));
        }
        if let Err(error) = admitted {
            return Box::pin(async move { Err(error) }.into_actor(self));
        }
        self.asked += 1;
        let (rules, deadline) = (self.rules.clone(), self.deadline());
        let work = async move { request.execute(&rules, deadline).await };
        Box::pin(work.into_actor(self).map(|outcome, this, ctx| {
            this.asked -= 1;
            this.asked_for::<R>(&outcome);
            this.finish_stop(ctx);
            outcome
        }))
    }
}

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    /// Takes note of how a request other than a mutation ended.
    fn asked_for<R: Request>(&mut self, outcome: &Result<R::Answer, ExecutiveError>) {
        match outcome {
            Ok(answer) => {
                if R::IS_WRITE {
                    self.record_success();
                } else {
                    self.answers();
                }
                if let Some(seq) = R::ledger_seq(answer) {
                    self.ledger_grew(seq);
                }
            }
            Err(ExecutiveError::Ctldb(error)) => self.record_failure(error),
            Err(ExecutiveError::Stopped { cause, .. }) => match &**cause {
                ExecutiveError::Ctldb(error) => self.record_failure(error),
                _ => self.details.requests_refused += 1,
            },
            Err(_) => self.details.requests_refused += 1,
        }
    }
}

fn not_serving(why: &str) -> ExecutiveError {
    ExecutiveError::NotServing(why.to_owned())
}

impl<C: Ctldb + Unpin> Handler<Stop> for ExecutiveActor<C> {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> ResponseFuture<()> {
        let (done, stopped) = oneshot::channel();
        self.state = RoleState::Stopping;
        self.stopping.push(done);
        self.finish_stop(ctx);
        Box::pin(async move {
            // The sender goes with the actor: either way it has stopped.
            let _ = stopped.await;
        })
    }
}
