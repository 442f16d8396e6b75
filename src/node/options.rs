//! Translates the settings into options of each part of the node. Entry point: [`NodeOptions::of`],
//! which `start` calls once. It decides which parts the node has. The parts themselves don't know the
//! settings.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::actors::applier::{ApplierOptions, BootstrapOptions};
use crate::actors::dogstatsd::DogstatsdOptions;
use crate::actors::executive::{ExecutiveOptions, RetentionSettings};
use crate::actors::fetcher::FetcherOptions;
use crate::actors::heartbeat::HeartbeatOptions;
use crate::actors::poller::PollerOptions;
use crate::actors::snapshotter::SnapshotterOptions;
use crate::config::{self, CtldbUrl, Role, Settings};
use crate::http::reader::{FeedOptions, QueryOptions, ReaderOptions};
use crate::http::same_origin::Hosts;
use crate::http::serve::ServerOptions;
use crate::metrics::dogstatsd::Identity;
use ctlstore_core::ledger::BlockLimit;
use ctlstore_core::schema::TableRef;
use ctlstore_ctldb::executive::{RateLimit, WriteRules};
use ctlstore_ctldb::{LedgerTable, Location, ServerAddress, TableLimit};
use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::changelog::history::HistoryOptions;
use ctlstore_ldb::snapshot::fetch::ExpansionLimits;
use ctlstore_ldb::snapshot::store::StoreOptions;
use ctlstore_ldb::snapshot::{SnapshotUrl, Target, Verifier};
use ctlstore_ldb::{LdbOptions, StatementLimits};
use ctlstore_reader::read::Rotation;
use ctlstore_reader::read::query::QueryLimits;

use super::error::NodeError;
use super::listeners::{Bound, Listeners};
use super::open_files::OpenFiles;
use super::secret;

/// A request of the heartbeat may take as long as its interval, but no less and no more than these.
const HEARTBEAT_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The options of each part. A part that this node does not have is `None`.
pub struct NodeOptions {
    /// Whether the node runs statements or queries that others wrote.
    pub runs_foreign_sql: bool,
    pub reader: Option<ReaderPart>,
    /// One for each LDB of this host.
    pub appliers: Vec<ApplierOptions>,
    pub fetcher: Option<FetcherOptions>,
    pub snapshotter: Option<SnapshotterOptions>,
    pub poller: Option<PollerPart>,
    pub executive: Option<ExecutivePart>,
    pub heartbeat: Option<HeartbeatOptions>,
    pub dogstatsd: Option<DogstatsdOptions>,
    pub ops: OpsPart,
}

pub struct ReaderPart {
    pub listener: TcpListener,
    pub options: ReaderOptions,
    /// The lag up to which the reader is ready; zero ignores lag.
    pub ready_max_lag: Duration,
}

pub struct PollerPart {
    pub location: Location,
    pub ledger: LedgerTable,
    /// The longest time of one query.
    pub timeout: Duration,
    pub options: PollerOptions,
    /// Whether the appliers can get another LDB: from a source, or as a copy of one of several.
    pub may_bootstrap: bool,
}

pub struct ExecutivePart {
    pub listener: TcpListener,
    pub server: ServerOptions,
    pub location: Location,
    pub ledger: LedgerTable,
    pub settings: ExecutiveOptions,
}

pub struct OpsPart {
    pub listener: TcpListener,
    pub server: ServerOptions,
    pub open_files: OpenFiles,
}

impl NodeOptions {
    /// The data directory has to be there: the heartbeat's secret may be kept in it.
    pub fn of(settings: &Settings, listeners: Listeners, open_files: OpenFiles) -> Result<Self, NodeError> {
        let runs_queries = settings.plays(Role::Reader) && settings.reader.query.enabled;
        let Listeners { executive: executive_bound, reader: reader_bound, ops } = listeners;
        let own_executive = executive_bound.as_ref().map(Bound::url);
        let heartbeat = settings.plays(Role::Heartbeat).then(|| heartbeat(settings, own_executive));
        let executive = executive_bound.map(|bound| executive_part(settings, bound, open_files.executive));
        let poller = settings.follows_ledger().then(|| poller_part(settings));
        Ok(Self {
            runs_foreign_sql: runs_queries || settings.follows_ledger(),
            reader: reader_bound.map(|bound| reader_part(settings, bound, open_files.reader)),
            appliers: if settings.follows_ledger() { appliers(settings) } else { Vec::new() },
            fetcher: settings.fetches_versions().then(|| fetcher(settings)),
            snapshotter: settings.plays(Role::Snapshotter).then(|| snapshotter(settings)),
            poller: poller.transpose()?,
            executive: executive.transpose()?,
            heartbeat: heartbeat.transpose()?,
            dogstatsd: dogstatsd(settings),
            ops: OpsPart { server: server(settings, ops.address, open_files.ops), listener: ops.listener, open_files },
        })
    }
}

fn reader_part(settings: &Settings, bound: Bound, max_connections: usize) -> ReaderPart {
    ReaderPart {
        options: reader(settings, bound.address, max_connections),
        listener: bound.listener,
        ready_max_lag: settings.reader.ready_max_lag,
    }
}

