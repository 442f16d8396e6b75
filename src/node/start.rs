//! Starts the parts of a node against the data flow, so that each actor is given the addresses of
//! the actors that it talks to. Entry points: [`Node::start`] and [`Node::stop`]. The order is that
//! of the picture in ARCHITECTURE.md, from its end. The node owns every HTTP server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};

use crate::actors::applier::{Applier, ApplierOptions};
use crate::actors::dogstatsd::{Dogstatsd, DogstatsdOptions};
use crate::actors::executive::ExecutiveActor;
use crate::actors::fetcher::{Fetcher, FetcherOptions};
use crate::actors::heartbeat::{Heartbeat, HeartbeatOptions};
use crate::actors::poller::{ApplierPeer, Poller, PollerPeers};
use crate::actors::reader::{ReaderActor, ReaderState};
use crate::actors::snapshotter::{Snapshotter, SnapshotterOptions};
use crate::config::Settings;
use crate::http::instrument::Observer;
use crate::http::ops::{self, OpsState};
use crate::http::serve::serve;
use crate::http::{executive, reader};
use crate::messages::executive::LedgerGrew;
use crate::messages::ledger::{CaughtUp, Committed, InspectLdb, SlowestCommit};
use crate::messages::status::{ActorKind, GetStatus, RoleState};
use crate::messages::stop::Stop;
use crate::metrics::{self, Metrics};
use ctlstore_core::disk;
use ctlstore_ctldb::{AnyCtldb, AnySource, Ctldb};
use ctlstore_ldb::StatementWatch;
use ctlstore_ldb::snapshot::store;
use ctlstore_reader::read::query::memory;

use super::error::NodeError;
use super::listeners::Listeners;
use super::open_files::OpenFiles;
use super::options::{ExecutivePart, NodeOptions, OpsPart, PollerPart, ReaderPart};
use super::stop::Steps;

/// The executive's server waits this much longer than the executive takes at most.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// How long the start waits until the executive has tried to reach the ctldb, and how often it looks.
const FIRST_TRY_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_TRY_LOOK: Duration = Duration::from_millis(5);

/// The running parts, in the order of the data flow.
pub struct Node {
    metrics: Arc<Metrics>,
    /// True until the stop begins.
    accepting: Arc<AtomicBool>,
    statuses: Vec<(ActorKind, Recipient<GetStatus>)>,
    heartbeat: Option<Recipient<Stop>>,
    executive_http: Option<ServerHandle>,
    executive: Option<Recipient<Stop>>,
    poller: Option<Recipient<Stop>>,
    /// One for each LDB of this host.
    appliers: Vec<Recipient<Stop>>,
    /// Tell the appliers of a stop before their turn comes.
    statement_watches: Vec<Arc<StatementWatch>>,
    fetcher: Option<Recipient<Stop>>,
    snapshotter: Option<Recipient<Stop>>,
    reader: Option<Recipient<Stop>>,
    reader_http: Option<ServerHandle>,
    ops: Option<ServerHandle>,
    dogstatsd: Option<Recipient<Stop>>,
    /// The threads of the actors that have one of their own.
    arbiters: Vec<Arbiter>,
}

