//! Metrics of taking and publishing snapshots.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The snapshotter.
#[derive(Debug)]
pub struct SnapshotterMetrics {
    /// Snapshots that reached a destination.
    pub snapshots: Counter,
    /// From the start of the copy to the last destination, in seconds.
    pub duration_seconds: Histogram,
    /// The uncompressed size of the last snapshot.
    pub size_bytes: Gauge,
    /// The seq of the last snapshot.
    pub seq: Gauge,
    /// Unix seconds of the last snapshot.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
    /// Copies that failed their check, and were not published.
    pub failed_checks: Counter,
    /// The applier's slowest commit in the round of the last snapshot, in seconds.
    pub apply_stall_seconds: Gauge<f64, AtomicU64>,
    destination_seq: Family<DestinationLabels, Gauge>,
    destination_last_success: Family<DestinationLabels, Gauge<f64, AtomicU64>>,
    destination_failures: Family<DestinationLabels, Counter>,
    destination_busy: Family<DestinationLabels, Gauge>,
}

/// A destination by its index in `snapshotter.urls`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: u64,
}

impl DestinationLabels {
    fn of(destination: usize) -> Self {
        Self { destination: destination as u64 }
    }
}

impl SnapshotterMetrics {
    /// Records that the destination has the snapshot at `seq`. `unix_seconds` is when it got it, if that
    /// is new.
    pub fn reached(&self, destination: usize, seq: i64, unix_seconds: Option<f64>) {
        let labels = DestinationLabels::of(destination);
        self.destination_seq.get_or_create(&labels).set(seq);
        if let Some(seconds) = unix_seconds {
            self.destination_last_success.get_or_create(&labels).set(seconds);
        }
    }

    pub fn failed_at(&self, destination: usize) {
        self.destination_failures.get_or_create(&DestinationLabels::of(destination)).inc();
    }

    /// Whether the destination is still busy with an earlier snapshot.
    pub fn busy(&self, destination: usize, busy: bool) {
        self.destination_busy.get_or_create(&DestinationLabels::of(destination)).set(i64::from(busy));
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("snapshotter");
        let this = Self {
            snapshots: Counter::default(),
            duration_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            size_bytes: Gauge::default(),
            seq: Gauge::default(),
            last_success_seconds: Gauge::default(),
            failed_checks: Counter::default(),
            apply_stall_seconds: Gauge::default(),
            destination_seq: Family::default(),
            destination_last_success: Family::default(),
            destination_failures: Family::default(),
            destination_busy: Family::default(),
        };
        registry.register("snapshots", "Snapshots that reached a destination", this.snapshots.clone());
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
        registry.register(
            "failed_checks",
            "Copies that failed their check and went nowhere",
            this.failed_checks.clone(),
        );
        let stall = this.apply_stall_seconds.clone();
        let help = "The applier's slowest commit while the last snapshot was made";
        registry.register_with_unit("apply_stall", help, Unit::Seconds, stall);
        this.register_destinations(registry);
        this
    }

    fn register_destinations(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("destination");
        registry.register("seq", "Seq of the snapshot at each destination", self.destination_seq.clone());
        registry.register_with_unit(
            "last_success_timestamp",
            "When each destination last got a snapshot",
            Unit::Seconds,
            self.destination_last_success.clone(),
        );
        registry.register("failures", "Failures of each destination", self.destination_failures.clone());
        registry.register(
            "busy",
            "1 while a destination is busy with an earlier snapshot",
            self.destination_busy.clone(),
        );
    }
}