/// One for each LDB of this host. Only the first has a changelog and a history of changes, and fetches snapshots.
fn appliers(settings: &Settings) -> Vec<ApplierOptions> {
    let paths = settings.ldb.all();
    let applier = |(index, path): (usize, &PathBuf)| {
        let is_first = index == 0;
        let siblings = paths.iter().filter(|other| *other != path).cloned().collect();
        ApplierOptions {
            path: path.clone(),
            is_first,
            rotation: rotation(settings),
            ldb: if is_first { ldb(settings) } else { LdbOptions { changelog: None, history: None, ..ldb(settings) } },
            limits: statements(settings),
            bootstrap: bootstrap(settings, is_first, siblings),
        }
    };
    paths.iter().enumerate().map(applier).collect()
}

fn poller_part(settings: &Settings) -> Result<PollerPart, NodeError> {
    Ok(PollerPart {
        location: location(settings),
        ledger: LedgerTable::new(&settings.ctldb.ledger_table)?,
        timeout: settings.reflector.poll_timeout,
        options: poller(settings),
        // Of several LDBs, one can be copied from another. A single one only has the sources.
        may_bootstrap: settings.ldb.all().len() > 1 || !settings.bootstrap.urls.is_empty(),
    })
}

fn executive_part(settings: &Settings, bound: Bound, max_connections: usize) -> Result<ExecutivePart, NodeError> {
    Ok(ExecutivePart {
        server: server(settings, bound.address, max_connections),
        listener: bound.listener,
        location: location(settings),
        ledger: LedgerTable::new(&settings.ctldb.ledger_table)?,
        settings: executive(settings),
    })
}

/// The ctldb that the settings name.
pub fn location(settings: &Settings) -> Location {
    match &settings.ctldb.url {
        CtldbUrl::Sqlite(path) => Location::Sqlite(path.clone()),
        CtldbUrl::Mysql(url) => {
            Location::Mysql(ServerAddress::new(url.expose()).with_password_file(url.password_file()))
        }
    }
}

fn ldb(settings: &Settings) -> LdbOptions {
    let changelog = ChangelogOptions { path: settings.changelog.path.clone(), max_bytes: settings.changelog.max_bytes };
    let history = HistoryOptions::beside(&settings.ldb.path, settings.changes.retain_bytes);
    let wal_checkpoint_bytes = settings.ldb.wal_checkpoint_bytes;
    LdbOptions { wal_checkpoint_bytes, changelog: Some(changelog), history: Some(history) }
}

/// The turns of several LDBs; `None` if there is only one.
fn rotation(settings: &Settings) -> Option<Rotation> {
    let ldb = &settings.ldb;
    (ldb.paths.len() > 1).then(|| Rotation::new(ldb.paths.clone(), ldb.rotation))
}

fn statements(settings: &Settings) -> StatementLimits {
    let reflector = &settings.reflector;
    StatementLimits {
        max_time: reflector.statement_max_time,
        max_bytes: in_memory(reflector.statement_max_bytes),
        max_memory_bytes: in_memory(reflector.statement_max_memory_bytes),
    }
}

fn bootstrap(settings: &Settings, is_first: bool, siblings: Vec<PathBuf>) -> BootstrapOptions {
    let bootstrap = &settings.bootstrap;
    let urls = if is_first { bootstrap.urls.clone() } else { Vec::new() };
    BootstrapOptions { urls, siblings, is_first, allow_empty: bootstrap.allow_empty, limits: limits(settings) }
}

fn fetcher(settings: &Settings) -> FetcherOptions {
    FetcherOptions {
        directory: settings.ldb.versions(),
        keep: settings.ldb.versioned_keep,
        interval: settings.ldb.versioned_interval,
        urls: settings.bootstrap.urls.clone(),
        limits: limits(settings),
    }
}

fn limits(settings: &Settings) -> ExpansionLimits {
    ExpansionLimits { max_expansion: settings.bootstrap.max_expansion, ..ExpansionLimits::default() }
}

fn poller(settings: &Settings) -> PollerOptions {
    let reflector = &settings.reflector;
    PollerOptions {
        interval: reflector.poll_interval,
        jitter: reflector.poll_jitter,
        block: BlockLimit { rows: reflector.block_rows, bytes: in_memory(reflector.block_bytes) },
    }
}

fn executive(settings: &Settings) -> ExecutiveOptions {
    let executive = &settings.executive;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let rules = WriteRules {
        destructive_schema_changes: executive.destructive_schema_changes,
        writer_limit: RateLimit { amount: signed(executive.writer_limit.rows), period: executive.writer_limit.period },
        table_limit: TableLimit {
            warn_bytes: signed(executive.table_limit.warn_bytes),
            max_bytes: signed(executive.table_limit.max_bytes),
        },
    };
    let retention = executive.ledger_retention.map(|keep| RetentionSettings {
        keep,
        no_original_reflectors: executive.no_original_reflectors,
        verifier: verifier(settings, executive.retention_snapshots(&settings.snapshotter)),
    });
    ExecutiveOptions { rules, request_timeout: executive.request_timeout, retention, ..ExecutiveOptions::default() }
}

