//! Metrics of writing: of the executive, and of the heartbeat.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::RetryReason;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    reason: RetryReason,
}

/// The executive, without its HTTP server.
#[derive(Debug)]
pub struct ExecutiveMetrics {
    /// Mutations committed.
    pub mutations: Counter,
    /// Ledger rows committed by mutations, including markers.
    pub statements: Counter,
    /// From asking for the ledger lock to COMMIT's answer, in seconds.
    pub commit_seconds: Histogram,
    /// Requests in each commit.
    pub commit_requests: Histogram,
    /// Commits whose answer was lost and whose outcome was looked up.
    pub lost_commits: Counter,
    /// Schema changes that another executive began and this one finished.
    pub intents_finished: Counter,
    /// Requests that wrote to a table over its warning size.
    pub over_warn_size: Counter,
    /// Ledger rows that pruning deleted.
    pub rows_pruned: Counter,
    /// The first ledger row that pruning has left.
    pub low_water_seq: Gauge,
    /// Unix seconds of the last time that pruning succeeded.
    pub prune_last_success_seconds: Gauge<f64, AtomicU64>,
    retries: Family<RetryLabels, Counter>,
}

impl ExecutiveMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("executive");
        let this = Self {
            mutations: Counter::default(),
            statements: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            commit_requests: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            lost_commits: Counter::default(),
            intents_finished: Counter::default(),
            over_warn_size: Counter::default(),
            rows_pruned: Counter::default(),
            low_water_seq: Gauge::default(),
            prune_last_success_seconds: Gauge::default(),
            retries: Family::default(),
        };
        registry.register("mutations", "Mutations committed", this.mutations.clone());
        registry.register("ledger_statements", "Ledger rows committed by mutations", this.statements.clone());
        let help = "Time of each commit from asking for the ledger lock on";
        registry.register_with_unit("commit_duration", help, Unit::Seconds, this.commit_seconds.clone());
        registry.register("commit_requests", "Requests in each commit", this.commit_requests.clone());
        registry.register("retries", "Transactions run once more", this.retries.clone());
        registry.register("lost_commits", "Commits whose answer was lost", this.lost_commits.clone());
        let help = "Schema changes that were found begun and were finished";
        registry.register("intents_finished", help, this.intents_finished.clone());
        let help = "Requests that wrote to a table over its warning size";
        registry.register("over_warn_size", help, this.over_warn_size.clone());
        registry.register("ledger_rows_pruned", "Old ledger rows deleted", this.rows_pruned.clone());
        let help = "First ledger row that pruning has left";
        registry.register("ledger_low_water_seq", help, this.low_water_seq.clone());
        let help = "When pruning the ledger last ended well";
        let last = this.prune_last_success_seconds.clone();
        registry.register_with_unit("ledger_prune_last_success_timestamp", help, Unit::Seconds, last);
        this
    }

    /// Counts transactions that were repeated.
    pub fn retries(&self, reason: RetryReason, count: u64) {
        self.retries.get_or_create(&RetryLabels { reason }).inc_by(count);
    }
}

/// The heartbeat.
#[derive(Debug)]
pub struct HeartbeatMetrics {
    /// Beats that the executive took.
    pub beats: Counter,
    /// Unix seconds of the last one.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
}

impl HeartbeatMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("heartbeat");
        let this = Self { beats: Counter::default(), last_success_seconds: Gauge::default() };
        registry.register("beats", "Beats that the executive took", this.beats.clone());
        let last = this.last_success_seconds.clone();
        registry.register_with_unit("last_success_timestamp", "When the last beat was taken", Unit::Seconds, last);
        this
    }
}
