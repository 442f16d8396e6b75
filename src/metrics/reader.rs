//! Reading: where the LDB stands as those see it who read it.

use std::sync::atomic::AtomicU64;

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
}

impl Reader {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("reader");
        let this = Self { seq: Gauge::default(), lag_seconds: Gauge::default() };
        this.lag_seconds.set(f64::NAN);
        registry.register("seq", "Seq of the LDB that answers come from", this.seq.clone());
        let help = "How far the answers are behind the ledger";
        registry.register_with_unit("lag", help, Unit::Seconds, this.lag_seconds.clone());
        this
    }
}
