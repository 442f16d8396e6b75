//! The HTTP reader: owns the life of the reader's server and says how fresh its
//! answers are. The server's workers read the LDB themselves; what this actor knows
//! of the LDB it learns by looking a few times a second.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::http::reader::changes::{Feed, FeedStatus};
use crate::http::reader::corruption::CorruptionReports;
use crate::http::reader::freshness::Freshness;
use crate::http::reader::{self, ReaderOptions};
use crate::messages::ledger::{CaughtUp, Committed, InspectLdb};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::IntegrityVerdict;
use ctlstore_reader::read::{LdbReader, ReadError};

/// How often the LDB is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the applier is told of damage at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What the actor and its task share; both live on one thread.
struct Shared {
    /// The lag up to which the reader is ready; zero ignores lag.
    ready_max_lag: Duration,
    metrics: Arc<Metrics>,
    /// What clients of the change feed are served from.
    feed: Arc<Feed>,
    /// What reads that wait for a seq are woken by.
    age: Arc<Freshness>,
    /// What reads have met.
    damage: Arc<CorruptionReports>,
    view: RefCell<View>,
}

/// What a status answer is made from.
struct View {
    state: RoleState,
    /// Where the LDB stood at the last look; `None` while there is none.
    position: Option<LdbPosition>,
    failures: Failures,
}

/// What the reader shows of itself.
#[derive(Debug, Serialize)]
struct Details {
    ledger_id: Option<String>,
    /// When the last applied statement was written, by the ctldb's clock.
    applied_at: Option<String>,
    failures: u64,
    changes: FeedStatus,
}

pub struct HttpReader {
    shared: Rc<Shared>,
    /// Until the actor is started.
    parts: Option<(Server, LdbReader)>,
    handle: ServerHandle,
    running: Option<JoinHandle<()>>,
    task: Option<Task>,
    /// Who can do something about damage.
    applier: Option<Recipient<InspectLdb>>,
    telling: Option<Task>,
}

impl HttpReader {
    /// Builds the server on a bound socket; the actor sets it going when it starts.
    pub fn new(
        listener: TcpListener,
        options: &ReaderOptions,
        ready_max_lag: Duration,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let feed = Arc::new(Feed::start(&options.ldb_path, options.feed.clone(), Arc::clone(&metrics))?);
        let age = Arc::new(Freshness::new(&options.ldb_path));
        let damage = Arc::default();
        let server = reader::serve(listener, options, &feed, &age, &damage, &metrics)?;
        let failures = Failures::new(Component::Reader, Arc::clone(&metrics));
        let view = View { state: RoleState::Starting, position: None, failures };
        Ok(Self {
            shared: Rc::new(Shared { ready_max_lag, metrics, feed, age, damage, view: RefCell::new(view) }),
            handle: server.handle(),
            parts: Some((server, options.ldb_reader())),
            running: None,
            task: None,
            applier: None,
            telling: None,
        })
    }

    /// Tells the applier of the LDB that is read when a read meets damage in it.
    pub fn telling(self, applier: Option<Recipient<InspectLdb>>) -> Self {
        Self { applier, ..self }
    }
}

impl Actor for HttpReader {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some((server, ldb)) = self.parts.take() {
            self.running = Some(actix::spawn(run(server)));
            let shared = Rc::clone(&self.shared);
            self.task = Some(Task::spawn(|stopping| look_again_and_again(shared, ldb, stopping)));
        }
        if let Some(applier) = self.applier.take() {
            let damage = Arc::clone(&self.shared.damage);
            self.telling = Some(Task::spawn(|stopping| tell_of_damage(damage, applier, stopping)));
        }
    }
}

impl Handler<CaughtUp> for HttpReader {
    type Result = ();

    fn handle(&mut self, caught_up: CaughtUp, _: &mut Self::Context) {
        self.shared.age.caught_up(caught_up.at);
    }
}

impl Handler<Committed> for HttpReader {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        self.shared.feed.wake();
        self.shared.age.committed(committed.seq);
    }
}

impl Handler<GetStatus> for HttpReader {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        self.shared.status(Timestamp::now())
    }
}

/// Lets requests in flight finish, within the server's own deadline.
impl Handler<Stop> for HttpReader {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        let (handle, running) = (self.handle.clone(), self.running.take());
        let (task, telling) = (self.task.take(), self.telling.take());
        let feed = Arc::clone(&self.shared.feed);
        self.shared.age.stop();
        let ended = async move {
            // Streams that never end by themselves would keep the server waiting.
            let _ = tokio::task::spawn_blocking(move || feed.stop()).await;
            handle.stop(true).await;
            if let Some(running) = running {
                // Its failure was logged where it happened.
                let _ = running.await;
            }
            Task::stop(task).await;
            Task::stop(telling).await;
        };
        Box::pin(ended.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

async fn run(server: Server) {
    if let Err(error) = server.await {
        // Nothing could set it going again; as a panic it ends the process.
        panic!("the reader's server failed: {error}");
    }
}

async fn look_again_and_again(shared: Rc<Shared>, mut ldb: LdbReader, mut stopping: Stopping) {
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

async fn tell_of_damage(damage: Arc<CorruptionReports>, applier: Recipient<InspectLdb>, mut stopping: Stopping) {
    let tell = async {
        loop {
            damage.met().await;
            // What it finds, its own status says; once it has found none, this reader is as good as before.
            if matches!(applier.send(InspectLdb).await, Ok(Ok(IntegrityVerdict::Sound))) {
                damage.clear();
            }
            tokio::time::sleep(TELL_EVERY).await;
        }
    };
    let _: Option<std::convert::Infallible> = stopping.unless(tell).await;
}

impl Shared {
    /// `replacement`: why the file that has taken the LDB's path can't be read.
    fn record(&self, seen: Result<LdbPosition, ReadError>, replacement: Option<String>) {
        let view = &mut *self.view.borrow_mut();
        let (position, failure) = match seen {
            Ok(position) => (Some(position), replacement),
            Err(ReadError::NotThereYet { .. }) => (None, None),
            Err(error) => {
                if error.is_damage() {
                    self.damage.report(error.to_string());
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
            changes: self.feed.status(),
        };
        let status = RoleStatus::new(ActorKind::Reader, view.state).with_error(view.failures.last());
        let mut status = status.with_details(&details);
        let lag = self.age.lag(position.map_or(Seq::ZERO, |position| position.seq), leader_ts, now);
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
        if let Some(reason) = self.damage.recent() {
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
