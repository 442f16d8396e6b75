//! The reader's actor: says how the reader is, and reports damage that reads found. Entry point:
//! [`ReaderActor::new`]. The workers of the reader's server read the LDB themselves; this actor
//! asks for the LDB's position a few times a second. The server belongs to `node`, which stops
//! this actor first: that ends streams of changes, which would keep the server waiting.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::http::reader::ReaderOptions;
use crate::http::reader::changes::{Feed, FeedStatus};
use crate::http::reader::corruption::CorruptionReports;
use crate::http::reader::freshness::Freshness;
use crate::messages::ledger::{CaughtUp, Committed, InspectLdb};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::IntegrityVerdict;
use ctlstore_reader::read::{LdbReader, ReadError};

/// The pause between two looks at the LDB.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The shortest time between two reports of damage to the applier.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The state that the reader's server and its actor share.
#[derive(Clone)]
pub struct ReaderState {
    /// Serves clients of the change feed.
    pub feed: Arc<Feed>,
    /// Wakes reads that wait for a seq, and knows how old the LDB's rows are.
    pub freshness: Arc<Freshness>,
    /// Damage that reads found.
    pub corruption: Arc<CorruptionReports>,
}

impl ReaderState {
    /// Starts the thread that follows the history of changes.
    pub fn start(options: &ReaderOptions, metrics: &Arc<Metrics>) -> io::Result<Self> {
        Ok(Self {
            feed: Arc::new(Feed::start(&options.ldb_path, options.feed.clone(), Arc::clone(metrics))?),
            freshness: Arc::new(Freshness::new(&options.ldb_path)),
            corruption: Arc::default(),
        })
    }
}

/// The state that the actor and its task share. Both run on one thread.
struct Shared {
    /// The lag up to which the reader is ready; zero ignores lag.
    ready_max_lag: Duration,
    metrics: Arc<Metrics>,
    served: ReaderState,
    view: RefCell<View>,
}

/// The state that `/status` is answered from.
struct View {
    state: RoleState,
    /// The LDB's position at the last look; `None` while there is no LDB.
    position: Option<LdbPosition>,
    failures: Failures,
}

/// The reader's part of `/status`.
#[derive(Debug, Serialize)]
struct Details {
    ledger_id: Option<String>,
    /// When the last applied statement was written, by the ctldb's clock.
    applied_at: Option<String>,
    failures: u64,
    changes: FeedStatus,
}

pub struct ReaderActor {
    shared: Rc<Shared>,
    /// Until the actor is started.
    ldb: Option<LdbReader>,
    /// The appliers of the LDBs, if they are in this node. They can do something about damage.
    appliers: Vec<Recipient<InspectLdb>>,
    looking: Option<Task>,
    reporting: Option<Task>,
}

impl ReaderActor {
    /// `appliers` write the LDBs that are read, if they are in this node.
    pub fn new(
        ldb: LdbReader,
        ready_max_lag: Duration,
        served: ReaderState,
        appliers: Vec<Recipient<InspectLdb>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let failures = Failures::new(Component::Reader, Arc::clone(&metrics));
        let view = RefCell::new(View { state: RoleState::Starting, position: None, failures });
        Self {
            shared: Rc::new(Shared { ready_max_lag, metrics, served, view }),
            ldb: Some(ldb),
            appliers,
            looking: None,
            reporting: None,
        }
    }
}

impl Actor for ReaderActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(ldb) = self.ldb.take() {
            let shared = Rc::clone(&self.shared);
            self.looking = Some(Task::spawn(|stopping| keep_looking(shared, ldb, stopping)));
        }
        let appliers = std::mem::take(&mut self.appliers);
        if !appliers.is_empty() {
            let corruption = Arc::clone(&self.shared.served.corruption);
            self.reporting = Some(Task::spawn(|stopping| keep_reporting(corruption, appliers, stopping)));
        }
    }
}

impl Handler<CaughtUp> for ReaderActor {
    type Result = ();

    fn handle(&mut self, caught_up: CaughtUp, _: &mut Self::Context) {
        self.shared.served.freshness.caught_up(caught_up.seq, caught_up.at);
    }
}

impl Handler<Committed> for ReaderActor {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        self.shared.served.feed.wake();
        self.shared.served.freshness.committed(committed.seq);
    }
}

impl Handler<GetStatus> for ReaderActor {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        self.shared.status(Timestamp::now())
    }
}

