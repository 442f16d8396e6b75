//! Scenarios with a host whose ledger can't be reached, has gaps, can't be applied, or is another one.

use std::fs;
use std::time::Duration;

use super::fixture::{Stage, lines, ready};
use super::watch::{Moved, Watch, until};
use support::client::wait_for_value;
use support::{Node, http};

pub fn a_ctldb_that_is_away(moved: &Moved) {
    let writer = Node::new().roles(&["executive"]);
    let ctldb = writer.data_dir().join("ctldb.db");
    let host = Node::new()
        .roles(&["reflector", "reader"])
        .ctldb(&format!("sqlite:{}", ctldb.display()))
        .set("reflector.poll_interval", "50ms")
        .set("reader.ready_max_lag", "1s");
    let process = host.start();
    let watch = Watch::new(process.ops_url(), moved);
    let fails = ["ctlstore_errors_total{component=\"poller\",kind=\"unavailable\"}", "/poller/details/starts"];
    watch.begins("a ctldb that is not there", &fails);
    watch.wait_state("poller", "retrying");
    let ready_url = format!("{}/readyz", process.ops_url());
    let unready = http::get(&ready_url).expect(503).text();
    assert!(unready.contains("poller: is retrying: ctldb is not available"), "{unready}");
    assert!(unready.contains("reader: nothing has been applied yet"), "{unready}");
    let of_one = |role: &str| http::get(&format!("{ready_url}/{role}"));
    assert!(!of_one("poller").expect(503).text().contains("reader"));
    assert_eq!(of_one("applier").expect(200).text(), "ready\n");
    of_one("executive").expect(404);

    let known = [
        "/poller/state",
        "/poller/not_ready",
        "/poller/details/ledger_id",
        "/applier/details/ledger_id",
        "/reader/details/ledger_id",
        "/reader/not_ready",
        "/ready",
    ];
    let mut executive = watch.event("a ctldb that comes", &known, || {
        let executive = writer.start();
        let client = support::Client::registered(executive.executive_url());
        client.create_simple_table("fam", "tab");
        client.upsert("fam", "tab", &[(1, "one")]);
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
        executive
    });

    assert!(executive.stop(Duration::from_secs(60)).success());
    let log_before = lines(&process, &["can't follow the ledger"]).len();
    let hidden = ctldb.with_extension("hidden");
    watch.event("a ctldb that goes", &["/poller/last_error", "/poller/state"], || {
        fs::rename(&ctldb, &hidden).expect("hide the ctldb")
    });
    for lag in ["/applier/lag_seconds", "/reader/lag_seconds"] {
        watch.shows("a ctldb that is away for a while", lag, |lag| lag.as_f64().is_some_and(|lag| lag > 1.0));
    }
    for lag in ["ctlstore_ldb_lag_seconds", "ctlstore_reader_lag_seconds"] {
        let behind =
            |lag: &serde_json::Value| lag.as_str().is_some_and(|lag| lag.parse::<f64>().is_ok_and(|l| l > 1.0));
        watch.shows("a ctldb that is away for a while", lag, behind);
    }
    until("the reader says how far it is behind", || {
        http::get(&ready_url).expect(503).text().contains("reader: the ldb is").then_some(())
    });
    let starts = watch.now("/poller/details/starts").as_u64().expect("a number");
    until("it was tried again and again", || {
        (watch.now("/poller/details/starts").as_u64()? >= starts + 3).then_some(())
    });
    let said = lines(&process, &["can't follow the ledger"]).len() - log_before;
    assert_eq!(said, 1, "{}", process.log());

    fs::rename(&hidden, &ctldb).expect("put the ctldb back");
    watch.wait_ready();
    watch.shows("a ctldb that is back", "/reader/lag_seconds", |lag| lag.as_f64().is_some_and(|lag| lag < 1.0));
    assert!(!lines(&process, &["INFO", "following the ledger again"]).is_empty());
}

