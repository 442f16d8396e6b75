//! The fetcher: on a host with versioned LDBs it stands where poller and applier stand
//! elsewhere. It asks the sources for a newer snapshot at its interval and makes each
//! one a version. Fetching runs on a thread for blocking work; this actor keeps the
//! time and the record.

mod round;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;

use crate::actors::download::{Download, Downloading};
use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::backoff::{Backoff, jittered};
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::SnapshotUrl;
use ctlstore_ldb::snapshot::fetch::{Limits, Sources};
use ctlstore_ldb::{LdbError, Versions};

use round::{FetchOutcome, FetchRound, Fetching, New, NoVersion};

/// The first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The part of the interval that is left to chance, so that hosts started together do
/// not ask together.
const JITTER: f64 = 0.1;

/// What to fetch from where.
#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// Of the versions.
    pub directory: PathBuf,
    /// Versions that stay.
    pub keep: usize,
    /// Between two times that the sources are asked.
    pub interval: Duration,
    /// Asked in this order.
    pub urls: Vec<SnapshotUrl>,
    pub limits: Limits,
}

/// What the fetcher shows of itself.
#[derive(Debug, Clone, Default, Serialize)]
struct Details {
    /// The directory of the newest version.
    version: Option<PathBuf>,
    ledger_id: Option<String>,
    /// That were fetched since the start.
    versions: u64,
    failures: u64,
    /// When a source last said what there is, whether that was new or not.
    asked_at: Option<String>,
    /// Of the last version: when it appeared, where it is from, the size of its file.
    last_at: Option<String>,
    last_source: Option<String>,
    last_bytes: Option<u64>,
    /// What is on its way.
    #[serde(flatten)]
    download: Download,
}

/// What the actor and its task share; both live on one thread.
struct Shared {
    interval: Duration,
    metrics: Arc<Metrics>,
    downloading: Arc<Downloading>,
    view: RefCell<View>,
}

/// What a status answer is made from.
struct View {
    state: RoleState,
    last_seq: Option<Seq>,
    failures: Failures,
    /// Whether what fails is that no source can be reached, or has anything.
    is_away: bool,
    details: Details,
}

pub struct Fetcher {
    shared: Rc<Shared>,
    /// Until the actor is started.
    fetching: Option<Fetching>,
    /// Ends a download.
    abort: Abort,
    task: Option<Task>,
}

impl Fetcher {
    /// Claims the directory of versions and looks at what is there.
    ///
    /// # Errors
    /// When another process has it, or the filesystem fails.
    pub fn open(options: FetcherOptions, metrics: Arc<Metrics>) -> Result<Self, LdbError> {
        let versions = Versions::claim(&options.directory, options.keep)?;
        let standing = versions.standing()?;
        let failures = Failures::new(Component::Fetcher, Arc::clone(&metrics));
        let (last_seq, ledger_id) = (standing.seq(), standing.ledger_id);
        let version = standing.newest.map(|(version, _)| version);
        metrics.fetcher.seq.set(last_seq.unwrap_or_default().0);
        let details = Details { version, ledger_id, ..Details::default() };
        let view = View { state: RoleState::Starting, last_seq, failures, is_away: false, details };
        let downloading = Arc::new(Downloading::new(metrics.fetcher.bytes.clone()));
        let abort = Abort::default();
        let fetching = Fetching::new(
            versions,
            Sources::new(options.urls, options.limits),
            abort.clone(),
            Arc::clone(&downloading),
        );
        let shared = Shared { interval: options.interval, metrics, downloading, view: RefCell::new(view) };
        Ok(Self { shared: Rc::new(shared), fetching: Some(fetching), abort, task: None })
    }
}

impl Actor for Fetcher {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(fetching) = self.fetching.take() {
            let view = &mut *self.shared.view.borrow_mut();
            // With a version there, readers have what they need.
            let has_version = view.details.version.is_some();
            view.state = if has_version { RoleState::Running } else { RoleState::Bootstrapping };
            let shared = Rc::clone(&self.shared);
            self.task = Some(Task::spawn(|stopping| run(shared, fetching, stopping)));
        }
    }
}

