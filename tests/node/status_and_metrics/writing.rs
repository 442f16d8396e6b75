//! Scenarios with writes that are committed, wait or fail.

use std::time::Duration;

use serde_json::json;

use super::fixture::{lines, ready};
use super::watch::Moved;
use support::client::upserts;
use support::in_process::hold::Hold;
use support::{Client, Node, http};

/// A long poll interval; only the executive's message makes the poller look sooner.
fn node() -> Node {
    Node::new()
        .roles(&["executive", "reflector", "reader"])
        .set("reflector.poll_interval", "10m")
        .set("executive.request_timeout", "2s")
        .set("executive.destructive_schema_changes", true)
}

pub fn a_request_on_its_way_to_the_ldb(moved: &Moved) {
    let (process, watch) = ready(&node().set("changelog.max_bytes", 2000), moved);
    let client = Client::registered(process.executive_url());
    client.create_family("fam").expect(200);
    watch.event("a table is created", &["ctlstore_applier_statements_total{path=\"text\"}"], || {
        client.create_table("fam", "tab", &[("id", "integer"), ("value", "text")], 1).expect(200)
    });
    let counted_by_the_executive = [
        "/executive/last_seq",
        "/executive/details/commits",
        "/executive/details/requests_committed",
        "/executive/details/mutations",
        "ctlstore_executive_mutations_total",
        "ctlstore_executive_ledger_statements_total",
        "ctlstore_executive_commit_duration_seconds_count",
        "ctlstore_executive_commit_requests_count",
    ];
    let counted_by_the_poller = [
        "/poller/last_seq",
        "/poller/details/ledger_seq",
        "/poller/details/rows_read",
        "/poller/details/caught_up_at",
        "ctlstore_poller_ledger_seq",
        "ctlstore_poller_polls_total",
        "ctlstore_poller_wakeups_total",
        "ctlstore_poller_rows_total",
        "ctlstore_poller_read_bytes_total",
        "ctlstore_poller_block_rows_count",
    ];
    let counted_by_the_applier = [
        "/applier/last_seq",
        "/applier/details/statements",
        "/applier/details/rows",
        "/applier/details/commits",
        "/applier/details/changelog_entries",
        "/applier/details/wal_bytes",
        "/applier/details/applied_at",
        "ctlstore_ldb_seq",
        "ctlstore_ldb_wal_bytes",
        "ctlstore_applier_rows_total",
        "ctlstore_applier_transactions_total",
        "ctlstore_applier_statements_total{path=\"bound\"}",
        "ctlstore_applier_commit_duration_seconds_count",
        "ctlstore_applier_commit_statements_count",
        "ctlstore_changelog_entries_total",
    ];
    let seen_by_the_reader = ["/reader/last_seq", "/reader/details/applied_at", "ctlstore_reader_seq"];
    let all = [&counted_by_the_executive[..], &counted_by_the_poller, &counted_by_the_applier, &seen_by_the_reader];
    watch.event("a request of two mutations", &all.concat(), || client.upsert("fam", "tab", &[(1, "one"), (2, "two")]));
    // The counts match the request: one transaction of two statements, and its two markers.
    assert_eq!(watch.now("ctlstore_executive_mutations_total"), "2");
    assert_eq!(watch.now("ctlstore_executive_ledger_statements_total"), "4");
    assert_eq!(watch.now("ctlstore_applier_statements_total{path=\"bound\"}"), "2");
    assert_eq!(watch.now("ctlstore_changelog_entries_total"), "2");
    assert_eq!(watch.now("/applier/last_seq"), watch.now("/executive/last_seq"));

    watch.event("a refused request", &["/executive/details/requests_refused"], || {
        client.try_mutate("fam", &json!({"mutations": []})).expect("an answer").expect(400);
        client.create_family("fam").expect(409)
    });
    let many: Vec<(i64, &str)> = (0..100).map(|id| (id, "filler")).collect();
    watch.event("a changelog that is full", &["ctlstore_changelog_rotations_total"], || {
        client.upsert("fam", "tab", &many)
    });
    watch.event("a table is dropped", &["ctlstore_changelog_resyncs_total"], || {
        http::request("DELETE", &client.url("/families/fam/tables/tab"), &[], "").expect(200)
    });
}

pub fn writes_that_wait_for_a_stranger(moved: &Moved) {
    // On a busy machine the test looks late, and the requests must still wait then.
    let node = node().set("executive.request_timeout", "5s");
    let (process, watch) = ready(&node, moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let url = format!("sqlite:{}", node.data_dir().join("ctldb.db").display());

    let hold = Hold::on(&url);
    let request = |id| (client.clone(), upserts("tab", &[(id, "waits")]));
    let send = |(client, body): (Client, _)| std::thread::spawn(move || client.try_mutate("fam", &body));
    let first = watch
        .event("a request whose commit waits for the lock", &["/executive/details/committing"], || send(request(1)));
    let waiting = ["ctlstore_queue_depth{queue=\"executive_writes\"}", "/executive/details/waiting"];
    let requests = watch.event("requests that wait behind it", &waiting, || [2, 3].map(|id| send(request(id))));
    let failed = [
        "ctlstore_errors_total{component=\"executive\",kind=\"contention\"}",
        "/executive/details/failures",
        "/executive/last_error",
    ];
    watch.event("a lock that is not let go of", &failed, || {
        for request in std::iter::once(first).chain(requests) {
            request.join().expect("the request ends").expect("an answer").expect(503);
        }
    });
    // Further ones fail as well, and the log tells it once.
    let failures = watch.now("/executive/details/failures").as_u64().expect("a number");
    for id in 4..6 {
        client.try_mutate("fam", &upserts("tab", &[(id, "waits")])).expect("an answer").expect(503);
    }
    assert!(watch.now("/executive/details/failures").as_u64().expect("a number") >= failures + 2);
    let said = lines(&process, &["the ctldb failed"]);
    assert!((1..=2).contains(&said.len()), "{said:?}");
    hold.release();
    client.upsert("fam", "tab", &[(7, "written")]);

    // Writing needs the lock's row, so without it nothing is written.
    let storage = ["ctlstore_errors_total{component=\"executive\",kind=\"storage\"}"];
    watch.event("the lock's row is gone", &storage, || {
        support::sql::query(&url, "DELETE FROM locks").expect("delete the row");
        client.try_mutate("fam", &upserts("tab", &[(8, "unsafe")])).expect("an answer").expect(500);
    });
    assert!(watch.now("/executive/last_error")["message"].as_str().expect("a text").contains("'ledger'"));
}

pub fn a_table_over_its_warning_size(moved: &Moved) {
    let node = node();
    let (mut process, _) = ready(&node, moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, &"x".repeat(100_000))]);
    let limit = json!({"max-size": 1_000_000_000, "warn-size": 1000}).to_string();
    http::post(&client.url("/limits/tables/fam/tab"), limit).expect(200);
    // Tables are measured at the start.
    assert!(process.stop(Duration::from_secs(60)).success());
    let (process, watch) = ready(&node, moved);
    let client = Client::new(process.executive_url());
    let counted = ["ctlstore_executive_over_warn_size_total", "/executive/details/over_warn_size"];
    watch.event("a write to a table over its warning size", &counted, || {
        for id in 2..5 {
            client.upsert("fam", "tab", &[(id, "more")]);
        }
    });
    assert_eq!(lines(&process, &["over its warning size", "fam___tab"]).len(), 1);
}
