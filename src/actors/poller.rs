//! The ledger poller: reads the ledger from the lowest position of the LDBs on and sends it to the appliers in
//! batches. One batch is applied while the next one is read. Entry point: [`Poller::new`]; the task
//! is in `follow`, and `appliers` has the LDBs that it feeds.
//!
//! `ctlstore_ctldb::tail::Tail` checks the rows that it reads. It skips no row; after any failure it
//! begins again from the LDBs' own seqs.

mod appliers;
mod failure;
mod follow;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::Notify;

use crate::actors::task::Task;
use crate::messages::executive::LedgerGrew;
use crate::messages::ledger::CaughtUp;
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, Metrics};
use ctlstore_core::ledger::{BlockLimit, LedgerSource, Seq};
use ctlstore_core::schema::Timestamp;

use super::failures::Failures;

pub use appliers::ApplierPeer;

/// How the poller reads.
#[derive(Debug, Clone)]
pub struct PollerOptions {
    pub interval: Duration,
    /// The random part of `interval`, 0 to 1.
    pub jitter: f64,
    pub block: BlockLimit,
}

/// The actors that the poller sends messages to.
#[derive(Clone)]
pub struct PollerPeers {
    /// One for each LDB of this host.
    pub appliers: Vec<ApplierPeer>,
    /// All actors that measure lag.
    pub caught_up: Vec<Recipient<CaughtUp>>,
}

/// The poller's part of `/status`.
#[derive(Debug, Default, Serialize)]
struct Details {
    /// The highest seq that the poller saw in the ledger.
    ledger_seq: Seq,
    ledger_id: Option<String>,
    rows_read: u64,
    gaps: u64,
    /// How often it began from the LDB's seq: once, and once more after each failure.
    starts: u64,
    /// When the LDB last had all of the ledger.
    caught_up_at: Option<String>,
}

/// The state that the actor and its task share. Both run on one thread.
struct Shared {
    options: PollerOptions,
    peers: PollerPeers,
    metrics: Arc<Metrics>,
    /// Notified when the executive of this node says that the ledger grew.
    grew: Notify,
    view: RefCell<View>,
}

/// The state that `/status` is answered from.
struct View {
    state: RoleState,
    failures: Failures,
    caught_up_at: Option<Timestamp>,
    /// Whether the LDB had any rows when its position was last asked for.
    has_data: bool,
    /// Whether the failure is that the ctldb can't be read.
    is_ctldb_away: bool,
    /// Which of several LDBs are left out, and why.
    left_out: Option<String>,
    /// Whether the role was ready before: with the ledger's end reached, or with the LDB's data alone.
    was_ready: bool,
    details: Details,
}

pub struct Poller<S> {
    shared: Rc<Shared>,
    source: Option<S>,
    task: Option<Task>,
}

impl<S: LedgerSource + 'static> Poller<S> {
    pub fn new(source: S, options: PollerOptions, peers: PollerPeers, metrics: Arc<Metrics>) -> Self {
        let failures = Failures::new(Component::Poller, Arc::clone(&metrics));
        let view = View {
            state: RoleState::Starting,
            failures,
            caught_up_at: None,
            has_data: false,
            is_ctldb_away: false,
            left_out: None,
            was_ready: false,
            details: Details::default(),
        };
        let shared = Shared { options, peers, metrics, grew: Notify::new(), view: RefCell::new(view) };
        Self { shared: Rc::new(shared), source: Some(source), task: None }
    }
}

impl<S: LedgerSource + Unpin + 'static> Actor for Poller<S> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(source) = self.source.take() {
            let shared = self.shared.clone();
            self.task = Some(Task::spawn(|stopping| follow::run(shared, source, stopping)));
        }
    }
}

impl<S: LedgerSource + Unpin + 'static> Handler<LedgerGrew> for Poller<S> {
    type Result = ();

    fn handle(&mut self, grew: LedgerGrew, _: &mut Self::Context) {
        if grew.seq > self.shared.view.borrow().details.ledger_seq {
            self.shared.grew.notify_one();
        }
    }
}

impl<S: LedgerSource + Unpin + 'static> Handler<GetStatus> for Poller<S> {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let view = &mut *self.shared.view.borrow_mut();
        view.details.caught_up_at = view.caught_up_at.as_ref().map(ToString::to_string);
        // While the ctldb can't be reached, readers have what they need, and a restart would not help.
        let is_served = view.is_ctldb_away && view.has_data;
        view.was_ready |= view.caught_up_at.is_some() || is_served && view.state == RoleState::Retrying;
        let status = RoleStatus::new(ActorKind::Poller, view.state).with_error(view.failures.last());
        let mut status = status.ready_all_the_same(is_served).with_details(&view.details);
        if !view.was_ready && view.state == RoleState::Running {
            status.not_ready = Some("has not reached the ledger's end yet".to_owned());
        }
        status.not_ready = status.not_ready.or_else(|| view.left_out.clone());
        status.last_seq = Some(view.details.ledger_seq);
        status
    }
}

impl<S: LedgerSource + Unpin + 'static> Handler<Stop> for Poller<S> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        Task::then_stop(self.task.take())
    }
}
