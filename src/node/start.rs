//! What starts, in which order: against the data flow, so that each actor is handed
//! the addresses of those it talks to. Reads like the picture in ARCHITECTURE.md,
//! from its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};

use crate::actors::applier::Applier;
use crate::actors::executive::ExecutiveActor;
use crate::actors::fetcher::Fetcher;
use crate::actors::heartbeat::Heartbeat;
use crate::actors::poller::{Poller, PollerPeers};
use crate::actors::reader::HttpReader;
use crate::actors::snapshotter::Snapshotter;
use crate::config::{Role, Settings};
use crate::http::executive;
use crate::http::instrument::Observer;
use crate::http::ops::{self, OpsState};
use crate::http::serve::serve;
use crate::messages::executive::LedgerGrew;
use crate::messages::ledger::{CaughtUp, Committed, InspectLdb};
use crate::messages::status::{ActorKind as Part, GetStatus, RoleState};
use crate::messages::stop::Stop;
use crate::metrics::{self, Metrics};
use ctlstore_core::disk;
use ctlstore_ctldb::{AnyCtldb, AnySource, Ctldb, LedgerTable};
use ctlstore_ldb::StatementWatch;
use ctlstore_reader::read::query::memory;

use super::NodeError;
use super::listeners::{Bound, Listeners};
use super::open_files::OpenFiles;
use super::options;
use super::stop::Steps;

/// How much longer a server waits for the executive than the executive takes at most.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// How long the start waits for an executive's first try at the ctldb, and how often it looks.
const FIRST_TRY_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_TRY_LOOK: Duration = Duration::from_millis(5);

/// What runs, in the order of the data flow.
pub struct Node {
    metrics: Arc<Metrics>,
    open_files: OpenFiles,
    /// True until the stop begins.
    accepting: Arc<AtomicBool>,
    statuses: Vec<(Part, Recipient<GetStatus>)>,
    heartbeat: Option<Recipient<Stop>>,
    executive_http: Option<ServerHandle>,
    executive: Option<Recipient<Stop>>,
    poller: Option<Recipient<Stop>>,
    applier: Option<Recipient<Stop>>,
    /// Of the applier, to be told of the stop before its turn comes.
    statement_watch: Option<Arc<StatementWatch>>,
    fetcher: Option<Recipient<Stop>>,
    snapshotter: Option<Recipient<Stop>>,
    reader: Option<Recipient<Stop>>,
    ops: Option<ServerHandle>,
    /// The threads of the actors that have one of their own.
    arbiters: Vec<Arbiter>,
}

impl Node {
    pub async fn start(settings: &Settings, listeners: Listeners, open_files: OpenFiles) -> Result<Self, NodeError> {
        // Before anything uses SQLite.
        let runs_queries = settings.plays(Role::Reader) && settings.reader.query.enabled;
        if runs_queries || settings.follows_ledger() {
            memory::bound()?;
        }
        let data_dir = &settings.node.data_dir;
        disk::create_directory(data_dir)
            .map_err(|source| NodeError::DataDirectory { path: data_dir.clone(), source })?;
        if disk::is_open_to_all(data_dir) {
            let path = data_dir.display();
            tracing::warn!(%path, "every user may replace files of the data directory: take the right to write from others, or set its sticky bit");
        }
        let Listeners { executive, reader, ops } = listeners;
        let executive_url = executive.as_ref().map(Bound::url);
        let ctldb = match executive {
            Some(_) => Some(open_ctldb(settings).await?),
            None => None,
        };

        let mut node = Self::empty(open_files);
        let (mut lag_watchers, mut commit_watchers) = (Vec::new(), Vec::new());
        // The reader is the one that has something to tell against the stream, of damage.
        let applier = settings.follows_ledger().then(Context::<Applier>::new);
        if let Some(bound) = reader {
            let inspect = applier.as_ref().map(|applier| applier.address().recipient());
            let reader = node.start_reader(settings, bound, inspect)?;
            lag_watchers.push(reader.clone().recipient());
            commit_watchers.push(reader.recipient());
        }
        let applier = match applier {
            Some(context) => Some(node.start_applier(settings, context, commit_watchers)?),
            None => None,
        };
        if settings.fetches_versions() {
            node.start_fetcher(settings)?;
        }
        // It takes nothing from the applier but the time of its commits.
        if settings.plays(Role::Snapshotter) {
            node.start_snapshotter(settings, applier.as_ref())?;
        }
        let mut poller = None;
        if let Some(applier) = applier {
            lag_watchers.push(applier.clone().recipient());
            poller = Some(node.start_poller(settings, &applier, lag_watchers)?);
        }
        if let (Some(bound), Some(ctldb)) = (executive, ctldb) {
            node.start_executive(settings, bound, ctldb, poller).await?;
        }
        if settings.plays(Role::Heartbeat) {
            node.start_heartbeat(settings, executive_url)?;
        }
        node.start_ops(settings, ops)?;
        Ok(node)
    }