pub fn a_ledger_with_gaps_and_statements_that_fail(moved: &Moved) {
    let stage = Stage::new();
    let (process, watch) = ready(&stage.host(), moved);
    let reader = process.reader_url();
    watch.event("a gap", &["ctlstore_poller_gaps_total", "/poller/details/gaps"], || {
        stage.append("REPLACE INTO fam___tab (\"id\",\"value\") VALUES(1,'behind a gap')", 7)
    });
    wait_for_value(&reader, "fam", "tab", 1, "behind a gap");

    let fails = [
        "ctlstore_errors_total{component=\"applier\",kind=\"statement\"}",
        "/applier/state",
        "/applier/not_ready",
        "/applier/last_error",
        "/applier/details/failures",
    ];
    let seq = watch.event("a statement that fails", &fails, || {
        let seq =
            stage.append("REPLACE INTO fam___tab (\"id\",\"nosuch\") VALUES(2,'a value that nobody else sees')", 0);
        stage.append("REPLACE INTO fam___tab (\"id\",\"value\") VALUES(3,'behind the failure')", 0);
        seq
    });
    let error = watch.now("/applier/last_error");
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains(&format!("ledger row {seq}")), "{message}");
    assert!(message.contains("fam___tab") && message.contains("upsert"), "{message}");
    assert_eq!(error["kind"], "statement");
    until("it was tried again and again", || (watch.now("/applier/details/failures").as_u64()? >= 4).then_some(()));
    // It is right before the failing row, and skips nothing.
    assert_eq!(watch.now("/applier/last_seq"), seq - 1);
    assert_eq!(support::client::read_value(&reader, "fam", "tab", 3), None);
    assert_eq!(lines(&process, &["ERROR", &format!("ledger row {seq}")]).len(), 1, "{}", process.log());

    watch.event("the statement is put right", &["/applier/state"], || {
        stage.rewrite(seq, "REPLACE INTO fam___tab (\"id\",\"value\") VALUES(2,'put right')")
    });
    wait_for_value(&reader, "fam", "tab", 2, "put right");
    wait_for_value(&reader, "fam", "tab", 3, "behind the failure");
    assert_eq!(lines(&process, &["INFO", "applier", "working again"]).len(), 1, "{}", process.log());

    let text = ["ctlstore_applier_statements_total{path=\"text\"}"];
    watch.event("a statement of another form", &text, || {
        stage.append("UPDATE fam___tab SET \"value\" = 'otherwise' WHERE \"id\" = 2", 0)
    });
    wait_for_value(&reader, "fam", "tab", 2, "otherwise");
    let resync = ["ctlstore_changelog_resyncs_total"];
    watch.event("a statement that changes more rows than are named", &resync, || {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 10200)";
        stage.append(&format!("INSERT INTO fam___tab (\"id\",\"value\") {numbers} SELECT i, 'x' FROM n"), 0)
    });
    for words in [process.log(), watch.sample().into_values().map(|value| value.to_string()).collect::<String>()] {
        assert!(!words.contains("nobody else sees"), "{words}");
    }
}

pub fn a_statement_that_takes_long(moved: &Moved) {
    let stage = Stage::new();
    let (process, watch) = ready(&stage.host().set("reflector.statement_max_time", "2s"), moved);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let seq = watch.event("a statement that takes long", &["/applier/details/applying"], || stage.append(endless, 0));
    let message = || watch.now("/applier/last_error")["message"].as_str().unwrap_or_default().to_owned();
    until("it is given up", || message().contains("reflector.statement_max_time").then_some(()));
    stage.rewrite(seq, "REPLACE INTO fam___tab (\"id\",\"value\") VALUES(1,'short')");
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "short");
}

pub fn a_ledger_that_is_another_one(moved: &Moved) {
    let mut stage = Stage::new();
    let other = Stage::new();
    let (process, watch) = ready(&stage.host(), moved);
    stage.upsert(&[(1, "ours")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "ours");
    assert!(stage.executive.stop(Duration::from_secs(60)).success());
    let ours = stage.ctldb_path();
    let theirs = other.ctldb_path();
    let other_ledger = ["ctlstore_errors_total{component=\"poller\",kind=\"ledger\"}", "/poller/last_error"];
    watch.event("a ctldb that was exchanged", &other_ledger, || {
        // SQLite's backup makes a consistent copy while the executive runs.
        let copy = ours.with_extension("copy");
        let connection = rusqlite::Connection::open(&theirs).expect("open the other ctldb");
        connection.execute("VACUUM INTO ?", [copy.to_str()]).expect("copy the other ctldb");
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", ours.display()));
        }
        fs::rename(&copy, &ours).expect("exchange the ctldb");
    });
    let message = || watch.now("/poller/last_error")["message"].to_string();
    until("both ledgers are named", || message().contains("the ldb follows ledger").then_some(()));
    // The old rows are still served.
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "ours");

    let garbage = ["ctlstore_errors_total{component=\"poller\",kind=\"storage\"}"];
    watch.event("a ctldb that is no database", &garbage, || {
        let written = ours.with_extension("garbage");
        fs::write(&written, "this is no database".repeat(1000)).expect("write garbage");
        fs::rename(&written, &ours).expect("exchange the ctldb");
    });
}
