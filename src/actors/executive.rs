//! The executive's actor. It takes mutations ([`MutateBatch`]) and all other requests ([`RunRequest`]), and
//! answers after the ctldb's commit. It tells the node's poller that the ledger has new rows. The rules of
//! writing are not here but in `ctlstore_ctldb::executive`.
//!
//! 1. Mutation requests wait in a bounded queue while a commit runs (`queue`).
//! 2. The next commit takes a group of them, after a short delay for writers that were just answered
//!    (`commit_delay`).
//! 3. Every other request has the ctldb for itself.
//!
//! Transactions run in the actor's own tasks. So a client that goes away disturbs no connection. If the
//! ctldb is away, requests are not queued but answered with 503 (`status`).

mod commit_delay;
mod queue;
mod retention;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, ResponseActFuture,
    ResponseFuture, SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;

use crate::actors::task::Task;
use crate::http::executive::ExecutiveRecipients;
use crate::messages::executive::{LedgerGrew, MutateBatch, RunRequest, answer};
use crate::messages::status::{GetStatus, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::Metrics;
use ctlstore_core::ledger::Seq;
use ctlstore_ctldb::executive::{Executive, ExecutiveError, PruneUsage, Refusal, Request, WriteRules, WrittenRequest};
use ctlstore_ctldb::{AnyCtldb, Ctldb, CtldbError};

use self::commit_delay::CommitDelay;
use self::queue::{MAX_GROUP, MutationQueue, WaitingRequest};
use self::retention::Retention;
pub use self::retention::RetentionSettings;
use self::status::{ExecutiveStatus, not_serving};

/// The messages that may wait for this actor. Each is handled in microseconds. One [`MutateBatch`] has the
/// requests that a worker has read at a time, which its number of connections bounds.
const MAILBOX: usize = 1024;

/// The most requests other than mutations that run at one time.
const MAX_RUNNING: usize = 64;

/// How often a ctldb that was away is checked. Clients can't find out that it is back: `/readyz` keeps load
/// balancers from sending requests.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a ctldb is checked if nothing is written to it.
const WRITABLE_INTERVAL: Duration = Duration::from_secs(5);

/// The settings of the executive's actor.
#[derive(Debug, Clone)]
pub struct ExecutiveOptions {
    pub rules: WriteRules,
    /// Each request is answered within this time.
    pub request_timeout: Duration,
    /// How often the tables are measured.
    pub size_interval: Duration,
    /// How often old usage is deleted.
    pub prune_interval: Duration,
    /// How the ledger is pruned, `None` if it is not.
    pub retention: Option<RetentionSettings>,
}

impl Default for ExecutiveOptions {
    fn default() -> Self {
        Self {
            rules: WriteRules::default(),
            request_timeout: Duration::from_secs(30),
            size_interval: Duration::from_secs(60),
            prune_interval: Duration::from_secs(60 * 60),
            retention: None,
        }
    }
}

/// The executive's actor, on one ctldb.
pub struct ExecutiveActor {
    executive: Executive<AnyCtldb>,
    options: ExecutiveOptions,
    poller: Option<Recipient<LedgerGrew>>,
    status: ExecutiveStatus,
    queue: MutationQueue,
    commit_delay: CommitDelay,
    /// Requests whose commit is running.
    committing: usize,
    /// The timer that ends the commit delay.
    delay_timer: Option<SpawnHandle>,
    /// Requests other than mutations that are running.
    running: usize,
    is_measuring: bool,
    is_checking: bool,
    /// Each is told when the actor has stopped.
    stop_waiters: Vec<oneshot::Sender<()>>,
    retention: Retention,
}

impl ExecutiveActor {
    /// `poller` is that of the same node, if it has one.
    pub fn new(
        ctldb: AnyCtldb,
        mut options: ExecutiveOptions,
        metrics: Arc<Metrics>,
        poller: Option<Recipient<LedgerGrew>>,
    ) -> Self {
        Self {
            executive: Executive::new(ctldb, options.rules.clone()),
            retention: Retention::new(options.retention.take(), Arc::clone(&metrics)),
            options,
            poller,
            status: ExecutiveStatus::new(metrics),
            queue: MutationQueue::default(),
            commit_delay: CommitDelay::default(),
            committing: 0,
            delay_timer: None,
            running: 0,
            is_measuring: false,
            is_checking: false,
            stop_waiters: Vec::new(),
        }
    }

    /// The recipients for the HTTP server.
    pub fn recipients(executive: &Addr<Self>) -> ExecutiveRecipients {
        ExecutiveRecipients { mutate: executive.clone().recipient(), run: executive.clone().recipient() }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    /// Whether the next group waits for more requests. If it does, a timer commits it later.
    fn is_delayed(&mut self, ctx: &mut Context<Self>) -> bool {
        let at_once = self.status.is_stopping() || self.queue.next_is_alone();
        let left = self.commit_delay.hold(Instant::now(), self.queue.len()).filter(|_| !at_once);
        match left {
            Some(left) if self.delay_timer.is_none() => {
                self.delay_timer = Some(ctx.run_later(left, |this, ctx| {
                    this.delay_timer = None;
                    this.commit_next(ctx);
                    // If all waiting requests have expired, no commit follows that would do this.
                    this.finish_stop(ctx);
                }));
            }
            Some(_) => {}
            None => drop(self.delay_timer.take().map(|timer| ctx.cancel_future(timer))),
        }
        left.is_some()
    }

    /// Begins the next group's commit, unless one is running or the group waits for more requests.
    fn commit_next(&mut self, ctx: &mut Context<Self>) {
        let late = self.queue.expired(Instant::now()).into_iter();
        answer(late.map(|late| (late.answer_to, Err(not_serving("the request waited too long for the ctldb")))));
        if self.committing > 0 || self.queue.is_empty() || self.is_delayed(ctx) {
            self.status.record_queue(self.queue.len(), self.committing);
            return;
        }
        let group = self.queue.next_group();
        self.committing = group.len();
        self.status.record_queue(self.queue.len(), self.committing);
        let executive = self.executive.clone();
        let requests = group.iter().map(|waiting| Arc::clone(&waiting.request)).collect();
        let deadline = group.iter().map(|waiting| waiting.deadline).min().unwrap_or_else(Instant::now);
        let commit = async move {
            let start = Instant::now();
            let outcome = executive.mutate(requests, deadline).await;
            (group, outcome, start.elapsed())
        };
        ctx.spawn(commit.into_actor(self).map(move |(group, outcome, took), this, ctx| {
            this.committing = 0;
            match outcome {
                Ok(outcomes) => this.committed(group, outcomes, took),
                Err(error) => this.not_committed(group, &error, deadline),
            }
            this.commit_next(ctx);
            this.finish_stop(ctx);
        }));
    }

    fn committed(
        &mut self,
        group: Vec<WaitingRequest>,
        outcomes: Vec<Result<WrittenRequest, Refusal>>,
        took: Duration,
    ) {
        self.status.record_commit(&outcomes, took);
        self.commit_delay.answered(Instant::now(), took, group.len(), self.queue.len(), MAX_GROUP);
        if let Some(last) = outcomes.iter().flatten().last() {
            self.tell_poller(last.seq);
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(ExecutiveError::from));
        answer(group.into_iter().map(|waiting| waiting.answer_to).zip(outcomes));
    }

    /// Nothing of the group is written, or its outcome is unknown. If nothing is written because one request's
    /// time ran out, the requests that still have time wait again.
    fn not_committed(&mut self, group: Vec<WaitingRequest>, error: &CtldbError, deadline: Instant) {
        if matches!(error, CtldbError::Refused(_)) && group.len() > 1 {
            // The ctldb refused a request at the commit, and it is unknown which.
            return self.queue.put_back_alone(group);
        }
        self.status.record_failure(error);
        let now = Instant::now();
        let nothing_written =
            matches!(error, CtldbError::Unavailable(_) | CtldbError::Contention(_) | CtldbError::NotWritable(_));
        let (again, over): (Vec<WaitingRequest>, Vec<WaitingRequest>) =
            group.into_iter().partition(|waiting| nothing_written && now >= deadline && waiting.deadline > now);
        self.queue.put_back(again);
        answer(over.into_iter().map(|waiting| (waiting.answer_to, Err(error.clone().into()))));
    }

    fn tell_poller(&self, seq: Seq) {
        if let Some(poller) = &self.poller {
            // If the mailbox is full, such a message is in it already.
            let _ = poller.try_send(LedgerGrew { seq });
        }
    }

    /// Prepares the ctldb, and tries again until that succeeds.
    fn prepare(&mut self, ctx: &mut Context<Self>) {
        let ctldb = self.executive.ctldb().clone();
        let work = async move { ctldb.prepare().await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, ctx| match outcome {
            Ok(()) => {
                this.status.record_prepared();
                this.start_maintenance(ctx);
            }
            Err(error) => {
                ctx.run_later(this.status.record_not_prepared(&error), Self::prepare);
            }
        }));
    }

    fn start_maintenance(&mut self, ctx: &mut Context<Self>) {
        self.measure_tables(ctx);
        self.prune_usage(ctx);
        ctx.run_interval(self.options.size_interval, Self::measure_tables);
        ctx.run_interval(self.options.prune_interval, Self::prune_usage);
        ctx.run_interval(CHECK_INTERVAL, Self::check_writable);
        self.retention.start(self.executive.ctldb().clone());
    }

    /// Checks whether the ctldb is back and takes writes, unless that is known.
    fn check_writable(&mut self, ctx: &mut Context<Self>) {
        let was_away = self.status.is_retrying();
        let is_known = self.committing > 0 || self.status.was_writable_within(WRITABLE_INTERVAL);
        if self.is_checking || !was_away && is_known {
            return;
        }
        self.is_checking = true;
        let ctldb = self.executive.ctldb().clone();
        let deadline = self.deadline();
        let work = async move { ctldb.check_writable(was_away, deadline).await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            this.is_checking = false;
            match outcome {
                Ok(()) => this.status.record_writable(),
                // Another client has a lock for a while. That does not mean that writes fail.
                Err(CtldbError::Contention(_)) => {}
                // With any other error nothing can be written.
                Err(CtldbError::Schema(reason) | CtldbError::Failed(reason)) => {
                    this.status.record_failure(&CtldbError::NotWritable(reason));
                }
                Err(error) => this.status.record_failure(&error),
            }
        }));
    }

    fn measure_tables(&mut self, ctx: &mut Context<Self>) {
        // If measuring takes longer than the interval, no second one begins.
        if self.is_measuring {
            return;
        }
        self.is_measuring = true;
        let ctldb = self.executive.ctldb().clone();
        let work = async move { ctldb.refresh_table_sizes().await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            this.is_measuring = false;
            match outcome {
                Ok(()) => this.status.record_measured(),
                Err(error) => this.status.record_failure(&error),
            }
        }));
    }

    fn prune_usage(&mut self, ctx: &mut Context<Self>) {
        let executive = self.executive.clone();
        let deadline = self.deadline();
        let work = async move { PruneUsage.execute(&executive, deadline).await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            if let Err(ExecutiveError::Ctldb(error)) = outcome {
                this.status.record_failure(&error);
            }
        }));
    }

    /// Ends the actor, if it was asked to and no work is in progress.
    fn finish_stop(&mut self, ctx: &mut Context<Self>) {
        let is_idle = self.committing == 0 && self.running == 0 && self.queue.is_empty();
        if self.stop_waiters.is_empty() || !is_idle {
            return;
        }
        let waiters = std::mem::take(&mut self.stop_waiters);
        let ctldb = self.executive.ctldb().clone();
        let retention = self.retention.take_task();
        let work = async move {
            Task::stop(retention).await;
            ctldb.close().await;
        };
        ctx.spawn(work.into_actor(self).map(|(), _this, ctx| {
            for waiter in waiters {
                let _ = waiter.send(());
            }
            ctx.stop();
        }));
    }
}