    fn empty(open_files: OpenFiles) -> Self {
        Self {
            metrics: Metrics::new(),
            open_files,
            accepting: Arc::new(AtomicBool::new(true)),
            statuses: Vec::new(),
            heartbeat: None,
            executive_http: None,
            executive: None,
            poller: None,
            applier: None,
            statement_watch: None,
            fetcher: None,
            snapshotter: None,
            reader: None,
            ops: None,
            arbiters: Vec::new(),
        }
    }

    fn start_reader(
        &mut self,
        settings: &Settings,
        bound: Bound,
        inspect: Option<Recipient<InspectLdb>>,
    ) -> Result<Addr<HttpReader>, NodeError> {
        let max_connections = self.open_files.reader;
        let options = options::reader(settings, bound.address, max_connections);
        self.metrics.http.set_max_connections(metrics::Server::Reader, max_connections);
        let max_lag = settings.reader.ready_max_lag;
        let reader = HttpReader::new(bound.listener, &options, max_lag, self.metrics.clone())
            .map_err(|source| NodeError::Server { what: "reader", source })?
            .telling(inspect)
            .start();
        self.statuses.push((Part::Reader, reader.clone().recipient()));
        self.reader = Some(reader.clone().recipient());
        Ok(reader)
    }

    fn start_snapshotter(&mut self, settings: &Settings, applier: Option<&Addr<Applier>>) -> Result<(), NodeError> {
        let snapshotter = Snapshotter::new(options::snapshotter(settings), self.metrics.clone());
        let snapshotter = snapshotter.measuring(applier.map(|applier| applier.clone().recipient())).start();
        self.statuses.push((Part::Snapshotter, snapshotter.clone().recipient()));
        self.snapshotter = Some(snapshotter.recipient());
        Ok(())
    }

    fn start_fetcher(&mut self, settings: &Settings) -> Result<(), NodeError> {
        let fetcher = Fetcher::open(options::fetcher(settings), self.metrics.clone())?.start();
        self.statuses.push((Part::Fetcher, fetcher.clone().recipient()));
        self.fetcher = Some(fetcher.recipient());
        Ok(())
    }

    fn start_applier(
        &mut self,
        settings: &Settings,
        context: Context<Applier>,
        commit_watchers: Vec<Recipient<Committed>>,
    ) -> Result<Addr<Applier>, NodeError> {
        let (ldb, bootstrap) = (options::ldb(settings), options::bootstrap(settings));
        let limits = options::statements(settings);
        let applier = Applier::open(&settings.ldb.path, ldb, limits, bootstrap, self.metrics.clone())?;
        self.statement_watch = Some(applier.watch());
        let applier = context.run(applier.telling(commit_watchers));
        self.statuses.push((Part::Applier, applier.clone().recipient()));
        self.applier = Some(applier.clone().recipient());
        Ok(applier)
    }

    fn start_poller(
        &mut self,
        settings: &Settings,
        applier: &Addr<Applier>,
        caught_up: Vec<Recipient<CaughtUp>>,
    ) -> Result<Recipient<LedgerGrew>, NodeError> {
        let peers = PollerPeers {
            apply: applier.clone().recipient(),
            position: applier.clone().recipient(),
            adopt: applier.clone().recipient(),
            has_ldb: applier.clone().recipient(),
            bootstrap: (!settings.bootstrap.urls.is_empty()).then(|| applier.clone().recipient()),
            caught_up,
        };
        let ledger = LedgerTable::new(&settings.ctldb.ledger_table)?;
        let source = AnySource::new(&options::location(settings), ledger, settings.reflector.poll_timeout)?;
        let (options, metrics) = (options::poller(settings), self.metrics.clone());
        let poller = Poller::start_in_arbiter(&self.arbiter(), move |_| Poller::new(source, options, peers, metrics));
        self.statuses.push((Part::Poller, poller.clone().recipient()));
        self.poller = Some(poller.clone().recipient());
        Ok(poller.recipient())
    }

