//! Actors that work on their own account rather than on request. [`TaskActor`] is a whole actor of
//! this kind: one task does the work, and the actor answers `GetStatus` and `Stop`. Heartbeat,
//! snapshotter and fetcher are such actors. [`Task`] alone serves actors that do more than that.
//! A task runs on its actor's thread, so it must not block.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use actix::fut::wrap_future;
use actix::prelude::*;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::failures::Failures;
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use ctlstore_core::ledger::Seq;

/// A running task.
#[derive(Debug)]
pub struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

/// The task's end of it: resolves when the task shall end.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Task {
    pub fn spawn<F: Future<Output = ()> + 'static>(work: impl FnOnce(Stopping) -> F) -> Self {
        let (stop, stopping) = watch::channel(false);
        Self { stop, handle: actix::spawn(work(Stopping(stopping))) }
    }

    /// Asks the task to end, if it was started, and waits until it has.
    pub async fn stop(task: Option<Self>) {
        if let Some(task) = task {
            task.stop.send_replace(true);
            // The only error is a panic in the task, which has ended the process already.
            let _ = task.handle.await;
        }
    }

    /// The answer to [`Stop`] of an actor that has nothing but its task: the actor stops when
    /// that has ended.
    pub fn then_stop<A: Actor<Context = Context<A>>>(task: Option<Self>) -> ResponseActFuture<A, ()> {
        let ended = wrap_future::<_, A>(Self::stop(task));
        Box::pin(ended.map(|(), _, ctx: &mut Context<A>| ctx.stop()))
    }
}

impl Stopping {
    /// Waits until the task shall end.
    pub async fn requested(&mut self) {
        // An error says that the actor is gone, which means the same.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Runs `work`. `None` if the task shall end before the work is done.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            done = work => Some(done),
        }
    }
}

/// The state that the status of such a role is answered from.
#[derive(Debug)]
pub struct RoleView<D> {
    pub state: RoleState,
    pub last_seq: Option<Seq>,
    pub failures: Failures,
    /// The role's own part of `/status`; the number of failures is added to it.
    pub details: D,
}

#[derive(Serialize)]
struct CountedDetails<'a, D> {
    failures: u64,
    #[serde(flatten)]
    details: &'a D,
}

impl<D: Serialize> RoleView<D> {
    /// Of a role that has not started yet.
    pub fn new(failures: Failures, details: D) -> RefCell<Self> {
        RefCell::new(Self { state: RoleState::Starting, last_seq: None, failures, details })
    }

    pub fn status(&self, role: ActorKind) -> RoleStatus {
        let details = CountedDetails { failures: self.failures.count(), details: &self.details };
        let status = RoleStatus::new(role, self.state).with_error(self.failures.last());
        RoleStatus { last_seq: self.last_seq, ..status.with_details(&details) }
    }
}

/// A role whose work is one task. The actor and the task share it; both live on one thread.
pub trait TaskRole: 'static {
    type Details: Serialize;

    const KIND: ActorKind;

    fn view(&self) -> &RefCell<RoleView<Self::Details>>;

    fn status(&self) -> RoleStatus {
        self.view().borrow().status(Self::KIND)
    }

    /// Called when a stop begins, before the task is asked to end.
    fn begin_stop(&self) {}
}

type Work<R> = Box<dyn FnOnce(Rc<R>, Stopping) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The actor of a [`TaskRole`].
pub struct TaskActor<R> {
    role: Rc<R>,
    /// Until the actor is started.
    work: Option<Work<R>>,
    task: Option<Task>,
}

impl<R: TaskRole> TaskActor<R> {
    /// `work` is called when the actor starts; the future that it makes is the task.
    pub fn of<F: Future<Output = ()> + 'static>(role: R, work: impl FnOnce(Rc<R>, Stopping) -> F + 'static) -> Self {
        let work: Work<R> = Box::new(|role, stopping| Box::pin(work(role, stopping)));
        Self { role: Rc::new(role), work: Some(work), task: None }
    }
}

impl<R: TaskRole> Actor for TaskActor<R> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(work) = self.work.take() {
            let role = Rc::clone(&self.role);
            self.task = Some(Task::spawn(|stopping| work(role, stopping)));
        }
    }
}

impl<R: TaskRole> Handler<GetStatus> for TaskActor<R> {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        self.role.status()
    }
}

impl<R: TaskRole> Handler<Stop> for TaskActor<R> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.role.view().borrow_mut().state = RoleState::Stopping;
        self.role.begin_stop();
        Task::then_stop(self.task.take())
    }
}
