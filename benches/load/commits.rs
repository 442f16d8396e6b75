//! What the executive's commits were like during a load, by the node's own metrics and
//! the kernel's account of the processes.

use std::fmt;
use std::ops::{AddAssign, Sub};

use super::process::cpu;
use support::{NodeProcess, http};

/// Counts since the node's start, or between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Commits {
    count: f64,
    requests: f64,
    seconds: f64,
    node_cpu: f64,
    server_cpu: f64,
}

impl Commits {
    /// `server` is the database's process, where it has one.
    pub fn so_far(node: &NodeProcess, server: Option<u32>) -> Self {
        let metrics = http::get(&format!("{}/metrics", node.ops_url())).expect(200).text();
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("the metrics lack {name}"))
        };
        Self {
            count: value("ctlstore_executive_commit_requests_count"),
            requests: value("ctlstore_executive_commit_requests_sum"),
            seconds: value("ctlstore_executive_commit_duration_seconds_sum"),
            node_cpu: cpu(node.pid()).as_secs_f64(),
            server_cpu: server.map_or(0.0, |pid| cpu(pid).as_secs_f64()),
        }
    }
}

impl Sub for Commits {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            requests: self.requests - before.requests,
            seconds: self.seconds - before.seconds,
            node_cpu: self.node_cpu - before.node_cpu,
            server_cpu: self.server_cpu - before.server_cpu,
        }
    }
}

impl AddAssign for Commits {
    fn add_assign(&mut self, more: Self) {
        self.count += more.count;
        self.requests += more.requests;
        self.seconds += more.seconds;
        self.node_cpu += more.node_cpu;
        self.server_cpu += more.server_cpu;
    }
}

impl fmt::Display for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |seconds: f64| seconds * 1e6 / self.count;
        let (requests, wall) = (self.requests / self.count, micros(self.seconds));
        let (node, server) = (micros(self.node_cpu), micros(self.server_cpu));
        write!(f, "{requests:.1} requests, {wall:.0} µs, CPU of the node {node:.0} µs, of the server {server:.0} µs")
    }
}
