//! Taking and storing snapshots.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The snapshotter.
#[derive(Debug)]
pub struct Snapshotter {
    /// Snapshots that reached every destination.
    pub snapshots: Counter,
    /// From the start of the copy to the last destination, in seconds.
    pub duration_seconds: Histogram,
    /// The size of the last one, uncompressed.
    pub size_bytes: Gauge,
    /// The seq of the last one.
    pub seq: Gauge,
    /// Unix seconds of the last one.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
}

impl Snapshotter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("snapshotter");
        let this = Self {
            snapshots: Counter::default(),
            duration_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            size_bytes: Gauge::default(),
            seq: Gauge::default(),
            last_success_seconds: Gauge::default(),
        };
        registry.register("snapshots", "Snapshots that reached every destination", this.snapshots.clone());
        registry.register_with_unit(
            "duration",
            "Time of each snapshot from the start of the copy on",
            Unit::Seconds,
            this.duration_seconds.clone(),
        );
        registry.register_with_unit("size", "Size of the last snapshot", Unit::Bytes, this.size_bytes.clone());
        registry.register("seq", "Seq of the last snapshot", this.seq.clone());
        let last = this.last_success_seconds.clone();
        registry.register_with_unit("last_success_timestamp", "When the last snapshot was done", Unit::Seconds, last);
        this
    }
}