impl Node {
    pub async fn start(settings: &Settings, listeners: Listeners, open_files: OpenFiles) -> Result<Self, NodeError> {
        disk::set_modes(settings.ldb.file_mode, settings.ldb.directory_mode);
        store::set_s3_region(&settings.bootstrap.s3_region);
        make_data_directory(settings)?;
        let options = NodeOptions::of(settings, listeners, open_files)?;
        if options.runs_foreign_sql {
            // Before anything uses SQLite.
            memory::bound()?;
        }
        let ctldb = match &options.executive {
            Some(part) => Some(open_ctldb(part).await?),
            None => None,
        };

        let mut node = Self::empty();
        let mut lag_watchers = Vec::new();
        let mut commit_watchers = Vec::new();
        // The reader sends against the data flow when it finds damage, so it needs the appliers' addresses first.
        let contexts: Vec<_> = options.appliers.iter().map(|_| Context::<Applier>::new()).collect();
        let ldb_paths: Vec<_> = options.appliers.iter().map(|applier| applier.path.display().to_string()).collect();
        if let Some(part) = options.reader {
            let inspect = contexts.iter().map(|context| context.address().recipient()).collect();
            let reader = node.start_reader(part, inspect)?;
            lag_watchers.push(reader.clone().recipient());
            commit_watchers.push(reader.recipient());
        }
        let appliers = node.start_appliers(options.appliers, contexts, &commit_watchers)?;
        if let Some(options) = options.fetcher {
            node.start_fetcher(options)?;
        }
        if let Some(options) = options.snapshotter {
            // It asks the applier only for the time of its commits.
            let slowest_commit = appliers.first().map(|applier| applier.clone().recipient());
            node.start_snapshotter(options, slowest_commit);
        }
        let mut poller = None;
        if let Some(part) = options.poller {
            lag_watchers.extend(appliers.iter().map(|applier| applier.clone().recipient()));
            let ldbs = ldb_paths.into_iter().zip(&appliers);
            poller = Some(node.start_poller(part, ldbs, lag_watchers)?);
        }
        if let (Some(part), Some(ctldb)) = (options.executive, ctldb) {
            node.start_executive(part, ctldb, poller).await?;
        }
        if let Some(options) = options.heartbeat {
            node.start_heartbeat(options)?;
        }
        node.start_ops(options.ops)?;
        node.start_dogstatsd(options.dogstatsd);
        Ok(node)
    }

    fn empty() -> Self {
        Self {
            metrics: Metrics::new(),
            accepting: Arc::new(AtomicBool::new(true)),
            statuses: Vec::new(),
            heartbeat: None,
            executive_http: None,
            executive: None,
            poller: None,
            appliers: Vec::new(),
            statement_watches: Vec::new(),
            fetcher: None,
            snapshotter: None,
            reader: None,
            reader_http: None,
            ops: None,
            dogstatsd: None,
            arbiters: Vec::new(),
        }
    }

    fn start_reader(
        &mut self,
        part: ReaderPart,
        inspect: Vec<Recipient<InspectLdb>>,
    ) -> Result<Addr<ReaderActor>, NodeError> {
        let ReaderPart { listener, options, ready_max_lag } = part;
        let failed = |source| NodeError::Server { what: "reader", source };
        let state = ReaderState::start(&options, &self.metrics).map_err(failed)?;
        let ReaderState { feed, freshness, corruption } = &state;
        let server = reader::serve(listener, &options, feed, freshness, corruption, &self.metrics);
        self.reader_http = Some(self.run_server(metrics::Server::Reader, options.server.max_connections, server)?);
        let ldb = options.ldb_reader();
        let reader = ReaderActor::new(ldb, ready_max_lag, state, inspect, self.metrics.clone()).start();
        self.statuses.push((ActorKind::Reader, reader.clone().recipient()));
        self.reader = Some(reader.clone().recipient());
        Ok(reader)
    }

    fn start_snapshotter(&mut self, options: SnapshotterOptions, slowest_commit: Option<Recipient<SlowestCommit>>) {
        let snapshotter = Snapshotter::new(options, slowest_commit, self.metrics.clone()).start();
        self.statuses.push((ActorKind::Snapshotter, snapshotter.clone().recipient()));
        self.snapshotter = Some(snapshotter.recipient());
    }

    fn start_fetcher(&mut self, options: FetcherOptions) -> Result<(), NodeError> {
        let fetcher = Fetcher::open(options, self.metrics.clone())?.start();
        self.statuses.push((ActorKind::Fetcher, fetcher.clone().recipient()));
        self.fetcher = Some(fetcher.recipient());
        Ok(())
    }

