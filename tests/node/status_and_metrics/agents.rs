//! An agent for metrics whose name has no address.

use super::watch::{Moved, Watch};
use support::Node;

pub fn an_agent_without_an_address(moved: &Moved) {
    let node = Node::new().roles(&["executive"]).set("metrics.dogstatsd", "no-such-host.invalid:8125");
    let process = node.set("metrics.dogstatsd_flush_interval", "100ms").start();
    let watch = Watch::new(process.ops_url(), moved);
    watch.begins("an agent that is away", &["ctlstore_errors_total{component=\"dogstatsd\",kind=\"unavailable\"}"]);
}
