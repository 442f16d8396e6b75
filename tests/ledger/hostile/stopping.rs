//! A stop stops: whatever the applier is in, and whoever does not read what the node says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::client::{role_status, upserts, wait_for_value};
use support::port::Port;
use support::{Client, Node, NodeProcess, TestDatabase, http, process, scratch_dir, sqlite, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// A statement that SQLite can't be made to leave for long: nothing is looked at between
/// calls of LIKE, each of which compares 30 bytes at each of 30 million places.
fn stuck() -> String {
    let like = format!("(b LIKE ''%{}b'')", "a".repeat(30));
    let sum = vec![like; 16].join(" + ");
    format!("INSERT INTO fam___tab SELECT {sum}, ''x'' FROM (SELECT printf(''%.*c'', 30000000, ''a'') AS b LIMIT 1)")
}

/// A ctldb whose ledger ends in `statement`, and its number.
fn ledger_with(statement: &str) -> (TestDatabase, i64) {
    let database = sqlite();
    let mut executive = Node::new().roles(&["executive"]).ctldb(&database.url).start();
    let client = Client::registered(executive.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "good")]);
    assert!(executive.stop(DEADLINE).success());
    database.query(&format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('{statement}')"));
    let seq = database.value("SELECT MAX(seq) FROM ctlstore_dml_ledger").expect("a seq").parse().expect("a number");
    (database, seq)
}

fn reflector(database: &TestDatabase) -> Node {
    Node::new().roles(&["reflector", "reader"]).ctldb(&database.url).set("reflector.poll_interval", "50ms")
}

fn wait_until_at(process: &NodeProcess, seq: i64) {
    wait_until("the applier is at the row", DEADLINE, || {
        let applying = &role_status(&process.ops_url(), "applier")["details"]["applying"];
        applying["seq"] == seq && applying["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)
    });
}

#[test]
fn a_stop_interrupts_a_statement_that_never_ends_and_the_next_start_goes_on() {
    let (database, seq) = ledger_with(ENDLESS);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let node = reflector(&database).set("node.shutdown_timeout", "10m");
        let mut process = node.start();
        wait_until_at(&process, seq);
        process.signal(signal);
        assert!(process.wait_exit(DEADLINE).success(), "signal {signal}");
        assert!(process.log().contains(&format!("stopped at ledger row {seq}")), "{}", process.log());
        if signal == libc::SIGHUP {
            database.query(&format!(
                "UPDATE ctlstore_dml_ledger SET statement = 'DELETE FROM fam___tab' WHERE seq = {seq}"
            ));
            let process = node.start();
            wait_until("the row is applied", DEADLINE, || {
                role_status(&process.ops_url(), "applier")["last_seq"] == seq
            });
        }
    }
}

#[test]
fn a_statement_that_never_ends_fails_at_its_bound_and_the_node_is_not_ready() {
    let (database, seq) = ledger_with(ENDLESS);
    let process = reflector(&database).set("reflector.statement_max_time", "1s").start();
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "good");
    let error = || role_status(&process.ops_url(), "applier")["last_error"]["message"].to_string();
    let expected = format!("ledger row {seq} (other) failed: it took longer than reflector.statement_max_time, 1 s");
    wait_until("the error names the row", DEADLINE, || error().contains(&expected));
    assert!(http::get(&format!("{}/readyz/applier", process.ops_url())).expect(503).text().contains("is retrying"));
}

#[test]
fn a_ledger_transaction_without_its_end_makes_the_poller_not_ready_until_the_end_is_there() {
    let (database, seq) = ledger_with("SELECT 1");
    let process = reflector(&database).start();
    let readyz = format!("{}/readyz/poller", process.ops_url());
    wait_until("the poller is ready", DEADLINE, || http::is_ok(&readyz));
    let seq = seq + 1;
    database.query("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('--- BEGIN')");
    wait_until("the poller is not ready", DEADLINE, || http::get(&readyz).status == 503);
    let shown = role_status(&process.ops_url(), "poller")["last_error"]["message"].to_string();
    assert!(shown.contains(&format!("up to row {seq}, has no")), "{shown}");
    database.query("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('--- COMMIT')");
    wait_until("it goes on", DEADLINE, || {
        http::is_ok(&readyz) && role_status(&process.ops_url(), "applier")["last_seq"] == seq + 1
    });
}

#[test]
fn a_row_at_the_last_seq_ends_no_node_and_writes_say_that_no_seqs_are_left() {
    let database = sqlite();
    let process = Node::new().roles(&["executive", "reflector"]).ctldb(&database.url).start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let last = i64::MAX;
    database.query(&format!("INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES ({last}, 'SELECT 1')"));
    wait_until("it is applied", DEADLINE, || role_status(&process.ops_url(), "applier")["last_seq"] == last);
    let refused = client.try_mutate("fam", &upserts("tab", &[(1, "a"), (2, "b")])).expect("an answer");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("no seqs are left"), "{}", refused.text());
}