    fn start_appliers(
        &mut self,
        options: Vec<ApplierOptions>,
        contexts: Vec<Context<Applier>>,
        commit_watchers: &[Recipient<Committed>],
    ) -> Result<Vec<Addr<Applier>>, NodeError> {
        let mut started = Vec::with_capacity(contexts.len());
        for (context, options) in contexts.into_iter().zip(options) {
            let applier = Applier::open(options, self.metrics.clone())?;
            self.statement_watches.push(applier.watch());
            let applier = context.run(applier.telling(commit_watchers.to_vec()));
            self.statuses.push((ActorKind::Applier, applier.clone().recipient()));
            self.appliers.push(applier.clone().recipient());
            started.push(applier);
        }
        Ok(started)
    }

    /// `ldbs` has the path of each LDB and its applier.
    fn start_poller<'a>(
        &mut self,
        part: PollerPart,
        ldbs: impl Iterator<Item = (String, &'a Addr<Applier>)>,
        caught_up: Vec<Recipient<CaughtUp>>,
    ) -> Result<Recipient<LedgerGrew>, NodeError> {
        let PollerPart { location, ledger, timeout, options, may_bootstrap } = part;
        let peer = |(ldb, applier): (String, &Addr<Applier>)| ApplierPeer {
            ldb,
            apply: applier.clone().recipient(),
            position: applier.clone().recipient(),
            adopt: applier.clone().recipient(),
            has_ldb: applier.clone().recipient(),
            bootstrap: may_bootstrap.then(|| applier.clone().recipient()),
        };
        let peers = PollerPeers { appliers: ldbs.map(peer).collect(), caught_up };
        let source = AnySource::new(&location, ledger, timeout)?;
        let metrics = self.metrics.clone();
        let poller = Poller::start_in_arbiter(&self.arbiter(), move |_| Poller::new(source, options, peers, metrics));
        self.statuses.push((ActorKind::Poller, poller.clone().recipient()));
        self.poller = Some(poller.clone().recipient());
        Ok(poller.recipient())
    }

    async fn start_executive(
        &mut self,
        part: ExecutivePart,
        ctldb: AnyCtldb,
        poller: Option<Recipient<LedgerGrew>>,
    ) -> Result<(), NodeError> {
        let ExecutivePart { listener, server: options, settings, .. } = part;
        let timeout = settings.request_timeout + ANSWER_GRACE;
        let metrics = self.metrics.clone();
        let executive = ExecutiveActor::start_in_arbiter(&self.arbiter(), move |_| {
            ExecutiveActor::new(ctldb, settings, metrics, poller)
        });
        let recipients = ExecutiveActor::recipients(&executive);
        let observer = Observer::new(metrics::Server::Executive, self.metrics.clone());
        let server = executive::server(listener, &options, observer, recipients, timeout);
        self.executive_http = Some(self.run_server(metrics::Server::Executive, options.max_connections, server)?);
        self.statuses.push((ActorKind::Executive, executive.clone().recipient()));
        self.executive = Some(executive.clone().recipient());
        first_try(&executive.recipient()).await;
        Ok(())
    }

    fn start_heartbeat(&mut self, options: HeartbeatOptions) -> Result<(), NodeError> {
        let heartbeat = Heartbeat::new(options, self.metrics.clone())?.start();
        self.statuses.push((ActorKind::Heartbeat, heartbeat.clone().recipient()));
        self.heartbeat = Some(heartbeat.recipient());
        Ok(())
    }

    fn start_ops(&mut self, part: OpsPart) -> Result<(), NodeError> {
        let OpsPart { listener, server: options, open_files } = part;
        let mut actors = self.statuses.clone();
        actors.sort_by_key(|(kind, _)| *kind);
        let state =
            OpsState { actors: Arc::new(actors), metrics: self.metrics.clone(), accepting: self.accepting.clone() };
        let observer = Observer::new(metrics::Server::Ops, self.metrics.clone());
        let server = serve(listener, &options, observer, ops::bounded_routes(state, open_files.into()));
        self.ops = Some(self.run_server(metrics::Server::Ops, options.max_connections, server)?);
        Ok(())
    }

