//! The connections of one worker. When there are more than there may be, the one that has
//! been idle longest is closed, then one whose head or body does not come; never one whose
//! request is there. The server's acceptor waits when there is none of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::metrics::{CloseReason, Metrics, Server};

use super::{Connection, Spare};

/// Between two looks for a connection to close, while there are too many.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long what has come in part may take to come as a whole once the server stops, and
/// how long a client may take nothing of its answer then.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// What the pools of a server share.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    pub server: Server,
    pub metrics: std::sync::Arc<Metrics>,
    /// Connections of one worker.
    pub limit: usize,
    /// For a request's head to arrive.
    pub header_timeout: Duration,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    pub(super) options: PoolOptions,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Whether a task looks for one to close.
    is_looking: Cell<bool>,
    /// Whether a task waits for the stop.
    is_watching: Cell<bool>,
}

impl Pool {
    pub fn new(options: PoolOptions) -> Rc<Self> {
        let connections = RefCell::default();
        Rc::new(Self { options, connections, is_looking: Cell::default(), is_watching: Cell::default() })
    }

    /// A place for one more. Must be given back by [`Pool::leave`].
    pub fn enter(self: &Rc<Self>) -> Rc<Connection> {
        let connection = Rc::new(Connection::new(Rc::clone(self)));
        let mut connections = self.connections.borrow_mut();
        connection.index.set(connections.len());
        connections.push(Rc::clone(&connection));
        drop(connections);
        self.options.metrics.http.connection_opened(self.options.server);
        self.relieve();
        if self.excess() > 0 && !self.is_looking.replace(true) {
            actix_rt::spawn(Rc::clone(self).look());
        }
        connection
    }

    /// Counts one that its address may not have.
    pub fn refused(&self) {
        self.options.metrics.http.connection_cut(self.options.server, CloseReason::Address);
    }

    pub fn leave(&self, connection: &Connection) {
        let mut connections = self.connections.borrow_mut();
        let index = connection.index.get();
        connections.swap_remove(index);
        if let Some(moved) = connections.get(index) {
            moved.index.set(index);
        }
        drop(connections);
        self.options.metrics.http.connection_closed(self.options.server);
    }

    /// Waits, once, for the server's stop, and then cuts off what is still unfinished.
    pub fn watch(self: &Rc<Self>, stop: impl Future + 'static) {
        if self.is_watching.replace(true) {
            return;
        }
        let this = Rc::clone(self);
        actix_rt::spawn(async move {
            stop.await;
            actix_rt::time::sleep(STOP_GRACE).await;
            while !this.connections.borrow().is_empty() {
                this.cut_what_holds_up_a_stop();
                actix_rt::time::sleep(LOOK_AGAIN).await;
            }
        });
    }

    /// Requests that are there as a whole are finished, as long as their clients take the
    /// answers.
    fn cut_what_holds_up_a_stop(&self) {
        for connection in self.connections.borrow().iter() {
            if connection.is_blocked_for(STOP_GRACE) {
                connection.abort();
            } else if connection.is_unfinished() && !connection.is_cut.get() {
                connection.cut();
            }
        }
    }

    /// Connections beyond the limit that are not being closed yet.
    fn excess(&self) -> usize {
        let connections = self.connections.borrow();
        let excess = connections.len().saturating_sub(self.options.limit);
        match excess {
            0 => 0,
            excess => excess.saturating_sub(connections.iter().filter(|connection| connection.is_cut.get()).count()),
        }
    }

    /// Closes as many as there are too many, if they can be spared.
    fn relieve(&self) {
        for _ in 0..self.excess() {
            let now = Instant::now();
            let connections = self.connections.borrow();
            let spare = connections.iter().filter_map(|connection| Some((connection.spare(now)?, connection)));
            let Some(((spare, _), connection)) = spare.min_by_key(|(spare, _)| *spare) else { return };
            let reason = match spare {
                Spare::Idle => CloseReason::Idle,
                Spare::Head | Spare::Body => CloseReason::Stalled,
            };
            self.options.metrics.http.connection_cut(self.options.server, reason);
            connection.cut();
        }
    }

    /// What is in use now may be idle or stall later, and nobody else would see it.
    async fn look(self: Rc<Self>) {
        while self.excess() > 0 {
            self.relieve();
            actix_rt::time::sleep(LOOK_AGAIN).await;
        }
        self.is_looking.set(false);
    }
}
