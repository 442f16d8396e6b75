//! The settings of a node as typed structs, one for each section of the file. Entry point:
//! [`Settings`]. Defaults, checks and loading are in other files. config/default.toml explains each
//! key.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use ctlstore_core::ledger::AllowEmpty;
use ctlstore_core::schema::{FamilyName, TableName, WriterName};
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::choices::{LogFormat, Role};
use super::ctldb_url::CtldbUrl;
use super::{agent, codec, permissions};

/// All settings of a node. After loading, all paths are absolute.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub node: NodeSettings,
    pub log: LogSettings,
    pub ops: OpsSettings,
    pub metrics: MetricsSettings,
    pub http: HttpSettings,
    pub ctldb: CtldbSettings,
    pub executive: ExecutiveSettings,
    pub reflector: ReflectorSettings,
    pub ldb: LdbSettings,
    pub bootstrap: BootstrapSettings,
    pub changelog: ChangelogSettings,
    pub changes: ChangesSettings,
    pub reader: ReaderSettings,
    pub snapshotter: SnapshotterSettings,
    pub heartbeat: HeartbeatSettings,
}

impl Settings {
    /// Whether this node plays `role`.
    pub fn plays(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// Whether this node keeps an LDB up to date by the ledger's rows.
    pub fn follows_ledger(&self) -> bool {
        self.plays(Role::Reflector) && !self.ldb.versioned
    }

    /// Whether this node fetches versions of the LDB instead.
    pub fn fetches_versions(&self) -> bool {
        self.plays(Role::Reflector) && self.ldb.versioned
    }

    /// All settings as TOML. Secrets are masked.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Whether any role of this node keeps something in its data directory or in the LDB's.
    pub fn keeps_data(&self) -> bool {
        let embedded = matches!(self.ctldb.url, CtldbUrl::Sqlite(_)) && self.plays(Role::Executive);
        let own_secret = self.plays(Role::Heartbeat) && self.heartbeat.secret.is_none();
        let verifies = self.plays(Role::Executive) && self.executive.ledger_retention.is_some();
        self.plays(Role::Reflector) || self.plays(Role::Snapshotter) || embedded || own_secret || verifies
    }

    /// Whether any role of this node opens the ctldb.
    pub fn uses_ctldb(&self) -> bool {
        self.plays(Role::Executive) || self.follows_ledger()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Never empty after loading.
    #[serde(deserialize_with = "codec::roles")]
    pub roles: BTreeSet<Role>,
    /// Where relative paths start.
    #[serde(deserialize_with = "codec::path")]
    pub data_dir: PathBuf,
    /// How long a stop may take in all. After that the process ends.
    #[serde(with = "codec::duration")]
    pub shutdown_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// A level, or directives such as `info,ctlstore::actors=debug`.
    #[serde(deserialize_with = "codec::log_level")]
    pub level: String,
    #[serde(deserialize_with = "codec::log_format")]
    pub format: LogFormat,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsSettings {
    /// Serves `/metrics`, `/status`, `/healthz` and `/readyz`.
    #[serde(deserialize_with = "codec::address")]
    pub bind: SocketAddr,
    /// Whether a free port of loopback does if `bind` can't be had.
    #[serde(deserialize_with = "codec::boolean")]
    pub bind_fallback: bool,
}

/// Where metrics are sent to, besides `/metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// `host:port` of a Dogstatsd agent; `None` sends nothing.
    #[serde(with = "agent::host_port")]
    pub dogstatsd: Option<String>,
    /// The most bytes of one datagram.
    #[serde(with = "codec::bytes")]
    pub dogstatsd_buffer_bytes: u64,
    /// Between two times that metrics are sent.
    #[serde(with = "codec::duration")]
    pub dogstatsd_flush_interval: Duration,
    /// `name:value`, on every metric that is sent.
    #[serde(deserialize_with = "agent::tags")]
    pub dogstatsd_tags: Vec<String>,
}

/// For all HTTP servers of the node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Names by which clients know this host, beside those of loopback; in lower case.
    #[serde(deserialize_with = "codec::host_names")]
    pub allowed_hosts: Vec<String>,
    /// The most connections of one client address at each server; 0 is no bound.
    #[serde(deserialize_with = "codec::whole")]
    pub max_connections_per_client: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CtldbSettings {
    /// After loading it contains the password, even one from `password_file`.
    pub url: CtldbUrl,
    /// The file with the password, for a `mysql:` URL without one.
    #[serde(with = "codec::maybe_path")]
    pub password_file: Option<PathBuf>,
    /// A plain SQL identifier.
    #[serde(deserialize_with = "codec::ledger_table")]
    pub ledger_table: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutiveSettings {
    #[serde(deserialize_with = "codec::address")]
    pub bind: SocketAddr,
    /// The longest time from a request's arrival to its answer.
    #[serde(with = "codec::duration")]
    pub request_timeout: Duration,
    /// Whether tables may be dropped and cleared by HTTP.
    #[serde(deserialize_with = "codec::boolean")]
    pub destructive_schema_changes: bool,
    /// How long ledger rows are kept; `None` keeps them for ever.
    #[serde(with = "codec::maybe_duration")]
    pub ledger_retention: Option<Duration>,
    /// The snapshots that must have the rows that go. If empty, those at `snapshotter.urls`.
    #[serde(deserialize_with = "codec::snapshot_urls")]
    pub ledger_retention_snapshots: Vec<SnapshotUrl>,
    /// Whether the operator says that no reflector of the original follows a ctldb that the original
    /// made.
    #[serde(deserialize_with = "codec::boolean")]
    pub no_original_reflectors: bool,
    pub writer_limit: WriterLimitSettings,
    pub table_limit: TableLimitSettings,
}

impl ExecutiveSettings {
    /// The URLs of the snapshots that pruning relies on.
    pub fn retention_snapshots<'a>(&'a self, snapshotter: &'a SnapshotterSettings) -> &'a [SnapshotUrl] {
        if self.ledger_retention_snapshots.is_empty() { &snapshotter.urls } else { &self.ledger_retention_snapshots }
    }
}

/// The rate limit of a writer without a limit of its own in the ctldb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterLimitSettings {
    /// Rows per `period`.
    #[serde(deserialize_with = "codec::whole")]
    pub rows: u64,
    /// Whole seconds, at most a day.
    #[serde(with = "codec::duration")]
    pub period: Duration,
}

/// The size limit of a table without a limit of its own in the ctldb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLimitSettings {
    /// Above so many bytes of data and indexes a warning is logged.
    #[serde(with = "codec::bytes")]
    pub warn_bytes: u64,
    /// Above so many bytes of data and indexes writes are refused.
    #[serde(with = "codec::bytes")]
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReflectorSettings {
    #[serde(with = "codec::duration")]
    pub poll_interval: Duration,
    /// The random part of `poll_interval`, 0 to 1.
    #[serde(deserialize_with = "codec::fraction")]
    pub poll_jitter: f64,
    /// The longest time of one query for ledger rows.
    #[serde(with = "codec::duration")]
    pub poll_timeout: Duration,
    /// The most ledger rows that are read, and applied, at once.
    #[serde(deserialize_with = "codec::whole")]
    pub block_rows: usize,
    /// The most bytes of statements that are read, and applied, at once.
    #[serde(with = "codec::bytes")]
    pub block_bytes: u64,
    /// The longest time of a ledger statement in none of the protocol's forms.
    #[serde(with = "codec::duration")]
    pub statement_max_time: Duration,
    /// The most bytes of such a statement, and of any value or row that it makes.
    #[serde(with = "codec::bytes")]
    pub statement_max_bytes: u64,
    /// The most bytes of memory that SQLite uses for such a statement.
    #[serde(with = "codec::bytes")]
    pub statement_max_memory_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdbSettings {
    #[serde(deserialize_with = "codec::path")]
    pub path: PathBuf,
    /// Several LDBs in place of one. After loading, `path` is the first of them.
    #[serde(deserialize_with = "codec::paths")]
    pub paths: Vec<PathBuf>,
    /// How long readers stay with one of `paths`.
    #[serde(with = "codec::duration")]
    pub rotation: Duration,
    /// The WAL's size at which it is checkpointed.
    #[serde(with = "codec::bytes")]
    pub wal_checkpoint_bytes: u64,
    /// Permissions of the LDB's files, the changelog and snapshots when they are made.
    #[serde(with = "permissions")]
    pub file_mode: u32,
    /// Permissions of directories when they are made.
    #[serde(with = "permissions")]
    pub directory_mode: u32,
    /// Whether this host fetches whole LDBs, each a version, instead of following the ledger.
    #[serde(deserialize_with = "codec::boolean")]
    pub versioned: bool,
    /// How many versions stay.
    #[serde(deserialize_with = "codec::whole")]
    pub versioned_keep: usize,
    /// The pause between two times that the sources are asked for a newer one.
    #[serde(with = "codec::duration")]
    pub versioned_interval: Duration,
}

impl LdbSettings {
    /// The LDBs of this host: `paths`, or `path` alone.
    pub fn all(&self) -> &[PathBuf] {
        if self.paths.is_empty() { std::slice::from_ref(&self.path) } else { &self.paths }
    }

    /// The setting that names them.
    pub fn key(&self) -> &'static str {
        if self.paths.is_empty() { "ldb.path" } else { "ldb.paths" }
    }

    /// The directory of versions, beside the LDB's path.
    pub fn versions(&self) -> PathBuf {
        self.path.with_file_name("versioned")
    }
}

/// Where a reflector gets an LDB from if it has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSettings {
    /// Snapshots, tried in this order.
    #[serde(deserialize_with = "codec::snapshot_urls")]
    pub urls: Vec<SnapshotUrl>,
    /// Whether to begin with an empty LDB if none of them exists.
    #[serde(with = "codec::allow_empty")]
    pub allow_empty: AllowEmpty,
    /// The largest ratio of unpacked to stored size for a compressed snapshot without a manifest.
    #[serde(deserialize_with = "codec::whole")]
    pub max_expansion: u64,
    /// The region of `s3:` URLs; empty leaves it to the environment.
    #[serde(deserialize_with = "codec::region")]
    pub s3_region: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangelogSettings {
    #[serde(deserialize_with = "codec::path")]
    pub path: PathBuf,
    /// After so many bytes a new file is begun; 0 switches the changelog off.
    #[serde(with = "codec::bytes")]
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesSettings {
    /// The bytes of history that are kept beside the LDB; 0 keeps none.
    #[serde(with = "codec::bytes")]
    pub retain_bytes: u64,
    /// The most clients of the change feed at one time.
    #[serde(deserialize_with = "codec::whole")]
    pub max_clients: usize,
    /// The longest time without an event of the change feed.
    #[serde(with = "codec::duration")]
    pub heartbeat: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderSettings {
    #[serde(deserialize_with = "codec::address")]
    pub bind: SocketAddr,
    /// The most rows that one answer may hold; 0 is no limit.
    #[serde(deserialize_with = "codec::whole")]
    pub max_rows: u64,
    /// The most bytes that one answer's body may have.
    #[serde(with = "codec::bytes")]
    pub max_response_bytes: u64,
    /// The lag up to which the reader is ready; 0 ignores lag.
    #[serde(with = "codec::duration")]
    pub ready_max_lag: Duration,
    /// Threads that serve requests; 0 is one per core.
    #[serde(deserialize_with = "codec::whole")]
    pub workers: usize,
    pub query: ReaderQuerySettings,
}

impl ReaderSettings {
    /// Threads that serve requests, on this machine.
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers,
        }
    }
}

/// Queries in SQL, `POST /v1/query`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderQuerySettings {
    #[serde(deserialize_with = "codec::boolean")]
    pub enabled: bool,
    /// The most rows that one answer may hold.
    #[serde(deserialize_with = "codec::whole")]
    pub max_rows: u64,
    /// The most bytes that one answer's body may have.
    #[serde(with = "codec::bytes")]
    pub max_response_bytes: u64,
    /// How long one query may run.
    #[serde(with = "codec::duration")]
    pub max_time: Duration,
    /// The most memory that SQLite uses for one query.
    #[serde(with = "codec::bytes")]
    pub max_memory_bytes: u64,
    /// The most queries that run at one time, each on a thread of its own.
    #[serde(deserialize_with = "codec::whole")]
    pub max_running: usize,
    /// The most queries that wait for a thread.
    #[serde(deserialize_with = "codec::whole")]
    pub max_waiting: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotterSettings {
    #[serde(with = "codec::duration")]
    pub interval: Duration,
    /// Where snapshots are published; every snapshot goes to each of them.
    #[serde(deserialize_with = "codec::snapshot_destinations")]
    pub urls: Vec<SnapshotUrl>,
    /// How many snapshots stay at each destination under timestamped names, beside the newest.
    #[serde(deserialize_with = "codec::whole")]
    pub keep: usize,
    /// The longest silence of an object store within one request.
    #[serde(with = "codec::duration")]
    pub store_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatSettings {
    #[serde(with = "codec::duration")]
    pub interval: Duration,
    /// `None` is the executive of this node.
    #[serde(with = "codec::maybe_url")]
    pub executive_url: Option<Url>,
    #[serde(deserialize_with = "codec::parsed")]
    pub family: FamilyName,
    #[serde(deserialize_with = "codec::parsed")]
    pub table: TableName,
    #[serde(deserialize_with = "codec::parsed")]
    pub writer: WriterName,
    /// After loading also one from `secret_file`. If `None`, the node makes one at its first start and
    /// keeps it under `data_dir`.
    #[serde(with = "codec::maybe_secret")]
    pub secret: Option<SecretString>,
    #[serde(with = "codec::maybe_path")]
    pub secret_file: Option<PathBuf>,
}
