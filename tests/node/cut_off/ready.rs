//! Readiness: a host is ready by what it needs itself.

use std::process::Command;

use super::{DEADLINE, Origin, ready};
use support::client::{role_status, wait_for_value};
use support::{Node, http, wait_until};

fn health(ops: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command.args(["health", "--url", &format!("{ops}/readyz")]);
    command.output().expect("run ctlstore health").status.success()
}

#[test]
fn a_host_with_data_is_ready_while_the_ctldb_is_away_and_says_that_it_is() {
    let origin = Origin::new();
    let host = origin.host();
    let mut process = origin.following(&host);
    wait_until("the host is ready", DEADLINE, || ready(&process, "").status == 200);
    origin.hide();
    let poller = |ops: &str| role_status(ops, "poller");
    wait_until("the poller retries", DEADLINE, || poller(&process.ops_url())["state"] == "retrying");
    for role in ["", "/poller", "/applier", "/reader"] {
        assert_eq!(ready(&process, role).expect(200).text(), "ready\n", "{role}");
    }
    assert!(health(&process.ops_url()));
    let status = http::get(&format!("{}/status", process.ops_url())).expect(200).json();
    assert_eq!(status["ready"], true, "{status}");
    let poller_now = poller(&process.ops_url());
    assert!(poller_now["last_error"]["message"].to_string().contains("ctldb is not available"), "{poller_now}");
    let metrics = http::get(&format!("{}/metrics", process.ops_url())).expect(200).text();
    assert!(metrics.contains("ctlstore_errors_total{component=\"poller\",kind=\"unavailable\"}"), "{metrics}");
    assert_eq!(process.log().matches("can't follow the ledger").count(), 1, "{}", process.log());

    // After a restart it is ready again, in whichever way the ctldb can't be reached.
    assert!(process.stop(DEADLINE).success());
    for away in [host.clone(), host.clone().ctldb("mysql://nobody@127.0.0.1:1/nothing")] {
        let mut again = away.start();
        wait_for_value(&again.reader_url(), "fam", "tab", 1, "one");
        wait_until("it is ready", DEADLINE, || ready(&again, "").status == 200);
        assert!(again.stop(DEADLINE).success());
    }
    origin.put_back();
    let process = host.start();
    origin.client.upsert("fam", "tab", &[(2, "two")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 2, "two");
    assert_eq!(ready(&process, "").status, 200);
}

#[test]
fn a_host_that_has_nothing_is_not_ready_while_the_ctldb_is_away() {
    let nowhere = Node::new().roles(&["reflector", "reader"]).ctldb("mysql://nobody@127.0.0.1:1/nothing").start();
    wait_until("the poller retries", DEADLINE, || role_status(&nowhere.ops_url(), "poller")["state"] == "retrying");
    let text = ready(&nowhere, "").expect(503).text();
    assert!(text.contains("poller: is retrying") && text.contains("reader: "), "{text}");
    ready(&nowhere, "/reader").expect(503);
    assert!(!health(&nowhere.ops_url()));
}

#[test]
fn an_executive_without_its_ctldb_is_not_ready_and_a_limit_of_lag_holds() {
    let away = Node::new().roles(&["executive"]).ctldb("mysql://nobody@127.0.0.1:1/nothing").start();
    wait_until("the executive says so", DEADLINE, || ready(&away, "").status == 503);
    let origin = Origin::new();
    let process = origin.following(&origin.host().set("reader.ready_max_lag", "1s"));
    wait_until("the host is ready", DEADLINE, || ready(&process, "").status == 200);
    origin.hide();
    wait_until("its lag is above the limit", DEADLINE, || ready(&process, "").text().contains("reader: the ldb is"));
    assert_eq!(ready(&process, "/poller").status, 200);
}