    /// Starts the sender of metrics, after all actors whose status it asks for.
    fn start_dogstatsd(&mut self, options: Option<DogstatsdOptions>) {
        if let Some(options) = options {
            let actors = self.statuses.iter().map(|(_, actor)| actor.clone()).collect();
            self.dogstatsd = Some(Dogstatsd::new(options, self.metrics.clone(), actors).start().recipient());
        }
    }

    /// A thread for one actor.
    fn arbiter(&mut self) -> ArbiterHandle {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        self.arbiters.push(arbiter);
        handle
    }

    /// Lets a server run that may have so many connections.
    fn run_server(
        &self,
        name: metrics::Server,
        max_connections: usize,
        server: std::io::Result<Server>,
    ) -> Result<ServerHandle, NodeError> {
        let server = server.map_err(|source| NodeError::Server { what: name.as_str(), source })?;
        self.metrics.http.set_max_connections(name, max_connections);
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                // A server that failed can't be started again. As a panic this ends the process.
                panic!("the {}'s server failed: {error}", name.as_str());
            }
        });
        Ok(handle)
    }

    /// Stops everything, a source of data before the parts that it feeds. Returns whether all of it
    /// ended in time.
    pub async fn stop(self, timeout: Duration) -> bool {
        let steps = Steps::within(timeout);
        self.accepting.store(false, Ordering::Relaxed);
        // Otherwise the poller's step would wait for the batch that is being applied.
        self.statement_watches.iter().for_each(|watch| watch.stop());
        steps.actor("heartbeat", self.heartbeat).await;
        steps.server("executive http", self.executive_http).await;
        steps.actor("executive", self.executive).await;
        steps.actor("poller", self.poller).await;
        for applier in self.appliers {
            steps.actor("applier", Some(applier)).await;
        }
        steps.actor("fetcher", self.fetcher).await;
        steps.actor("snapshotter", self.snapshotter).await;
        steps.actor("reader", self.reader).await;
        steps.last_server("reader http", self.reader_http).await;
        // Its last metrics tell of the stop of the others.
        steps.actor("dogstatsd", self.dogstatsd).await;
        steps.last_server("ops", self.ops).await;
        for arbiter in self.arbiters {
            arbiter.stop();
            steps.thread("arbiter", arbiter).await;
        }
        !steps.are_late()
    }
}

fn make_data_directory(settings: &Settings) -> Result<(), NodeError> {
    let path = &settings.node.data_dir;
    if !settings.keeps_data() {
        return Ok(());
    }
    disk::create_directory(path).map_err(|source| NodeError::DataDirectory { path: path.clone(), source })?;
    if disk::is_open_to_all(path) {
        let path = path.display();
        tracing::warn!(%path, "every user may replace files of the data directory: take the right to write from others, or set its sticky bit");
    }
    Ok(())
}

/// Opens the ctldb. An embedded one is made now, before the parts that follow it look for it. If
/// that fails, the executive tries again and reports it.
async fn open_ctldb(part: &ExecutivePart) -> Result<AnyCtldb, NodeError> {
    let ctldb = AnyCtldb::open(&part.location, part.ledger.clone())?;
    if let AnyCtldb::Sqlite(embedded) = &ctldb {
        let _ = embedded.prepare().await;
    }
    Ok(ctldb)
}

/// Waits for a few seconds at most until an actor has tried its work once. If everything is in
/// place, a node that says it is running then takes writes.
async fn first_try(actor: &Recipient<GetStatus>) {
    let tried = async {
        while actor.send(GetStatus).await.is_ok_and(|status| status.state == RoleState::Starting) {
            tokio::time::sleep(FIRST_TRY_LOOK).await;
        }
    };
    // An actor that takes longer goes on; its status says so.
    let _ = tokio::time::timeout(FIRST_TRY_TIMEOUT, tried).await;
}
