//! Scenarios with an executive that prunes its ledger, or can't.

use super::fixture::ready;
use super::watch::Moved;
use support::{Client, Node};

pub fn a_ledger_that_is_kept_short(moved: &Moved) {
    let node = Node::new()
        .roles(&["executive", "reflector", "snapshotter"])
        .set("executive.ledger_retention", "1s")
        .set("snapshotter.interval", "150ms");
    let (process, watch) = ready(&node, moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let what = [
        "/executive/details/ledger_pruned_at",
        "/executive/details/ledger_rows_pruned",
        "/executive/details/ledger_low_water_seq",
        "/executive/details/ledger_snapshot_seq",
        "ctlstore_executive_ledger_rows_pruned_total",
        "ctlstore_executive_ledger_low_water_seq",
        "ctlstore_executive_ledger_prune_last_success_timestamp_seconds",
    ];
    watch.event("rows that are old enough", &what, || {
        for id in 0..20 {
            client.upsert("fam", "tab", &[(id, "old"), (id + 1, "old")]);
        }
    });
}

pub fn a_ledger_whose_snapshot_is_missing(moved: &Moved) {
    let node = Node::new().roles(&["executive"]).set("executive.ledger_retention", "1s");
    let (process, watch) = ready(&node, moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let what = [
        "/executive/details/ledger_prune_failures",
        "/executive/details/ledger_prune_error",
        "ctlstore_errors_total{component=\"retention\",kind=\"unavailable\"}",
    ];
    watch.event("a snapshot that is not there", &what, || client.upsert("fam", "tab", &[(1, "one"), (2, "two")]));
    assert_eq!(watch.now("/executive/state"), "running");
}
