//! Metrics of fetching an LDB from a snapshot.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::ErrorKind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: ErrorKind,
}

/// The reflector's bootstrap.
#[derive(Debug)]
pub struct BootstrapMetrics {
    /// Questions for a snapshot, one for each source and try.
    pub attempts: Counter,
    /// Bytes downloaded, as they are stored, including those of failed downloads.
    pub bytes: Counter,
    /// LDBs that were brought forward in their own file.
    pub in_place: Counter,
    /// From the first byte to the replaced LDB, for downloads that succeeded.
    pub duration_seconds: Histogram,
    /// Unix seconds of the last time that a snapshot was fetched to replace the LDB.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
    failures: Family<KindLabels, Counter>,
}

impl BootstrapMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            attempts: Counter::default(),
            bytes: Counter::default(),
            in_place: Counter::default(),
            duration_seconds: Histogram::new(exponential_buckets(0.01, 3.0, 12)),
            last_success_seconds: Gauge::default(),
            failures: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("bootstrap");
        registry.register("attempts", "Snapshots asked for, at each source", this.attempts.clone());
        registry.register("failures", "Snapshots that were not had, by cause", this.failures.clone());
        registry.register_with_unit("downloaded", "Bytes of snapshots downloaded", Unit::Bytes, this.bytes.clone());
        registry.register("in_place", "LDBs brought forward in their own file", this.in_place.clone());
        let help = "Time from the first byte of a snapshot to the switch";
        registry.register_with_unit("duration", help, Unit::Seconds, this.duration_seconds.clone());
        let help = "When the LDB was last replaced by a snapshot";
        let gauge = this.last_success_seconds.clone();
        registry.register_with_unit("last_success_timestamp", help, Unit::Seconds, gauge);
        this
    }

    /// Counts a source that gave no snapshot.
    pub fn failed(&self, kind: ErrorKind) {
        self.failures.get_or_create(&KindLabels { kind }).inc();
    }
}
