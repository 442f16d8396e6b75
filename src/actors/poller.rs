//! The ledger poller: reads the ledger from where the LDB stands and hands it on in
//! batches, one being applied while the next is read. It trusts nothing it has not
//! checked (`ctlstore_ctldb::tail::Tail`), skips nothing, and begins again from the LDB's own seq
//! after any failure.

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
use crate::messages::ledger::{AdoptLedger, ApplyBatch, Bootstrap, CaughtUp, GetPosition, HasLdb};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, Metrics};
use ctlstore_core::ledger::{BlockLimit, LedgerSource, Seq};
use ctlstore_core::schema::Timestamp;

use super::failures::Failures;

/// How the poller reads.
#[derive(Debug, Clone)]
pub struct PollerOptions {
    pub interval: Duration,
    /// The part of `interval` that is left to chance, 0 to 1.
    pub jitter: f64,
    pub block: BlockLimit,
}

/// Whom the poller talks to.
#[derive(Clone)]
pub struct PollerPeers {
    pub apply: Recipient<ApplyBatch>,
    pub position: Recipient<GetPosition>,
    pub adopt: Recipient<AdoptLedger>,
    /// Where a snapshot can be fetched; without one, a ledger that can't be followed
    /// stays that.
    pub bootstrap: Option<Recipient<Bootstrap>>,
    pub has_ldb: Recipient<HasLdb>,
    /// All that measure lag.
    pub caught_up: Vec<Recipient<CaughtUp>>,
}

/// What the poller shows of itself.
#[derive(Debug, Default, Serialize)]
struct Details {
    /// The highest seq that was seen in the ledger.
    ledger_seq: Seq,
    ledger_id: Option<String>,
    rows_read: u64,
    gaps: u64,
    /// Starts from the LDB's seq: one, and one more after each failure.
    starts: u64,
    /// When the LDB had all of the ledger for the last time.
    caught_up_at: Option<String>,
}

/// What the actor and its task share; both live on one thread.
struct Shared {
    options: PollerOptions,
    peers: PollerPeers,
    metrics: Arc<Metrics>,
    /// Notified when the executive of this node says that the ledger grew.
    grew: Notify,
    view: RefCell<View>,
}

/// What a status answer is made from.
struct View {
    state: RoleState,
    failures: Failures,
    caught_up_at: Option<Timestamp>,
    /// Whether the LDB holds anything, when that was last asked.
    has_data: bool,
    /// Whether what fails is that the ctldb can't be read.
    is_ctldb_away: bool,
    /// Whether it was ready once with what the LDB has, the ledger's end seen or not.
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
        // Readers have what they need while the ctldb is away, and a restart brings them no more.
        let is_served = view.is_ctldb_away && view.has_data;
        view.was_ready |= view.caught_up_at.is_some() || is_served && view.state == RoleState::Retrying;
        let status = RoleStatus::new(ActorKind::Poller, view.state).with_error(view.failures.last());
        let mut status = status.ready_all_the_same(is_served).with_details(&view.details);
        if !view.was_ready && view.state == RoleState::Running {
            status.not_ready = Some("has not reached the ledger's end yet".to_owned());
        }
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