    async fn start_executive(
        &mut self,
        settings: &Settings,
        bound: Bound,
        ctldb: AnyCtldb,
        poller: Option<Recipient<LedgerGrew>>,
    ) -> Result<(), NodeError> {
        let (options, metrics) = (options::executive(settings), self.metrics.clone());
        let timeout = options.request_timeout + ANSWER_GRACE;
        let executive = ExecutiveActor::start_in_arbiter(&self.arbiter(), move |_| {
            ExecutiveActor::new(ctldb, options, metrics, poller)
        });
        let recipients = ExecutiveActor::recipients(&executive);
        let observer = Observer::new(metrics::Server::Executive, self.metrics.clone());
        let max_connections = self.open_files.executive;
        let options = options::server(settings, bound.address, max_connections);
        self.metrics.http.set_max_connections(metrics::Server::Executive, max_connections);
        let server = executive::server(bound.listener, &options, observer, recipients, timeout);
        self.executive_http = Some(self.run_server("executive", server)?);
        self.statuses.push((Part::Executive, executive.clone().recipient()));
        self.executive = Some(executive.clone().recipient());
        first_try(&executive.recipient()).await;
        Ok(())
    }

    fn start_heartbeat(&mut self, settings: &Settings, own_executive: Option<String>) -> Result<(), NodeError> {
        let heartbeat = Heartbeat::new(options::heartbeat(settings, own_executive)?, self.metrics.clone())?.start();
        self.statuses.push((Part::Heartbeat, heartbeat.clone().recipient()));
        self.heartbeat = Some(heartbeat.recipient());
        Ok(())
    }

    fn start_ops(&mut self, settings: &Settings, bound: Bound) -> Result<(), NodeError> {
        let mut actors = self.statuses.clone();
        actors.sort_by_key(|(part, _)| *part);
        let state =
            OpsState { actors: Arc::new(actors), metrics: self.metrics.clone(), accepting: self.accepting.clone() };
        let observer = Observer::new(metrics::Server::Ops, self.metrics.clone());
        let options = options::server(settings, bound.address, self.open_files.ops);
        self.metrics.http.set_max_connections(metrics::Server::Ops, self.open_files.ops);
        let server = serve(bound.listener, &options, observer, ops::bounded_routes(state, self.open_files.into()));
        self.ops = Some(self.run_server("ops", server)?);
        Ok(())
    }

    fn arbiter(&mut self) -> ArbiterHandle {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        self.arbiters.push(arbiter);
        handle
    }

    fn run_server(&self, what: &'static str, server: std::io::Result<Server>) -> Result<ServerHandle, NodeError> {
        let server = server.map_err(|source| NodeError::Server { what, source })?;
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                // Nothing could set it going again; as a panic it ends the process.
                panic!("the {what}'s server failed: {error}");
            }
        });
        Ok(handle)
    }

    /// Stops everything, sources of data before what they feed.
    /// Tells whether all of it has ended in time.
    pub async fn stop(self, timeout: Duration) -> bool {
        let steps = Steps::within(timeout);
        self.accepting.store(false, Ordering::Relaxed);
        if let Some(watch) = &self.statement_watch {
            // The poller waits for the batch that is being applied.
            watch.stop();
        }
        steps.actor("heartbeat", self.heartbeat).await;
        steps.server("executive http", self.executive_http).await;
        steps.actor("executive", self.executive).await;
        steps.actor("poller", self.poller).await;
        steps.actor("applier", self.applier).await;
        steps.actor("fetcher", self.fetcher).await;
        steps.actor("snapshotter", self.snapshotter).await;
        steps.actor("reader", self.reader).await;
        steps.last_server("ops", self.ops).await;
        for arbiter in self.arbiters {
            arbiter.stop();
            steps.thread("arbiter", arbiter).await;
        }
        !steps.are_late()
    }
}

/// Opens the ctldb. An embedded one is also made at once, before those who follow it
/// look for it; what fails in that the executive tries again, and tells.
async fn open_ctldb(settings: &Settings) -> Result<AnyCtldb, NodeError> {
    let ledger = LedgerTable::new(&settings.ctldb.ledger_table)?;
    let ctldb = AnyCtldb::open(&options::location(settings), ledger)?;
    if let AnyCtldb::Sqlite(embedded) = &ctldb {
        let _ = embedded.prepare().await;
    }
    Ok(ctldb)
}

/// Waits, not for long, until an actor has tried its work once: with everything in
/// place, a node that says it is running takes writes.
async fn first_try(actor: &Recipient<GetStatus>) {
    let tried = async {
        while actor.send(GetStatus).await.is_ok_and(|status| status.state == RoleState::Starting) {
            tokio::time::sleep(FIRST_TRY_LOOK).await;
        }
    };
    // An actor that takes longer goes on; its status says so.
    let _ = tokio::time::timeout(FIRST_TRY_TIMEOUT, tried).await;
}
