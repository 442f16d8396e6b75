//! Metrics of applying the ledger to the LDB, and of the changelog.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use ctlstore_ldb::CheckpointMode;

use super::labels::ExecutionPath;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: ExecutionPath,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckpointLabels {
    /// A [`CheckpointMode`].
    mode: &'static str,
    complete: bool,
}

/// One of several LDBs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    file: String,
}

/// The gauges of one LDB. Of several LDBs, the first sets those of a node with one LDB as well.
#[derive(Debug, Default)]
pub struct LdbGauges {
    seq: Vec<Gauge>,
    lag_seconds: Vec<Gauge<f64, AtomicU64>>,
    wal_bytes: Vec<Gauge>,
}

impl LdbGauges {
    pub fn set_seq(&self, seq: i64) {
        self.seq.iter().for_each(|gauge| {
            gauge.set(seq);
        });
    }

    /// Not a number while it can't be said.
    pub fn set_lag_seconds(&self, lag: f64) {
        self.lag_seconds.iter().for_each(|gauge| {
            gauge.set(lag);
        });
    }

    pub fn set_wal_bytes(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.wal_bytes.iter().for_each(|gauge| {
            gauge.set(bytes);
        });
    }
}

/// The LDB applier. What is counted is the sum of all LDBs of the node.
#[derive(Debug)]
pub struct ApplierMetrics {
    /// The last applied seq.
    pub seq: Gauge,
    /// The lag of the LDB. It grows with time alone, so each request for metrics sets it. It is not a
    /// number while the lag is unknown.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// The size of the LDB's WAL, after the last commit or checkpoint.
    pub wal_bytes: Gauge,
    /// Rows of the LDB that statements changed.
    pub rows: Counter,
    /// Ledger transactions applied; a statement outside of a transaction counts as one.
    pub transactions: Counter,
    /// From BEGIN to the end of COMMIT, in seconds.
    pub commit_seconds: Histogram,
    /// Ledger statements in each commit.
    pub commit_statements: Histogram,
    file_seq: Family<FileLabels, Gauge>,
    file_lag_seconds: Family<FileLabels, Gauge<f64, AtomicU64>>,
    file_wal_bytes: Family<FileLabels, Gauge>,
    statements: Family<PathLabels, Counter>,
    checkpoints: Family<CheckpointLabels, Counter>,
}

impl ApplierMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            seq: Gauge::default(),
            lag_seconds: Gauge::default(),
            wal_bytes: Gauge::default(),
            rows: Counter::default(),
            transactions: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            commit_statements: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            file_seq: Family::default(),
            file_lag_seconds: Family::default(),
            file_wal_bytes: Family::default(),
            statements: Family::default(),
            checkpoints: Family::default(),
        };
        this.lag_seconds.set(f64::NAN);
        let ldb = registry.sub_registry_with_prefix("ldb");
        ldb.register("seq", "Last applied seq", this.seq.clone());
        ldb.register_with_unit("lag", "How far the LDB is behind the ledger", Unit::Seconds, this.lag_seconds.clone());
        ldb.register_with_unit("wal", "Size of the LDB's WAL", Unit::Bytes, this.wal_bytes.clone());
        ldb.register("file_seq", "Last applied seq of each of several LDBs", this.file_seq.clone());
        let help = "How far each of several LDBs is behind the ledger";
        ldb.register_with_unit("file_lag", help, Unit::Seconds, this.file_lag_seconds.clone());
        let help = "Size of the WAL of each of several LDBs";
        ldb.register_with_unit("file_wal", help, Unit::Bytes, this.file_wal_bytes.clone());
        ldb.register("checkpoints", "WAL checkpoints by mode and whether they were whole", this.checkpoints.clone());

        let applier = registry.sub_registry_with_prefix("applier");
        applier.register("statements", "Ledger statements applied", this.statements.clone());
        applier.register("rows", "Rows of the LDB changed", this.rows.clone());
        applier.register("transactions", "Ledger transactions applied", this.transactions.clone());
        let help = "Time of each commit from BEGIN on";
        applier.register_with_unit("commit_duration", help, Unit::Seconds, this.commit_seconds.clone());
        applier.register("commit_statements", "Ledger statements in each commit", this.commit_statements.clone());
        this
    }

    /// The gauges of the first or only LDB, or of another one; `file` names one of several.
    pub fn ldb(&self, is_first: bool, file: Option<&str>) -> LdbGauges {
        let mut gauges = LdbGauges::default();
        if is_first {
            gauges.seq.push(self.seq.clone());
            gauges.lag_seconds.push(self.lag_seconds.clone());
            gauges.wal_bytes.push(self.wal_bytes.clone());
        }
        if let Some(file) = file {
            let labels = FileLabels { file: file.to_owned() };
            gauges.seq.push(self.file_seq.get_or_create_owned(&labels));
            gauges.lag_seconds.push(self.file_lag_seconds.get_or_create_owned(&labels));
            gauges.wal_bytes.push(self.file_wal_bytes.get_or_create_owned(&labels));
        }
        gauges
    }

    /// Counts statements that were applied in this way.
    pub fn statements(&self, path: ExecutionPath, count: u64) {
        self.statements.get_or_create(&PathLabels { path }).inc_by(count);
    }

    /// Counts a checkpoint. It is `complete` if the whole WAL reached the database.
    pub fn checkpoint(&self, mode: CheckpointMode, complete: bool) {
        let mode = match mode {
            CheckpointMode::Passive => "passive",
            CheckpointMode::Restart => "restart",
            CheckpointMode::Truncate => "truncate",
        };
        self.checkpoints.get_or_create(&CheckpointLabels { mode, complete }).inc();
    }
}

/// The changelog.
#[derive(Debug)]
pub struct ChangelogMetrics {
    /// Lines written.
    pub entries: Counter,
    /// Jumps in the entries' seq. Followers then drop their caches.
    pub resyncs: Counter,
    /// Times that a new file was begun.
    pub rotations: Counter,
}

impl ChangelogMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("changelog");
        let this = Self { entries: Counter::default(), resyncs: Counter::default(), rotations: Counter::default() };
        registry.register("entries", "Changelog lines written", this.entries.clone());
        registry.register("resyncs", "Jumps that make followers drop their caches", this.resyncs.clone());
        registry.register("rotations", "New changelog files begun", this.rotations.clone());
        this
    }
}
