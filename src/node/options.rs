//! What the settings mean for each part of the node. The parts don't know the settings.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::actors::applier::{AllowEmpty, BootstrapOptions};
use crate::actors::executive::{ExecutiveOptions, RetentionSettings};
use crate::actors::fetcher::FetcherOptions;
use crate::actors::heartbeat::HeartbeatOptions;
use crate::actors::poller::PollerOptions;
use crate::actors::snapshotter::SnapshotterOptions;
use crate::config::{self, CtldbUrl, Settings};
use crate::http::reader::{FeedOptions, QueryOptions, ReaderOptions};
use crate::http::same_origin::Hosts;
use crate::http::serve::ServerOptions;
use ctlstore_core::ledger::BlockLimit;
use ctlstore_core::schema::TableRef;
use ctlstore_ctldb::executive::{RateLimit, WriteRules};
use ctlstore_ctldb::{Location, ServerAddress, TableLimit};
use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::changelog::history::HistoryOptions;
use ctlstore_ldb::snapshot::fetch::Limits;
use ctlstore_ldb::snapshot::store::StoreOptions;
use ctlstore_ldb::snapshot::{SnapshotUrl, Target, Verifier};
use ctlstore_ldb::{LdbOptions, StatementLimits};
use ctlstore_reader::read::query::QueryLimits;

use super::{NodeError, secret};

/// How long one of the heartbeat's requests may take: its interval, within these.
const HEARTBEAT_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

pub fn location(settings: &Settings) -> Location {
    match &settings.ctldb.url {
        CtldbUrl::Sqlite(path) => Location::Sqlite(path.clone()),
        CtldbUrl::Mysql(url) => {
            Location::Mysql(ServerAddress::new(url.expose()).with_password_file(url.password_file()))
        }
    }
}

pub fn ldb(settings: &Settings) -> LdbOptions {
    let changelog = ChangelogOptions { path: settings.changelog.path.clone(), max_bytes: settings.changelog.max_bytes };
    let history = HistoryOptions::beside(&settings.ldb.path, settings.changes.retain_bytes);
    let wal_checkpoint_bytes = settings.ldb.wal_checkpoint_bytes;
    LdbOptions { wal_checkpoint_bytes, changelog: Some(changelog), history: Some(history) }
}

pub fn statements(settings: &Settings) -> StatementLimits {
    let (reflector, bytes) = (&settings.reflector, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    StatementLimits {
        max_time: reflector.statement_max_time,
        max_bytes: bytes(reflector.statement_max_bytes),
        max_memory_bytes: bytes(reflector.statement_max_memory_bytes),
    }
}

pub fn bootstrap(settings: &Settings) -> BootstrapOptions {
    let allow_empty = match settings.bootstrap.allow_empty {
        config::AllowEmpty::Auto => AllowEmpty::Auto,
        config::AllowEmpty::True => AllowEmpty::Always,
        config::AllowEmpty::False => AllowEmpty::Never,
    };
    BootstrapOptions { urls: settings.bootstrap.urls.clone(), allow_empty, limits: limits(settings) }
}

pub fn fetcher(settings: &Settings) -> FetcherOptions {
    FetcherOptions {
        directory: settings.ldb.versions(),
        keep: settings.ldb.versioned_keep,
        interval: settings.ldb.versioned_interval,
        urls: settings.bootstrap.urls.clone(),
        limits: limits(settings),
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits { max_expansion: settings.bootstrap.max_expansion, ..Limits::default() }
}

pub fn poller(settings: &Settings) -> PollerOptions {
    let reflector = &settings.reflector;
    let bytes = usize::try_from(reflector.block_bytes).unwrap_or(usize::MAX);
    PollerOptions {
        interval: reflector.poll_interval,
        jitter: reflector.poll_jitter,
        block: BlockLimit { rows: reflector.block_rows, bytes },
    }
}

pub fn executive(settings: &Settings) -> ExecutiveOptions {
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

/// Of the snapshots at these places. It works in a directory of its own.
pub fn verifier(settings: &Settings, urls: &[SnapshotUrl]) -> Verifier {
    Verifier::new(urls, settings.node.data_dir.join("verifying"))
}

/// Of a server that listens on `address`. Its handlers only wait for actors: one worker is
/// enough.
pub fn server(settings: &Settings, address: SocketAddr, max_connections: usize) -> ServerOptions {
    ServerOptions {
        max_connections,
        max_connections_per_client: settings.http.max_connections_per_client,
        shutdown_timeout: settings.node.shutdown_timeout,
        hosts: Hosts::of(address.ip(), &settings.http.allowed_hosts),
        ..ServerOptions::default()
    }
}

/// Threads that serve reads.
pub fn reader_workers(settings: &Settings) -> usize {
    match settings.reader.workers {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        workers => workers,
    }
}

/// A quarter of the connections is left to clients that don't stay.
pub fn reader(settings: &Settings, address: SocketAddr, max_connections: usize) -> ReaderOptions {
    let reader = &settings.reader;
    let max_clients = settings.changes.max_clients.min(max_connections - max_connections / 4);
    ReaderOptions {
        ldb_path: if settings.ldb.versioned { settings.ldb.versions() } else { settings.ldb.path.clone() },
        versioned: settings.ldb.versioned,
        max_rows: reader.max_rows,
        max_response_bytes: usize::try_from(reader.max_response_bytes).unwrap_or(usize::MAX),
        feed: FeedOptions { max_clients, heartbeat: settings.changes.heartbeat },
        query: query(&reader.query),
        server: ServerOptions { workers: reader_workers(settings), ..server(settings, address, max_connections) },
    }
}

fn query(query: &config::ReaderQuerySettings) -> Option<QueryOptions> {
    let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let limits = QueryLimits {
        max_rows: query.max_rows,
        max_bytes: bytes(query.max_response_bytes),
        max_time: query.max_time,
        max_memory_bytes: bytes(query.max_memory_bytes),
    };
    let options = QueryOptions { limits, max_running: query.max_running, max_waiting: query.max_waiting };
    query.enabled.then_some(options)
}

pub fn snapshotter(settings: &Settings) -> SnapshotterOptions {
    let snapshotter = &settings.snapshotter;
    let options = StoreOptions { silence: snapshotter.store_timeout, ..StoreOptions::default() };
    let target = |url: &SnapshotUrl| Target { url: url.clone(), keep: snapshotter.keep, options: options.clone() };
    SnapshotterOptions {
        ldb_path: settings.ldb.path.clone(),
        interval: snapshotter.interval,
        targets: snapshotter.urls.iter().map(target).collect(),
    }
}

/// `own` is the URL of this node's executive, for where the settings name no other.
pub fn heartbeat(settings: &Settings, own: Option<String>) -> Result<HeartbeatOptions, NodeError> {
    let heartbeat = &settings.heartbeat;
    let own = own.and_then(|url| Url::parse(&url).ok());
    let executive = heartbeat.executive_url.clone().or(own).ok_or(NodeError::NoExecutive)?;
    let table = TableRef::parse(&heartbeat.family, &heartbeat.table).map_err(NodeError::HeartbeatTable)?;
    Ok(HeartbeatOptions {
        interval: heartbeat.interval,
        request_timeout: heartbeat.interval.clamp(HEARTBEAT_TIMEOUT.0, HEARTBEAT_TIMEOUT.1),
        executive,
        table,
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
