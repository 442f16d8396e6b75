//! Metrics of reading the ledger.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The ledger poller.
#[derive(Debug)]
pub struct PollerMetrics {
    /// The highest seq that was seen in the ledger.
    pub ledger_seq: Gauge,
    /// Queries for ledger rows that were answered.
    pub polls: Counter,
    /// Polls that began before their interval was over, because the executive of this node said that
    /// the ledger grew.
    pub wakeups: Counter,
    /// Ledger rows read.
    pub rows: Counter,
    /// Bytes of statements read.
    pub bytes: Counter,
    /// Ledger rows in each block that was not empty.
    pub block_rows: Histogram,
    /// Gaps in seq that were accepted after the missing range was read again.
    pub gaps: Counter,
}

impl PollerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("poller");
        let this = Self {
            ledger_seq: Gauge::default(),
            polls: Counter::default(),
            wakeups: Counter::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
            block_rows: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            gaps: Counter::default(),
        };
        registry.register("ledger_seq", "Highest seq seen in the ledger", this.ledger_seq.clone());
        registry.register("polls", "Queries for ledger rows that were answered", this.polls.clone());
        registry.register("wakeups", "Polls begun early on word from the executive", this.wakeups.clone());
        registry.register("rows", "Ledger rows read", this.rows.clone());
        registry.register_with_unit("read", "Statement bytes read", Unit::Bytes, this.bytes.clone());
        registry.register("block_rows", "Ledger rows in each block that had any", this.block_rows.clone());
        registry.register("gaps", "Jumps in seq passed", this.gaps.clone());
        this
    }
}
