//! The default of every setting. config/default.toml shows the same values to people, and a test
//! compares the two.

use std::path::PathBuf;
use std::time::Duration;

use ctlstore_core::disk;
use ctlstore_core::ledger::AllowEmpty;
use ctlstore_core::schema::{FamilyName, TableName, WriterName};
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::choices::{LogFormat, Role};
use super::ctldb_url::CtldbUrl;
use super::settings::*;

const MIB: u64 = 1024 * 1024;

/// A port that only this machine reaches. To open a port to others takes a setting.
fn loopback(port: u16) -> std::net::SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

impl Default for NodeSettings {
    fn default() -> Self {
        let roles = [Role::Executive, Role::Reflector, Role::Reader, Role::Snapshotter, Role::Heartbeat];
        Self { roles: roles.into(), data_dir: PathBuf::from("data"), shutdown_timeout: Duration::from_secs(25) }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for OpsSettings {
    fn default() -> Self {
        Self { bind: loopback(9090), bind_fallback: false }
    }
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            dogstatsd: None,
            dogstatsd_buffer_bytes: 1024,
            dogstatsd_flush_interval: Duration::from_secs(5),
            dogstatsd_tags: Vec::new(),
        }
    }
}

impl Default for CtldbSettings {
    fn default() -> Self {
        Self {
            url: CtldbUrl::Sqlite(PathBuf::from("ctldb.db")),
            password_file: None,
            ledger_table: "ctlstore_dml_ledger".to_owned(),
        }
    }
}

impl Default for ExecutiveSettings {
    fn default() -> Self {
        Self {
            bind: loopback(3000),
            request_timeout: Duration::from_secs(30),
            destructive_schema_changes: false,
            ledger_retention: None,
            ledger_retention_snapshots: Vec::new(),
            no_original_reflectors: false,
            writer_limit: WriterLimitSettings::default(),
            table_limit: TableLimitSettings::default(),
        }
    }
}

impl Default for WriterLimitSettings {
    fn default() -> Self {
        Self { rows: 1000, period: Duration::from_secs(60) }
    }
}

impl Default for TableLimitSettings {
    fn default() -> Self {
        Self { warn_bytes: 50 * MIB, max_bytes: 100 * MIB }
    }
}

impl Default for ReflectorSettings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            poll_jitter: 0.25,
            poll_timeout: Duration::from_secs(5),
            block_rows: 10_000,
            block_bytes: 8 * MIB,
            statement_max_time: Duration::from_secs(600),
            statement_max_bytes: 32 * MIB,
            statement_max_memory_bytes: 512 * MIB,
        }
    }
}

impl Default for LdbSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("ldb.db"),
            paths: Vec::new(),
            rotation: Duration::from_secs(60),
            wal_checkpoint_bytes: 40 * MIB,
            file_mode: disk::FILE_MODE,
            directory_mode: disk::DIRECTORY_MODE,
            versioned: false,
            versioned_keep: 3,
            versioned_interval: Duration::from_secs(30),
        }
    }
}

impl Default for BootstrapSettings {
    fn default() -> Self {
        Self { urls: Vec::new(), allow_empty: AllowEmpty::Auto, max_expansion: 200, s3_region: String::new() }
    }
}

impl Default for ChangelogSettings {
    fn default() -> Self {
        Self { path: PathBuf::from("change.log"), max_bytes: MIB }
    }
}

impl Default for ChangesSettings {
    fn default() -> Self {
        Self { retain_bytes: 64 * MIB, max_clients: 256, heartbeat: Duration::from_secs(15) }
    }
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self {
            bind: loopback(1331),
            max_rows: 0,
            max_response_bytes: 64 * MIB,
            ready_max_lag: Duration::ZERO,
            workers: 0,
            query: ReaderQuerySettings::default(),
        }
    }
}

impl Default for ReaderQuerySettings {
    fn default() -> Self {
        Self {
            enabled: false,
            max_rows: 10_000,
            max_response_bytes: 4 * MIB,
            max_time: Duration::from_secs(1),
            max_memory_bytes: 16 * MIB,
            max_running: 2,
            max_waiting: 16,
        }
    }
}

impl Default for SnapshotterSettings {
    fn default() -> Self {
        let urls = vec![SnapshotUrl::File(PathBuf::from("snapshots/snapshot.db"))];
        Self { interval: Duration::from_secs(300), urls, keep: 0, store_timeout: Duration::from_secs(30) }
    }
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            executive_url: None,
            family: FamilyName::new("ctlstore").expect("a family's name"),
            table: TableName::new("heartbeats").expect("a table's name"),
            writer: WriterName::new("heartbeat").expect("a writer's name"),
            secret: None,
            secret_file: None,
        }
    }
}
