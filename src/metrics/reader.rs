//! Metrics of reading: the LDB as the reader sees it, the change feed, and queries.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::QueryOutcome;

/// The reader. Its LDB may be another process's.
#[derive(Debug)]
pub struct ReaderMetrics {
    /// The seq of the LDB that answers come from; 0 while there is none.
    pub seq: Gauge,
    /// The lag of answers. Each request for metrics sets it. It is not a number while the lag is
    /// unknown.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// Clients of the change feed that are connected.
    pub changes_clients: Gauge,
    /// Changes sent to these clients.
    pub changes_events: Counter,
    /// Times that a client was told to start over.
    pub changes_resyncs: Counter,
    /// Queries that are running.
    pub queries_running: Gauge,
    /// Queries that wait for a thread.
    pub queries_waiting: Gauge,
    query_duration: Family<QueryLabels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    outcome: QueryOutcome,
}

impl ReaderMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("reader");
        let this = Self {
            seq: Gauge::default(),
            lag_seconds: Gauge::default(),
            changes_clients: Gauge::default(),
            changes_events: Counter::default(),
            changes_resyncs: Counter::default(),
            queries_running: Gauge::default(),
            queries_waiting: Gauge::default(),
            query_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 4.0, 10))),
        };
        this.lag_seconds.set(f64::NAN);
        registry.register("seq", "Seq of the LDB that answers come from", this.seq.clone());
        let help = "How far the answers are behind the ledger";
        registry.register_with_unit("lag", help, Unit::Seconds, this.lag_seconds.clone());
        let help = "Clients of the change feed";
        registry.register("changes_clients", help, this.changes_clients.clone());
        registry.register("changes_events", "Changes sent to clients of the feed", this.changes_events.clone());
        let help = "Times that a client of the change feed was told to start over";
        registry.register("changes_resyncs", help, this.changes_resyncs.clone());
        registry.register("queries_running", "Queries that are running", this.queries_running.clone());
        registry.register("queries_waiting", "Queries that wait to be run", this.queries_waiting.clone());
        let help = "How long queries ran";
        registry.register_with_unit("query_duration", help, Unit::Seconds, this.query_duration.clone());
        this
    }

    /// Counts a query that ended so and took `took`.
    pub fn query(&self, outcome: QueryOutcome, took: Duration) {
        self.query_duration.get_or_create(&QueryLabels { outcome }).observe(took.as_secs_f64());
    }
}
