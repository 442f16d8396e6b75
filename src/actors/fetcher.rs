//! The fetcher: asks the sources for a newer snapshot at an interval, and makes each one a version.
//! Entry point: [`Fetcher::open`]. On a host with versioned LDBs it replaces poller and applier. It
//! decides when a round begins and records how it ended. The round itself, in `round`, runs on a
//! thread for blocking work.

mod round;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::actors::download::{Download, Downloading};
use crate::actors::failures::{Failures, failed};
use crate::actors::task::{RoleView, Stopping, TaskActor, TaskRole};
use crate::backoff::{Backoff, jittered};
use crate::messages::status::{ActorKind, RoleState, RoleStatus};
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::SnapshotUrl;
use ctlstore_ldb::snapshot::fetch::{ExpansionLimits, SnapshotSources};
use ctlstore_ldb::{LdbError, Versions};

use round::{FetchOutcome, FetchRound, Fetching, New, NoVersion};

/// The first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The random part of the interval. Hosts that started together then ask at different times.
const JITTER: f64 = 0.1;

/// The fetcher's sources and versions.
#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// The directory of the versions.
    pub directory: PathBuf,
    /// How many versions stay.
    pub keep: usize,
    /// The pause between two rounds.
    pub interval: Duration,
    /// Asked in this order.
    pub urls: Vec<SnapshotUrl>,
    pub limits: ExpansionLimits,
}

/// The fetcher's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FetcherDetails {
    /// The directory of the newest version.
    version: Option<PathBuf>,
    ledger_id: Option<String>,
    /// Versions that were fetched since the start.
    versions: u64,
    /// When a source last told what it has, whether that was new or not.
    asked_at: Option<String>,
    /// When the last version appeared.
    last_at: Option<String>,
    last_source: Option<String>,
    /// The size of the last version's file.
    last_bytes: Option<u64>,
    /// The download that runs now.
    #[serde(flatten)]
    download: Download,
}

/// The state that the actor and its task share.
pub struct FetcherRole {
    interval: Duration,
    metrics: Arc<Metrics>,
    downloading: Arc<Downloading>,
    /// Ends a download.
    abort: Abort,
    /// Whether the failure is that no source can be reached, or that none has a snapshot.
    is_away: Cell<bool>,
    view: RefCell<RoleView<FetcherDetails>>,
}

pub type Fetcher = TaskActor<FetcherRole>;

impl Fetcher {
    /// Claims the directory of versions and finds the newest one.
    ///
    /// # Errors
    /// If another process has claimed the directory, or the file system fails.
    pub fn open(options: FetcherOptions, metrics: Arc<Metrics>) -> Result<Self, LdbError> {
        let versions = Versions::claim(&options.directory, options.keep)?;
        let standing = versions.standing()?;
        let failures = Failures::new(Component::Fetcher, Arc::clone(&metrics));
        let last_seq = standing.seq();
        let ledger_id = standing.ledger_id;
        let version = standing.newest.map(|(version, _)| version);
        metrics.fetcher.seq.set(last_seq.unwrap_or_default().0);
        let view = RoleView::new(failures, FetcherDetails { version, ledger_id, ..FetcherDetails::default() });
        view.borrow_mut().last_seq = last_seq;
        let downloading = Arc::new(Downloading::new(metrics.fetcher.bytes.clone()));
        let abort = Abort::default();
        let sources = SnapshotSources::new(options.urls, options.limits);
        let fetching = Fetching::new(versions, sources, abort.clone(), Arc::clone(&downloading));
        let interval = options.interval;
        let role = FetcherRole { interval, metrics, downloading, abort, is_away: Cell::new(false), view };
        Ok(Self::of(role, move |role, stopping| {
            let view = &mut *role.view.borrow_mut();
            // If there is a version, readers have what they need.
            let has_version = view.details.version.is_some();
            view.state = if has_version { RoleState::Running } else { RoleState::Bootstrapping };
            run(Rc::clone(&role), fetching, stopping)
        }))
    }
}

impl TaskRole for FetcherRole {
    type Details = FetcherDetails;

    const KIND: ActorKind = ActorKind::Fetcher;

    fn view(&self) -> &RefCell<RoleView<FetcherDetails>> {
        &self.view
    }

    fn status(&self) -> RoleStatus {
        let view = &mut *self.view.borrow_mut();
        view.details.download = self.downloading.get();
        // If there is a version, readers have what they need while the sources can't be reached.
        let is_served = self.is_away.get() && view.details.version.is_some();
        view.status(Self::KIND).ready_all_the_same(is_served)
    }

    /// Aborts a download. The versions stay.
    fn begin_stop(&self) {
        self.abort.abort();
    }
}

async fn run(role: Rc<FetcherRole>, mut fetching: Fetching, mut stopping: Stopping) {
    let mut backoff = Backoff::new(FIRST_RETRY.min(role.interval), role.interval);
    loop {
        let round = tokio::task::spawn_blocking(move || {
            let outcome = fetching.round();
            (fetching, outcome)
        });
        // A stop aborts it, so it ends within moments. A panic has ended the process already.
        let Ok((back, outcome)) = round.await else { return };
        fetching = back;
        let pause = role.record(outcome, &mut backoff);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    // Releases the directory's lock, which is a system call.
    let _ = tokio::task::spawn_blocking(move || drop(fetching)).await;
}

impl FetcherRole {
    /// Records the round's outcome. Returns the pause before the next round.
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
                self.is_away.set(matches!(none.kind, ErrorKind::Unavailable | ErrorKind::Refused));
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
                view.details.version = Some(version);
                view.last_seq = Some(seq);
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

    fn appeared(&self, view: &mut RoleView<FetcherDetails>, new: New, now: Timestamp) {
        let seq = new.position.seq;
        let bytes = new.bytes;
        let source = new.source;
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
