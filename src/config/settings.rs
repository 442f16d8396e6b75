//! The settings of a node as typed structs, one per section of the file. Here
//! is the shape only: defaults, checks and loading have files of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use ctlstore_ldb::snapshot::SnapshotUrl;

use super::codec;
use super::ctldb_url::CtldbUrl;

/// Everything that a node can be told. After loading, all paths are absolute.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub node: NodeSettings,
    pub log: LogSettings,
    pub ops: OpsSettings,
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

    /// Whether it fetches versions of the LDB instead.
    pub fn fetches_versions(&self) -> bool {
        self.plays(Role::Reflector) && self.ldb.versioned
    }

    /// All of it as TOML, secrets masked.
    ///
    /// # Errors
    /// A path that is not UTF-8 cannot be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Whether any role of this node opens the ctldb.
    pub fn uses_ctldb(&self) -> bool {
        self.plays(Role::Executive) || self.follows_ledger()
    }
}

/// What a node does; it may play several roles at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Executive,
    Reflector,
    Reader,
    Snapshotter,
    Heartbeat,
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
    /// How long a stop may take in all before the process ends anyway.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsSettings {
    /// Serves `/metrics`, `/status`, `/healthz` and `/readyz`.
    #[serde(deserialize_with = "codec::address")]
    pub bind: SocketAddr,
}

/// Of all servers of the node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Names that clients know this host by, besides those of loopback; in lower case.
    #[serde(deserialize_with = "codec::host_names")]
    pub allowed_hosts: Vec<String>,
    /// Connections of one client address at each server; 0 is no bound.
    #[serde(deserialize_with = "codec::whole")]
    pub max_connections_per_client: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CtldbSettings {
    /// After loading it holds the password, also the one of `password_file`.
    pub url: CtldbUrl,
    /// Holds the password of a `mysql:` URL that carries none.
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
    /// From a request's arrival to its answer.
    #[serde(with = "codec::duration")]
    pub request_timeout: Duration,
    /// Whether tables may be dropped and cleared by HTTP.
    #[serde(deserialize_with = "codec::boolean")]
    pub destructive_schema_changes: bool,
    /// How long ledger rows are kept; `None` keeps them for ever.
    #[serde(with = "codec::maybe_duration")]
    pub ledger_retention: Option<Duration>,
    /// Whose snapshots must have what goes; none are those of `snapshotter.urls`.
    #[serde(deserialize_with = "codec::snapshot_urls")]
    pub ledger_retention_snapshots: Vec<SnapshotUrl>,
    /// That no reflector of the original follows this ctldb, should the original have made it.
    #[serde(deserialize_with = "codec::boolean")]
    pub no_original_reflectors: bool,
    pub writer_limit: WriterLimitSettings,
    pub table_limit: TableLimitSettings,
}

impl ExecutiveSettings {
    /// Where the snapshots are on whose word the ledger is pruned.
    pub fn retention_snapshots<'a>(&'a self, snapshotter: &'a SnapshotterSettings) -> &'a [SnapshotUrl] {
        if self.ledger_retention_snapshots.is_empty() { &snapshotter.urls } else { &self.ledger_retention_snapshots }
    }
}

/// What a writer may write when no limit of its own is stored in the ctldb.
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

