//! The versions that appear in the directory, and those that go.

use super::fixture::*;
use support::client::role_status;
use support::{Node, http, wait_until};

#[test]
fn each_new_snapshot_becomes_a_version_that_is_whole_when_it_appears() {
    let origin = Origin::with_rows(300);
    // No reader may find an empty directory.
    origin.snapshot();
    let host = host(&[&format!("file://{}", origin.published().display())]);
    let process = host.start();
    let watch = Watch::on(&host);
    for round in 0..12 {
        let seq = origin.write(0, 100, &format!("round{round}"));
        wait_for_version(&host, seq);
    }
    let seen = watch.end();
    assert!(seen.len() >= 12, "{seen:?}");
    assert!(seen.is_sorted_by(|a, b| a.seq < b.seq), "{seen:?}");
    wait_until("three versions stay", DEADLINE, || versions(&versions_of(&host)).len() == 3);
    let status = wait_for_fetcher(&process, "it has all", |status| status["last_seq"] == origin.last_seq());
    let newest = versions(&versions_of(&host)).pop().expect("a version");
    assert_eq!(status["details"]["version"], newest.to_str().expect("utf-8"));
    assert_eq!((status["state"].as_str(), status["last_error"].is_null()), (Some("running"), true), "{status}");
    assert!(metric(&process, "ctlstore_fetcher_versions_total") >= 12.0);
    assert_eq!(metric(&process, "ctlstore_fetcher_seq"), origin.last_seq() as f64);
    http::get(&format!("{}/readyz", process.ops_url())).expect(200);
    // No LDB is made that would follow the ledger.
    assert!(!host.ldb_path().exists());
}

#[test]
fn a_restarted_host_goes_on_with_what_it_has() {
    let origin = Origin::with_rows(100);
    let published = Published::new("snapshot.db", &origin.snapshot());
    let host = host(&[&published.url]);
    let mut process = host.start();
    wait_for_version(&host, origin.last_seq());
    assert!(process.stop(DEADLINE).success());
    let before = versions(&versions_of(&host));
    let process = host.start();
    wait_for_fetcher(&process, "it has asked again", |status| !status["details"]["asked_at"].is_null());
    assert_eq!(versions(&versions_of(&host)), before);
    let seq = origin.write(0, 50, "newer");
    replace(&published, &origin.snapshot());
    wait_for_version(&host, seq);
    assert_eq!(versions(&versions_of(&host)).len(), 2);
}

#[test]
fn two_nodes_do_not_fetch_into_one_directory() {
    let origin = Origin::with_rows(10);
    let published = Published::new("snapshot.db", &origin.snapshot());
    let first = host(&[&published.url]);
    let process = first.start();
    let second = host(&[&published.url]).set("ldb.path", first.ldb_path().to_str().expect("utf-8"));
    let mut refused = second.spawn();
    assert!(!refused.wait_exit(DEADLINE).success());
    let holder = format!("fetched by another process (pid {})", process.pid());
    assert!(refused.log().contains(&holder), "{}", refused.log());
}

#[test]
fn a_node_can_write_and_read_versions_of_what_another_makes_of_it() {
    let origin = Origin::with_rows(10);
    let url = format!("file://{}", origin.published().display());
    let roles = ["executive", "reflector", "reader"];
    let host: Node = host(&[&url]).roles(&roles);
    let process = host.start();
    wait_for_version(&host, origin.last_seq());
    let status = http::get(&format!("{}/status", process.ops_url())).expect(200).json();
    let names: Vec<_> = status["roles"].as_array().expect("roles").iter().map(|role| &role["role"]).collect();
    assert_eq!(names, ["executive", "fetcher", "reader"]);
    assert_eq!(role_status(&process.ops_url(), "fetcher")["details"]["last_source"], url.as_str());
}
