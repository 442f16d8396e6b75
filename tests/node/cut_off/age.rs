//! The age of data. It counts by this host's own clock, even if the executive's clock is wrong.

use std::time::Duration;

use ctlstore_reader::Reader;

use super::{DEADLINE, Origin, read_with, ready};
use support::client::{role_status, wait_for_value};
use support::{Node, NodeProcess, http, wait_until};

/// The executive's clock is an hour ahead.
fn ahead(origin: &Origin) {
    let connection = rusqlite::Connection::open(origin.ctldb()).expect("open the ctldb");
    connection.busy_timeout(DEADLINE).expect("set a timeout");
    let rows = "UPDATE ctlstore_dml_ledger SET leader_ts = strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 hour')";
    connection.execute(rows, []).expect("set the rows' time");
}

fn lag_of(answer: &http::Answer) -> u64 {
    answer.header("ctlstore-lag-ms").expect("a lag").parse().expect("a number")
}

#[test]
fn a_host_that_is_cut_off_ages_although_the_executives_clock_is_an_hour_ahead() {
    let origin = Origin::new();
    origin.client.upsert("fam", "tab", &[(1, "one")]);
    ahead(&origin);
    let host = origin.host().set("reader.ready_max_lag", "1s");
    let mut process = host.start();
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    let reading = Node::new().roles(&["reader"]).set("ldb.path", host.ldb_path().display().to_string()).start();
    let library = Reader::open(host.ldb_path()).expect("open the ldb");
    let is_fresh = |process: &NodeProcess| read_with(process, &[("ctlstore-max-lag", "20s")]).status == 200;
    wait_until("all are fresh", DEADLINE, || {
        is_fresh(&process) && is_fresh(&reading) && ready(&process, "").status == 200
    });
    // A quiet ledger makes no host stale, and no other process on it either.
    assert!(library.ledger_latency().unwrap().unwrap() < Duration::from_secs(20));

    origin.hide();
    let is_old = |process: &NodeProcess| read_with(process, &[("ctlstore-max-lag", "2s")]).status == 503;
    wait_until("the node's own reader refuses it", DEADLINE, || is_old(&process));
    wait_until("the other process refuses it", DEADLINE, || is_old(&reading));
    wait_until("the library refuses it", DEADLINE, || library.max_lag(Duration::from_secs(2)).last_seq().is_err());
    assert!(ready(&process, "/reader").expect(503).text().contains("the ldb is"));
    for role in ["applier", "reader"] {
        let status = role_status(&process.ops_url(), role);
        assert!(status["lag_seconds"].as_f64().expect("a lag") >= 2.0, "{status}");
    }
    let latency = http::get(&format!("{}/get-ledger-latency", process.reader_url())).expect(200).json();
    assert!(latency["value"].as_f64().expect("a number") >= 2.0, "{latency}");

    // After a restart the host knows no more than before.
    let before = lag_of(&read_with(&process, &[]).expect(200));
    assert!(process.stop(DEADLINE).success());
    let process = host.start();
    let after = lag_of(&read_with(&process, &[]).expect(200));
    assert!(after >= before, "{after} ms after {before} ms");
    assert!(ready(&process, "/reader").status == 503 && is_old(&process));
    origin.put_back();
    wait_until("it is fresh again", DEADLINE, || {
        !is_old(&process) && !is_old(&reading) && ready(&process, "").status == 200
    });
}
