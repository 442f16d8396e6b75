//! Metrics of the node's HTTP servers: requests and connections.

use std::fmt::{self, Write};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{CloseReason, Method, Server};

/// A point read takes tens of microseconds, a write that waits for the lock takes seconds, and the
/// default time-out is 30 s.
const LATENCY_SECONDS: [f64; 18] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];

/// The patterns that are labels. Every other path is [`Route::OTHER`].
const PATTERNS: [&str; 33] = [
    "/",
    "/changes",
    "/clear-rows/families/{family}",
    "/clear-rows/families/{family}/tables/{table}",
    "/cookie",
    "/families/{family}",
    "/families/{family}/mutations",
    "/families/{family}/tables/{table}",
    "/get-ledger-latency",
    "/get-row-by-key/{family}/{table}",
    "/get-rows-by-key-prefix/{family}/{table}",
    "/healthcheck",
    "/healthz",
    "/limits/tables",
    "/limits/tables/{family}/{table}",
    "/limits/writers",
    "/limits/writers/{writer}",
    "/metrics",
    "/openapi.json",
    "/ping",
    "/readyz",
    "/readyz/{role}",
    "/schema/family/{family}",
    "/schema/table/{family}/{table}",
    "/status",
    "/tables",
    "/v1/families",
    "/v1/families/{family}/tables/{table}",
    "/v1/query",
    "/v1/rows/{family}/{table}",
    "/v1/rows/{family}/{table}/{key:.*}",
    "/v1/rows:batch",
    "/writers/{writer}",
];

/// A route as a label: its pattern, never the path of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route(&'static str);

impl Route {
    /// Every route's pattern.
    pub const PATTERNS: &[&str] = &PATTERNS;

    /// Every path that matches no route.
    pub const OTHER: Self = Self("other");

    /// The route with this pattern, such as `/families/{family}`.
    pub fn of(pattern: Option<&str>) -> Self {
        let known = pattern.and_then(|pattern| PATTERNS.iter().find(|known| **known == pattern));
        known.map_or(Self::OTHER, |known| Self(known))
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        encoder.write_str(self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    server: Server,
    route: Route,
    method: Method,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    server: Server,
    route: Route,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: Server,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    server: Server,
    reason: CloseReason,
}

/// Requests by route and status, the time of their answers, and connections.
#[derive(Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    latency: Family<LatencyLabels, Histogram, fn() -> Histogram>,
    connections: Family<ServerLabels, Gauge>,
    max_connections: Family<ServerLabels, Gauge>,
    cut: Family<CutLabels, Counter>,
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("http");
        let requests = Family::default();
        registry.register("requests", "Requests answered; status 499: the client left before", requests.clone());
        let latency = Family::new_with_constructor((|| Histogram::new(LATENCY_SECONDS)) as fn() -> Histogram);
        let help = "Time from a request's head to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, latency.clone());
        let connections = Family::default();
        registry.register("connections", "Connections of clients", connections.clone());
        let max_connections = Family::default();
        registry.register("connections_max", "Connections of clients that there may be", max_connections.clone());
        let cut = Family::default();
        registry.register("connections_cut", "Connections closed by the server for want of places", cut.clone());
        Self { requests, latency, connections, max_connections, cut }
    }

    pub fn connection_opened(&self, server: Server) {
        self.connections.get_or_create(&ServerLabels { server }).inc();
    }

    pub fn connection_closed(&self, server: Server) {
        self.connections.get_or_create(&ServerLabels { server }).dec();
    }

    pub fn connection_cut(&self, server: Server, reason: CloseReason) {
        self.cut.get_or_create(&CutLabels { server, reason }).inc();
    }

    /// Sets how many connections a server may have.
    pub fn set_max_connections(&self, server: Server, max: usize) {
        self.max_connections.get_or_create(&ServerLabels { server }).set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// Counts one answered request.
    pub fn answered(&self, server: Server, route: Route, method: Method, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { server, route, method, status }).inc();
        self.latency.get_or_create(&LatencyLabels { server, route }).observe(took.as_secs_f64());
    }
}
