//! The clients of the change feed share their worker's loop with everything else that it
//! answers: one of them at a time has its events made, for a bounded time, and the worker
//! looks at its sockets before the next one. A task of its own does that, since nobody can
//! say when a connection is looked at again whose client takes nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;

/// The turns of one worker. As many wait as there are clients.
#[derive(Default, Clone)]
pub struct Turns(Rc<Queue>);

type Job = Box<dyn FnOnce()>;

#[derive(Default)]
struct Queue {
    jobs: RefCell<VecDeque<Job>>,
    is_running: Cell<bool>,
}

impl Turns {
    /// Runs `job` when its turn comes, unless nobody waits for it any more. `None` only
    /// while the worker ends.
    pub async fn take<T: 'static>(&self, job: impl FnOnce() -> T + 'static) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        self.0.jobs.borrow_mut().push_back(Box::new(move || {
            if !done.is_closed() {
                let _ = done.send(job());
            }
        }));
        if !self.0.is_running.replace(true) {
            actix_rt::spawn(Rc::clone(&self.0).run());
        }
        outcome.await.ok()
    }
}

impl Queue {
    async fn run(self: Rc<Self>) {
        loop {
            let Some(job) = self.jobs.borrow_mut().pop_front() else { break };
            job();
            // The loop looks at its sockets before it comes back to this.
            tokio::task::yield_now().await;
        }
        self.is_running.set(false);
    }
}
