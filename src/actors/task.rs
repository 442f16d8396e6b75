//! The task of an actor that works by itself rather than on request: started with
//! the actor, on its thread, and asked to end when the actor is.

use std::future::Future;

use actix::fut::wrap_future;
use actix::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

    /// The answer to [`Stop`](crate::messages::stop::Stop) of an actor that has nothing
    /// but its task: the actor stops when that has ended.
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

    /// Runs `work` unless the task shall end before it is done.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            done = work => Some(done),
        }
    }
}
