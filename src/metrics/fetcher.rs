//! Metrics of fetching versions of the LDB.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The fetcher.
#[derive(Debug)]
pub struct FetcherMetrics {
    /// Versions that were fetched.
    pub versions: Counter,
    /// Bytes downloaded, as they are stored, including those of failed downloads.
    pub bytes: Counter,
    /// From the question for a snapshot to the finished version, in seconds.
    pub duration_seconds: Histogram,
    /// The seq of the newest version.
    pub seq: Gauge,
    /// The size of the last version's file.
    pub size_bytes: Gauge,
    /// Unix seconds of the last new version.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
    /// Unix seconds of the last time that a source told what it has.
    pub last_asked_seconds: Gauge<f64, AtomicU64>,
}

impl FetcherMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            versions: Counter::default(),
            bytes: Counter::default(),
            duration_seconds: Histogram::new(exponential_buckets(0.01, 3.0, 12)),
            seq: Gauge::default(),
            size_bytes: Gauge::default(),
            last_success_seconds: Gauge::default(),
            last_asked_seconds: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("fetcher");
        registry.register("versions", "Versions of the LDB fetched", this.versions.clone());
        registry.register_with_unit("downloaded", "Bytes of snapshots downloaded", Unit::Bytes, this.bytes.clone());
        let help = "Time from the question for a snapshot to its version";
        registry.register_with_unit("duration", help, Unit::Seconds, this.duration_seconds.clone());
        registry.register("seq", "Ledger seq of the newest version", this.seq.clone());
        registry.register_with_unit("size", "Size of the last version", Unit::Bytes, this.size_bytes.clone());
        let help = "When the last version appeared";
        let gauge = this.last_success_seconds.clone();
        registry.register_with_unit("last_success_timestamp", help, Unit::Seconds, gauge);
        let help = "When a source last said what there is";
        registry.register_with_unit("last_asked_timestamp", help, Unit::Seconds, this.last_asked_seconds.clone());
        this
    }
}