/// Checks the snapshots at these URLs, in a directory of its own.
pub fn verifier(settings: &Settings, urls: &[SnapshotUrl]) -> Verifier {
    Verifier::new(urls, settings.node.data_dir.join("verifying"))
}

/// For a server that listens on `address`. One worker is enough, because its handlers only wait for
/// actors.
fn server(settings: &Settings, address: SocketAddr, max_connections: usize) -> ServerOptions {
    ServerOptions {
        max_connections,
        max_connections_per_client: settings.http.max_connections_per_client,
        shutdown_timeout: settings.node.shutdown_timeout,
        hosts: Hosts::of(address.ip(), &settings.http.allowed_hosts),
        ..ServerOptions::default()
    }
}

/// Clients of the change feed stay connected, so they get three quarters of the connections at most.
fn reader(settings: &Settings, address: SocketAddr, max_connections: usize) -> ReaderOptions {
    let reader = &settings.reader;
    let max_clients = settings.changes.max_clients.min(max_connections - max_connections / 4);
    ReaderOptions {
        ldb_path: if settings.ldb.versioned { settings.ldb.versions() } else { settings.ldb.path.clone() },
        versioned: settings.ldb.versioned,
        rotation: rotation(settings),
        max_rows: reader.max_rows,
        max_response_bytes: in_memory(reader.max_response_bytes),
        feed: FeedOptions { max_clients, heartbeat: settings.changes.heartbeat },
        query: query(&reader.query),
        server: ServerOptions { workers: reader.worker_threads(), ..server(settings, address, max_connections) },
    }
}

fn query(query: &config::ReaderQuerySettings) -> Option<QueryOptions> {
    let limits = QueryLimits {
        max_rows: query.max_rows,
        max_bytes: in_memory(query.max_response_bytes),
        max_time: query.max_time,
        max_memory_bytes: in_memory(query.max_memory_bytes),
    };
    let options = QueryOptions { limits, max_running: query.max_running, max_waiting: query.max_waiting };
    query.enabled.then_some(options)
}

fn snapshotter(settings: &Settings) -> SnapshotterOptions {
    let snapshotter = &settings.snapshotter;
    let options = StoreOptions { silence: snapshotter.store_timeout, ..StoreOptions::default() };
    let target = |url: &SnapshotUrl| Target { url: url.clone(), keep: snapshotter.keep, options: options.clone() };
    SnapshotterOptions {
        ldb_path: settings.ldb.path.clone(),
        interval: snapshotter.interval,
        targets: snapshotter.urls.iter().map(target).collect(),
    }
}

/// The agent that gets metrics; `None` if none is named.
fn dogstatsd(settings: &Settings) -> Option<DogstatsdOptions> {
    let metrics = &settings.metrics;
    let reflector = if settings.plays(Role::Snapshotter) { "supervisor" } else { "reflector" };
    let is_compressed = |url: &SnapshotUrl| [".gz", ".zst"].iter().any(|end| url.name().ends_with(end));
    let identity = Identity {
        reflector: settings.plays(Role::Reflector).then_some(reflector),
        executive: settings.plays(Role::Executive),
        sidecar: settings.plays(Role::Reader),
        heartbeat: settings.plays(Role::Heartbeat),
        ldb: settings.ldb.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        max_lag_seconds: settings.reader.ready_max_lag.as_secs_f64(),
        compressed: !settings.snapshotter.urls.is_empty() && settings.snapshotter.urls.iter().all(is_compressed),
        tags: metrics.dogstatsd_tags.clone(),
    };
    Some(DogstatsdOptions {
        agent: metrics.dogstatsd.clone()?,
        max_datagram_bytes: usize::try_from(metrics.dogstatsd_buffer_bytes).unwrap_or(usize::MAX),
        interval: metrics.dogstatsd_flush_interval,
        identity,
    })
}

/// `own` is the URL of this node's executive. The heartbeat uses it if the settings name no other.
fn heartbeat(settings: &Settings, own: Option<String>) -> Result<HeartbeatOptions, NodeError> {
    let heartbeat = &settings.heartbeat;
    let own = own.and_then(|url| Url::parse(&url).ok());
    let executive = heartbeat.executive_url.clone().or(own).ok_or(NodeError::NoExecutive)?;
    let table = TableRef::new(heartbeat.family.clone(), heartbeat.table.clone());
    Ok(HeartbeatOptions {
        interval: heartbeat.interval,
        request_timeout: heartbeat.interval.clamp(HEARTBEAT_TIMEOUT.0, HEARTBEAT_TIMEOUT.1),
        executive,
        table: table.map_err(NodeError::HeartbeatTable)?,
        writer: heartbeat.writer.clone(),
        secret: heartbeat_secret(settings)?,
    })
}

fn heartbeat_secret(settings: &Settings) -> Result<SecretString, NodeError> {
    if let Some(secret) = &settings.heartbeat.secret {
        return Ok(secret.clone());
    }
    let path = settings.node.data_dir.clone();
    secret::kept_in(&path).map_err(|source| NodeError::Secret { path, source })
}

/// Bytes as the size of something in memory.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
