//! Reading: where the LDB stands as those see it who read it.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The HTTP reader. What it sees may be another process's LDB.
#[derive(Debug)]
pub struct Reader {
    /// The seq of the LDB that answers come from; 0 while there is none.
    pub seq: Gauge,
    /// How old the answers may be; set whenever the metrics are asked for, and not a
    /// number while that can't be said.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// Clients of the change feed that are connected.
    pub changes_clients: Gauge,
    /// Changes sent to them.
    pub changes_events: Counter,
    /// Times that one of them was told to start over.
    pub changes_resyncs: Counter,
}

impl Reader {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("reader");
        let this = Self {
            seq: Gauge::default(),
            lag_seconds: Gauge::default(),
            changes_clients: Gauge::default(),
            changes_events: Counter::default(),
            changes_resyncs: Counter::default(),
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
        this
    }
}