/// Ends what would keep requests waiting: streams of changes, and reads that wait for a seq.
impl Handler<Stop> for ReaderActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        let feed = Arc::clone(&self.shared.served.feed);
        let looking = self.looking.take();
        let reporting = self.reporting.take();
        self.shared.served.freshness.stop();
        let ended = async move {
            // It waits for the feed's thread.
            let _ = tokio::task::spawn_blocking(move || feed.stop()).await;
            Task::stop(looking).await;
            Task::stop(reporting).await;
        };
        Box::pin(ended.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

async fn keep_looking(shared: Rc<Shared>, mut ldb: LdbReader, mut stopping: Stopping) {
    loop {
        let look = tokio::task::spawn_blocking(move || {
            let seen = ldb.position();
            let replacement = ldb.replacement_error().map(ToString::to_string);
            (ldb, seen, replacement)
        });
        // A look that panicked has ended the process already.
        let Ok((back, seen, replacement)) = look.await else { return };
        ldb = back;
        shared.record(seen, replacement);
        if stopping.unless(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

async fn keep_reporting(
    corruption: Arc<CorruptionReports>,
    appliers: Vec<Recipient<InspectLdb>>,
    mut stopping: Stopping,
) {
    let report = async {
        loop {
            corruption.met().await;
            // The applier's own status says what it found. If no applier found damage, this reader is
            // as good as before.
            let mut are_sound = true;
            for applier in &appliers {
                are_sound &= matches!(applier.send(InspectLdb).await, Ok(Ok(IntegrityVerdict::Sound)));
            }
            if are_sound {
                corruption.clear();
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    };
    let _: Option<std::convert::Infallible> = stopping.unless(report).await;
}

impl Shared {
    /// Records what a look found. `replacement` is why the file that took the LDB's path can't
    /// be read.
    fn record(&self, seen: Result<LdbPosition, ReadError>, replacement: Option<String>) {
        let view = &mut *self.view.borrow_mut();
        let (position, failure) = match seen {
            Ok(position) => (Some(position), replacement),
            Err(ReadError::NotThereYet { .. }) => (None, None),
            Err(error) => {
                if error.is_damage() {
                    self.served.corruption.report(error.to_string());
                }
                (None, Some(error.to_string()))
            }
        };
        view.position = position;
        if view.state == RoleState::Stopping {
            return;
        }
        let Some(message) = failure else {
            if view.state == RoleState::Retrying {
                tracing::info!(role = "reader", "reading the ldb again");
            }
            view.state = RoleState::Running;
            view.failures.end();
            return;
        };
        failed!(view.failures, ErrorKind::Storage, message, "can't read the ldb, retrying");
        view.state = RoleState::Retrying;
    }

    fn status(&self, now: Timestamp) -> RoleStatus {
        let view = self.view.borrow();
        let position = view.position.as_ref();
        let leader_ts = position.and_then(|position| position.leader_ts);
        let details = Details {
            ledger_id: position.and_then(|position| position.ledger_id.clone()),
            applied_at: leader_ts.as_ref().map(ToString::to_string),
            failures: view.failures.count(),
            changes: self.served.feed.status(),
        };
        let status = RoleStatus::new(ActorKind::Reader, view.state).with_error(view.failures.last());
        let mut status = status.with_details(&details);
        let lag = self.served.freshness.lag(position.map_or(Seq::ZERO, |position| position.seq), leader_ts, now);
        status.not_ready = self.not_ready(&view, lag);
        status.last_seq = position.map(|position| position.seq);
        status.lag_seconds = lag.map(|lag| lag.as_secs_f64());
        let metrics = &self.metrics.reader;
        metrics.seq.set(status.last_seq.unwrap_or_default().0);
        metrics.lag_seconds.set(status.lag_seconds.unwrap_or(f64::NAN));
        status
    }

    fn not_ready(&self, view: &View, lag: Option<Duration>) -> Option<String> {
        if matches!(view.state, RoleState::Starting | RoleState::Stopping) {
            return Some("is not running".to_owned());
        }
        let Some(position) = &view.position else {
            let failure = view.failures.last().filter(|_| view.state == RoleState::Retrying);
            return Some(
                failure.map_or("the ldb is not there yet".to_owned(), |f| format!("is retrying: {}", f.message)),
            );
        };
        if let Some(reason) = self.served.corruption.recent() {
            return Some(format!("a read met damage: {reason}"));
        }
        let is_limited = !self.ready_max_lag.is_zero();
        match lag {
            None if is_limited || position.seq == Seq::ZERO => Some("nothing has been applied yet".to_owned()),
            _ if !is_limited => None,
            Some(lag) if lag > self.ready_max_lag => Some(format!(
                "the ldb is {} s behind, at most {} s are allowed",
                lag.as_secs(),
                self.ready_max_lag.as_secs()
            )),
            _ => None,
        }
    }
}