/// How large a table may be when no limit of its own is stored in the ctldb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLimitSettings {
    /// Bytes of data and indexes from which on a warning is logged.
    #[serde(with = "codec::bytes")]
    pub warn_bytes: u64,
    /// Bytes of data and indexes from which on writes are refused.
    #[serde(with = "codec::bytes")]
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReflectorSettings {
    #[serde(with = "codec::duration")]
    pub poll_interval: Duration,
    /// The part of `poll_interval` that is left to chance, 0 to 1.
    #[serde(deserialize_with = "codec::fraction")]
    pub poll_jitter: f64,
    /// The longest that one query for ledger rows may take.
    #[serde(with = "codec::duration")]
    pub poll_timeout: Duration,
    /// The most ledger rows that are read, and applied, at once.
    #[serde(deserialize_with = "codec::whole")]
    pub block_rows: usize,
    /// The most bytes of statements that are read, and applied, at once.
    #[serde(with = "codec::bytes")]
    pub block_bytes: u64,
    /// The longest that a ledger statement in none of the protocol's forms may run.
    #[serde(with = "codec::duration")]
    pub statement_max_time: Duration,
    /// The most bytes of such a statement, and of any value or row that it makes.
    #[serde(with = "codec::bytes")]
    pub statement_max_bytes: u64,
    /// The most bytes of memory that SQLite may take for such a statement.
    #[serde(with = "codec::bytes")]
    pub statement_max_memory_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdbSettings {
    #[serde(deserialize_with = "codec::path")]
    pub path: PathBuf,
    /// The WAL's size from which on it is checkpointed.
    #[serde(with = "codec::bytes")]
    pub wal_checkpoint_bytes: u64,
    /// Whether this host fetches whole LDBs, each a version, instead of following the ledger.
    #[serde(deserialize_with = "codec::boolean")]
    pub versioned: bool,
    /// Versions that stay.
    #[serde(deserialize_with = "codec::whole")]
    pub versioned_keep: usize,
    /// Between two times that the sources are asked for a newer one.
    #[serde(with = "codec::duration")]
    pub versioned_interval: Duration,
}

impl LdbSettings {
    /// The directory of versions, beside the LDB's path.
    pub fn versions(&self) -> PathBuf {
        self.path.with_file_name("versioned")
    }
}

/// Where a reflector gets an LDB that it does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSettings {
    /// Snapshots, asked for in this order.
    #[serde(deserialize_with = "codec::snapshot_urls")]
    pub urls: Vec<SnapshotUrl>,
    /// Whether to begin with an empty LDB where none of them exists.
    #[serde(deserialize_with = "codec::allow_empty")]
    pub allow_empty: AllowEmpty,
    /// How many times its stored size a compressed snapshot without a manifest may have.
    #[serde(deserialize_with = "codec::whole")]
    pub max_expansion: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowEmpty {
    /// Where the ledger still begins at its start.
    Auto,
    True,
    False,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangelogSettings {
    #[serde(deserialize_with = "codec::path")]
    pub path: PathBuf,
    /// The size past which a new file is begun; 0 switches the changelog off.
    #[serde(with = "codec::bytes")]
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesSettings {
    /// The bytes of history that are kept beside the LDB; 0 keeps none.
    #[serde(with = "codec::bytes")]
    pub retain_bytes: u64,
    /// Clients of the change feed at one time.
    #[serde(deserialize_with = "codec::whole")]
    pub max_clients: usize,
    /// The longest time without a sign of life from the change feed.
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
    /// The lag up to which the reader calls itself ready; 0 ignores lag.
    #[serde(with = "codec::duration")]
    pub ready_max_lag: Duration,
    /// Threads that serve requests; 0 is one per core.
    #[serde(deserialize_with = "codec::whole")]
    pub workers: usize,
    pub query: ReaderQuerySettings,
}

/// SQL in the words of others.
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
    /// What SQLite may hold for one query.
    #[serde(with = "codec::bytes")]
    pub max_memory_bytes: u64,
    /// Queries that run at one time, each on a thread of its own.
    #[serde(deserialize_with = "codec::whole")]
    pub max_running: usize,
    /// Queries that wait for a thread.
    #[serde(deserialize_with = "codec::whole")]
    pub max_waiting: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotterSettings {
    #[serde(with = "codec::duration")]
    pub interval: Duration,
    /// Where each snapshot is put; all of them get every one.
    #[serde(deserialize_with = "codec::snapshot_destinations")]
    pub urls: Vec<SnapshotUrl>,
    /// How many stay at each destination under timestamped names beside the newest.
    #[serde(deserialize_with = "codec::whole")]
    pub keep: usize,
    /// The longest that an object store may be silent.
    #[serde(with = "codec::duration")]
    pub store_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatSettings {
    #[serde(with = "codec::duration")]
    pub interval: Duration,
    /// None is the executive of this node.
    #[serde(with = "codec::maybe_url")]
    pub executive_url: Option<Url>,
    #[serde(deserialize_with = "codec::family_name")]
    pub family: String,
    #[serde(deserialize_with = "codec::table_name")]
    pub table: String,
    #[serde(deserialize_with = "codec::writer_name")]
    pub writer: String,
    /// After loading also the one of `secret_file`. None is one made at the
    /// first start and kept under `data_dir`.
    #[serde(with = "codec::maybe_secret")]
    pub secret: Option<SecretString>,
    #[serde(with = "codec::maybe_path")]
    pub secret_file: Option<PathBuf>,
}