impl Handler<GetStatus> for Fetcher {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let view = &mut *self.shared.view.borrow_mut();
        view.details.failures = view.failures.count();
        view.details.download = self.shared.downloading.get();
        let status = RoleStatus::new(ActorKind::Fetcher, view.state).with_error(view.failures.last());
        // With a version there, readers have what they need while the sources are away.
        let is_served = view.is_away && view.details.version.is_some();
        let mut status = status.ready_all_the_same(is_served).with_details(&view.details);
        status.last_seq = view.last_seq;
        status
    }
}

/// A download is aborted; the versions that are there stay.
impl Handler<Stop> for Fetcher {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        self.abort.abort();
        Task::then_stop(self.task.take())
    }
}

async fn run(shared: Rc<Shared>, mut fetching: Fetching, mut stopping: Stopping) {
    let mut backoff = Backoff::new(FIRST_RETRY.min(shared.interval), shared.interval);
    loop {
        let round = tokio::task::spawn_blocking(move || {
            let outcome = fetching.round();
            (fetching, outcome)
        });
        // A stop has aborted it, so it ends within moments. One that panicked has ended
        // the process already.
        let Ok((back, outcome)) = round.await else { return };
        fetching = back;
        let pause = shared.record(outcome, &mut backoff);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    // Lets go of the directory's lock, which is a system call.
    let _ = tokio::task::spawn_blocking(move || drop(fetching)).await;
}

impl Shared {
    /// Keeps the round's outcome and says how long to wait for the next.
    fn record(&self, outcome: Result<FetchRound, NoVersion>, backoff: &mut Backoff) -> Duration {
        if self.view.borrow().state == RoleState::Stopping {
            return Duration::ZERO;
        }
        match outcome {
            Ok(round) => {
                self.went_well(round);
                backoff.reset();
                jittered(self.interval, JITTER)
            }
            Err(none) => {
                let view = &mut *self.view.borrow_mut();
                failed!(view.failures, none.kind, none, "no newer version, retrying");
                view.is_away = matches!(none.kind, ErrorKind::Unavailable | ErrorKind::Refused);
                view.state = RoleState::Retrying;
                backoff.next_pause()
            }
        }
    }

    fn went_well(&self, round: FetchRound) {
        let now = Timestamp::now();
        self.metrics.fetcher.last_asked_seconds.set(now.unix_micros() as f64 / 1e6);
        let view = &mut *self.view.borrow_mut();
        view.details.asked_at = Some(now.to_string());
        match round.outcome {
            FetchOutcome::New(new) => self.appeared(view, new, now),
            FetchOutcome::Unchanged { version, seq } => {
                (view.details.version, view.last_seq) = (Some(version), Some(seq));
            }
        }
        if view.state == RoleState::Retrying {
            tracing::info!(role = "fetcher", "the sources are of use again");
        }
        view.state = RoleState::Running;
        if round.troubles.is_empty() {
            view.failures.end();
        }
        for trouble in round.troubles {
            failed!(view.failures, trouble.kind, trouble, "there is a version all the same");
        }
    }

    fn appeared(&self, view: &mut View, new: New, now: Timestamp) {
        let (seq, bytes, source) = (new.position.seq, new.bytes, new.source);
        let version = new.version.display();
        tracing::info!(role = "fetcher", source, %seq, bytes, %version, "new version of the ldb");
        let metrics = &self.metrics.fetcher;
        metrics.versions.inc();
        metrics.duration_seconds.observe(new.took.as_secs_f64());
        metrics.seq.set(seq.0);
        metrics.size_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics.last_success_seconds.set(now.unix_micros() as f64 / 1e6);
        view.last_seq = Some(seq);
        let details = &mut view.details;
        details.versions += 1;
        details.version = Some(new.version);
        details.ledger_id = new.position.ledger_id.or(details.ledger_id.take());
        details.last_at = Some(now.to_string());
        details.last_source = Some(source);
        details.last_bytes = Some(bytes);
    }
}