#[test]
fn a_stop_that_takes_too_long_ends_the_process_and_says_so() {
    let (database, seq) = ledger_with(&stuck());
    let mut process = reflector(&database).set("node.shutdown_timeout", "2s").start();
    wait_until_at(&process, seq);
    let since = Instant::now();
    process.signal(libc::SIGTERM);
    let status = process.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(since.elapsed() >= Duration::from_secs(2));
    assert!(process.log().contains("the stop took too long, ending the process"), "{}", process.log());
}

#[test]
fn a_second_signal_ends_a_process_that_is_stuck_at_once() {
    let (database, seq) = ledger_with(&stuck());
    for (first, second) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGHUP, libc::SIGINT)] {
        let mut process = reflector(&database).set("node.shutdown_timeout", "1h").start();
        wait_until_at(&process, seq);
        process.signal(first);
        wait_until("it begins to stop", DEADLINE, || process.log().contains("stopping"));
        process.signal(second);
        assert_eq!(process.wait_exit(DEADLINE).code(), Some(130));
        assert!(process.log().contains("ending at once"), "{}", process.log());
    }
}

/// A node whose outputs are the test's to read or not.
struct Unread {
    child: Child,
    ops: String,
    executive: String,
    reader: String,
    _ports: [Port; 3],
    _home: tempfile::TempDir,
}

impl Unread {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let home = scratch_dir();
        let ports = [Port::claim(), Port::claim(), Port::claim()];
        let [ops, executive, reader] = [0, 1, 2].map(|i: usize| format!("127.0.0.1:{}", ports[i].number));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.arg("node").current_dir(home.path()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        for (name, value) in [
            ("CTLSTORE__OPS__BIND", ops.as_str()),
            ("CTLSTORE__EXECUTIVE__BIND", &executive),
            ("CTLSTORE__READER__BIND", &reader),
            ("CTLSTORE__LOG__LEVEL", "trace"),
            ("CTLSTORE__NODE__SHUTDOWN_TIMEOUT", "20s"),
        ] {
            command.env(name, value);
        }
        let child = process::spawn(command);
        let [ops, executive, reader] = [ops, executive, reader].map(|address| format!("http://{address}"));
        Self { child, ops, executive, reader, _ports: ports, _home: home }
    }

    fn wait_exit(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_until("the node ends", DEADLINE, || {
            status = self.child.try_wait().expect("ask for the node's state");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that were lost, after some more were made.
fn dropped(ops: &str) -> u64 {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(http::get(&format!("{ops}/healthz")))));
        }
    });
    http::get(&format!("{ops}/status")).json()["log_lines_dropped"].as_u64().unwrap_or_default()
}

#[test]
fn a_node_whose_outputs_nobody_reads_works_counts_lost_lines_and_stops() {
    let mut node = Unread::start(process::full_pipe(), process::full_pipe());
    wait_until("it serves", DEADLINE, || http::is_ok(&format!("{}/readyz", node.ops)));
    let client = Client::registered(node.executive.as_str());
    client.create_simple_table("fam", "tab");
    let mut id = 0;
    wait_until("lines are lost", DEADLINE, || {
        id += 1;
        client.upsert("fam", "tab", &[(id, "good")]);
        dropped(&node.ops) > 0
    });
    wait_for_value(&node.reader, "fam", "tab", id, "good");
    let metrics = http::get(&format!("{}/metrics", node.ops)).text();
    let counted = metrics.lines().find_map(|line| line.strip_prefix("ctlstore_log_lines_dropped_total "));
    assert!(counted.is_some_and(|counted| counted != "0"), "{counted:?}");
    process::signal(&node.child, libc::SIGTERM);
    assert!(node.wait_exit().success());
}

#[test]
fn a_reader_of_the_log_that_comes_back_is_told_how_many_lines_are_lost() {
    let mut node = Unread::start(Stdio::null(), Stdio::piped());
    wait_until("it serves", DEADLINE, || http::is_ok(&format!("{}/readyz", node.ops)));
    wait_until("lines are lost", DEADLINE, || dropped(&node.ops) > 0);
    let log = BufReader::new(node.child.stderr.take().expect("stderr is a pipe"));
    let lost = log.lines().map_while(Result::ok).find(|line| line.contains("log lines were lost"));
    assert!(lost.is_some_and(|line| line.contains("lines=")), "the log ended without it");
}

#[test]
fn a_start_that_fails_ends_although_nobody_reads_why() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command
        .args(["node", "--config", "/nowhere/at/all"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(process::full_pipe());
    let mut child = process::spawn(command);
    wait_until("it ends", DEADLINE, || child.try_wait().expect("ask for its state").is_some());
    assert_eq!(child.wait().expect("its status").code(), Some(2));
}