impl Actor for ExecutiveActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.prepare(ctx);
    }
}

impl Handler<MutateBatch> for ExecutiveActor {
    type Result = ();

    fn handle(&mut self, MutateBatch(requests): MutateBatch, ctx: &mut Self::Context) {
        let admitted = self.status.admit_write();
        let deadline = self.deadline();
        let mut refused = Vec::new();
        for (request, answer_to) in requests {
            let full = || not_serving("too many requests wait for the ctldb");
            // The client has gone, and nothing of its request has begun.
            if answer_to.waiter.is_closed() {
                continue;
            }
            let waiting = WaitingRequest::new(request, answer_to, deadline);
            match admitted.clone() {
                Err(error) => refused.push((waiting.answer_to, Err(error))),
                Ok(()) => refused.extend(self.queue.push(waiting).err().map(|it| (it.answer_to, Err(full())))),
            }
        }
        answer(refused);
        if admitted.is_ok() {
            self.commit_next(ctx);
        }
    }
}

impl Handler<RunRequest> for ExecutiveActor {
    type Result = ResponseActFuture<Self, Result<Option<Seq>, ExecutiveError>>;

    fn handle(&mut self, request: RunRequest, _ctx: &mut Self::Context) -> Self::Result {
        let is_write = request.is_write;
        let mut admitted = if is_write { self.status.admit_write() } else { self.status.admit() };
        if admitted.is_ok() && self.running >= MAX_RUNNING {
            admitted = Err(not_serving("too many requests are in the works"));
        }
        if let Err(error) = admitted {
            return Box::pin(async move { Err(error) }.into_actor(self));
        }
        self.running += 1;
        let work = request.run(self.executive.clone(), self.deadline());
        Box::pin(work.into_actor(self).map(move |outcome, this, ctx| {
            this.running -= 1;
            this.status.record_request(is_write, &outcome);
            if let Ok(Some(seq)) = outcome {
                this.tell_poller(seq);
            }
            this.finish_stop(ctx);
            outcome
        }))
    }
}

impl Handler<GetStatus> for ExecutiveActor {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _ctx: &mut Self::Context) -> RoleStatus {
        self.status.report(self.executive.ctldb().counters(), self.retention.details())
    }
}

impl Handler<Stop> for ExecutiveActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> ResponseFuture<()> {
        let (done, stopped) = oneshot::channel();
        self.status.begin_stop();
        self.stop_waiters.push(done);
        self.finish_stop(ctx);
        Box::pin(async move {
            // An error says that the actor is gone, which means the same.
            let _ = stopped.await;
        })
    }
}
