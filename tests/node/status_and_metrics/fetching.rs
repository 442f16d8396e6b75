//! Scenarios with fetched snapshots: a host starts from one, and they become versions of its LDB.

use std::fs;
use std::path::Path;

use super::watch::{Moved, Watch};
use support::{Client, Node, scratch_dir};

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

pub fn snapshots_that_are_fetched(moved: &Moved) {
    let origin = Node::new().roles(&["executive", "reflector", "snapshotter"]).set("snapshotter.interval", "100ms");
    let process = origin.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    let directory = scratch_dir();
    let junk = directory.path().join("junk.db");
    fs::write(&junk, "no database").expect("write junk");
    let urls = vec![url(&junk), url(&origin.data_dir().join("snapshots/snapshot.db"))];

    let host = Node::new().roles(&["reflector"]).set("bootstrap.urls", urls.clone());
    let host = host.ctldb(&format!("sqlite:{}", origin.data_dir().join("ctldb.db").display()));
    let process = host.set("bootstrap.allow_empty", false).start();
    let counts = [
        "ctlstore_bootstrap_attempts_total",
        "ctlstore_bootstrap_failures_total{kind=\"snapshot\"}",
        "ctlstore_bootstrap_downloaded_bytes_total",
        "ctlstore_bootstrap_duration_seconds_count",
        "ctlstore_bootstrap_duration_seconds_sum",
        "ctlstore_bootstrap_last_success_timestamp_seconds",
        "/applier/details/bootstrap",
    ];
    Watch::new(process.ops_url(), moved).begins("a snapshot that takes the LDB's place", &counts);

    let host = Node::new().roles(&["reflector"]).set("bootstrap.urls", urls).set("ldb.versioned", true);
    let process = host.set("ldb.versioned_interval", "100ms").start();
    let counts = [
        "ctlstore_fetcher_versions_total",
        "ctlstore_fetcher_downloaded_bytes_total",
        "ctlstore_fetcher_duration_seconds_count",
        "ctlstore_fetcher_duration_seconds_sum",
        "ctlstore_fetcher_seq",
        "ctlstore_fetcher_size_bytes",
        "ctlstore_fetcher_last_success_timestamp_seconds",
        "ctlstore_fetcher_last_asked_timestamp_seconds",
        "ctlstore_errors_total{component=\"fetcher\",kind=\"snapshot\"}",
        "/fetcher/last_seq",
        "/fetcher/last_error",
        "/fetcher/details/version",
    ];
    Watch::new(process.ops_url(), moved).begins("a snapshot that becomes a version", &counts);
}
