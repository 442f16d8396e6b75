//! The metrics of the node, for `/metrics`. Entry point: [`Metrics`], with a group for each part of
//! the node. All parts share it as an `Arc`. The groups hold atomics, so counting never waits. Labels
//! come from the closed sets in `labels` and from [`Route`].
//!
//! Units are base units (seconds, bytes); counters end in `_total`. A test moves every metric by the
//! event that it is for.

mod applier;
mod bootstrap;
pub mod dogstatsd;
mod executive;
mod fetcher;
mod http;
mod labels;
mod poller;
mod reader;
mod snapshotter;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use applier::{ApplierMetrics, ChangelogMetrics, LdbGauges};
pub use bootstrap::BootstrapMetrics;
pub use executive::{ExecutiveMetrics, HeartbeatMetrics};
pub use fetcher::FetcherMetrics;
pub use http::{HttpMetrics, Route};
pub use labels::{CloseReason, Component, ErrorKind, ExecutionPath, Method, QueryOutcome, Queue, RetryReason, Server};
pub use poller::PollerMetrics;
pub use reader::ReaderMetrics;
pub use snapshotter::SnapshotterMetrics;

/// The media type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of this process.
#[derive(Debug)]
pub struct Metrics {
    pub poller: PollerMetrics,
    pub applier: ApplierMetrics,
    pub changelog: ChangelogMetrics,
    pub bootstrap: BootstrapMetrics,
    pub executive: ExecutiveMetrics,
    pub heartbeat: HeartbeatMetrics,
    pub fetcher: FetcherMetrics,
    pub reader: ReaderMetrics,
    pub snapshotter: SnapshotterMetrics,
    pub http: HttpMetrics,
    queues: Family<QueueLabels, Gauge>,
    errors: Family<ErrorLabels, Counter>,
    log_lines_dropped: Counter,
    registry: Registry,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: Queue,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    component: Component,
    kind: ErrorKind,
}

impl Metrics {
    /// A new set, with everything at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("ctlstore");
        let queues = Family::default();
        registry.register("queue_depth", "Entries that wait in a bounded queue", queues.clone());
        let errors = Family::default();
        registry.register("errors", "Failures, each counted once where it is handled", errors.clone());
        let log_lines_dropped = Counter::default();
        let help = "Log lines that were lost: standard error was not read in time";
        registry.register("log_lines_dropped", help, log_lines_dropped.clone());
        Arc::new(Self {
            poller: PollerMetrics::register(&mut registry),
            applier: ApplierMetrics::register(&mut registry),
            changelog: ChangelogMetrics::register(&mut registry),
            bootstrap: BootstrapMetrics::register(&mut registry),
            executive: ExecutiveMetrics::register(&mut registry),
            heartbeat: HeartbeatMetrics::register(&mut registry),
            fetcher: FetcherMetrics::register(&mut registry),
            reader: ReaderMetrics::register(&mut registry),
            snapshotter: SnapshotterMetrics::register(&mut registry),
            http: HttpMetrics::register(&mut registry),
            queues,
            errors,
            log_lines_dropped,
            registry,
        })
    }

    /// Counts a failure. Call it at the place that handles the failure.
    pub fn error(&self, component: Component, kind: ErrorKind) {
        self.errors.get_or_create(&ErrorLabels { component, kind }).inc();
    }

    /// Sets the number of log lines that were lost so far.
    pub fn count_dropped_log_lines(&self, dropped: u64) {
        self.log_lines_dropped.inner().store(dropped, Ordering::Relaxed);
    }

    /// The gauge of a queue's entries. Keep it; call `inc` and `dec` on it.
    pub fn queue(&self, queue: Queue) -> Gauge {
        self.queues.get_or_create_owned(&QueueLabels { queue })
    }

    /// Every metric as OpenMetrics text, which Prometheus reads.
    ///
    /// # Errors
    /// If the encoding of a metric fails; that of our metrics never does.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ctlstore_ldb::CheckpointMode;

    /// A set in which each kind of label was used once.
    fn moved() -> Arc<Metrics> {
        let metrics = Metrics::new();
        metrics.applier.statements(ExecutionPath::Bound, 3);
        metrics.applier.checkpoint(CheckpointMode::Passive, false);
        metrics.executive.retries(RetryReason::Contention, 1);
        metrics.queue(Queue::ApplierBatches).inc();
        metrics.error(Component::Applier, ErrorKind::DiskFull);
        let route = Route::of(Some("/families/{family}"));
        metrics.http.answered(Server::Executive, route, Method::of("POST"), 409, Duration::from_millis(3));
        metrics
    }

    #[test]
    fn names_carry_the_prefix_and_the_unit() {
        let text = moved().encode().unwrap();
        let types: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        assert!(types.len() > 30, "{text}");
        for (name, kind) in types {
            assert!(name.starts_with("ctlstore_"), "{name}");
            let timed = name.contains("duration") || name.contains("lag") || name.contains("timestamp");
            assert!(!timed || name.ends_with("_seconds"), "{name}");
            assert_eq!(kind == "counter", text.contains(&format!("\n{name}_total")), "{name} is a {kind}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_written_in_lower_case_words() {
        let text = moved().encode().unwrap();
        for line in [
            "ctlstore_applier_statements_total{path=\"bound\"} 3",
            "ctlstore_ldb_checkpoints_total{mode=\"passive\",complete=\"false\"} 1",
            "ctlstore_executive_retries_total{reason=\"contention\"} 1",
            "ctlstore_queue_depth{queue=\"applier_batches\"} 1",
            "ctlstore_errors_total{component=\"applier\",kind=\"disk_full\"} 1",
            "ctlstore_http_requests_total{server=\"executive\",route=\"/families/{family}\",method=\"POST\",status=\"409\"} 1",
            "ctlstore_http_request_duration_seconds_count{server=\"executive\",route=\"/families/{family}\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_clients_invent_makes_no_series_of_its_own() {
        assert_eq!(Route::of(Some("/families/mine")), Route::OTHER);
        assert_eq!(Route::of(None), Route::OTHER);
        assert_eq!(Method::of("BREW"), Method::Other);
    }
}
