//! The connections of one worker. Entry points: [`ConnectionPool::enter`] and
//! [`ConnectionPool::leave`]. If there are too many, the one that was idle longest is closed, then one
//! whose head or body does not arrive. A connection whose request is complete is never closed for
//! another one. If none can be closed, the server's acceptor waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::metrics::{CloseReason, Metrics, Server};

use super::state::{ConnectionState, Spare};

/// The pause between two looks for a connection to close, while there are too many.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the rest of a request may take after the server began to stop. A client may also take
/// nothing of its answer for so long.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The settings that all pools of a server share.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    pub server: Server,
    pub metrics: std::sync::Arc<Metrics>,
    /// The most connections of one worker.
    pub limit: usize,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct ConnectionPool {
    pub(super) options: PoolOptions,
    connections: RefCell<Vec<Rc<ConnectionState>>>,
    /// Whether a task looks for a connection to close.
    is_looking: Cell<bool>,
    /// Whether a task waits for the server's stop.
    is_watching: Cell<bool>,
}

impl ConnectionPool {
    pub fn new(options: PoolOptions) -> Rc<Self> {
        let connections = RefCell::default();
        Rc::new(Self { options, connections, is_looking: Cell::default(), is_watching: Cell::default() })
    }

    /// Adds a connection. It must be removed by [`ConnectionPool::leave`].
    pub fn enter(self: &Rc<Self>) -> Rc<ConnectionState> {
        let connection = Rc::new(ConnectionState::new());
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

    /// Counts a connection that is refused because its address has too many.
    pub fn refused(&self) {
        self.options.metrics.http.connection_cut(self.options.server, CloseReason::Address);
    }

    pub fn leave(&self, connection: &ConnectionState) {
        let mut connections = self.connections.borrow_mut();
        let index = connection.index.get();
        connections.swap_remove(index);
        if let Some(moved) = connections.get(index) {
            moved.index.set(index);
        }
        drop(connections);
        self.options.metrics.http.connection_closed(self.options.server);
    }

    /// Starts one task that waits for the server's stop and then cuts off what holds the stop up.
    /// Further calls do nothing.
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

    /// Cuts connections whose request does not arrive, or whose client takes nothing of its answer.
    /// Complete requests are answered.
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

    /// Closes as many connections as there are too many, as far as they can be spared.
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

    /// Looks again until there are no longer too many: a connection that is in use now may be idle or
    /// stall later.
    async fn look(self: Rc<Self>) {
        while self.excess() > 0 {
            self.relieve();
            actix_rt::time::sleep(LOOK_AGAIN).await;
        }
        self.is_looking.set(false);
    }
}
