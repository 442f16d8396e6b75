//! What a reflector makes of a ledger that holds what none should: rows of a strange hand, or of a
//! program that died half-way.

use std::time::Duration;

use support::client::{role_status, wait_for_value};
use support::{Client, Node, TestDatabase, http, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// A ctldb with one row of `fam___tab` in its ledger, and no executive on it any more.
fn written() -> TestDatabase {
    let database = support::sqlite();
    let mut executive = Node::new().roles(&["executive"]).ctldb(&database.url).start();
    let client = Client::registered(executive.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "good")]);
    assert!(executive.stop(DEADLINE).success());
    database
}

fn reflector(database: &TestDatabase) -> Node {
    Node::new().roles(&["reflector", "reader"]).ctldb(&database.url).set("reflector.poll_interval", "50ms")
}

fn append(database: &TestDatabase, statement: &str) {
    database.query(&format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('{statement}')"));
}

fn last_error(ops: &str, role: &str) -> String {
    role_status(ops, role)["last_error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn rows_before_one_that_makes_no_sense_are_applied() {
    let database = written();
    append(&database, "--- COMMIT");
    let seq = database.value("SELECT MAX(seq) FROM ctlstore_dml_ledger").unwrap();
    let node = reflector(&database).start();
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "good");
    wait_until("the poller names the row", DEADLINE, || last_error(&node.ops_url(), "poller").contains(&seq));
}

#[test]
fn an_ldb_that_waits_for_the_end_of_a_ledger_transaction_does_not_pass_for_fresh() {
    let database = written();
    append(&database, "--- BEGIN");
    let node = reflector(&database).set("reader.ready_max_lag", "1s").start();
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "good");
    let ready = format!("{}/readyz", node.ops_url());
    wait_until("its lag tells", DEADLINE, || http::get(&ready).text().contains("behind"));
    append(&database, "--- COMMIT");
    wait_until("it is fresh", DEADLINE, || http::is_ok(&ready));
}

#[test]
fn a_statement_that_failed_and_was_taken_out_of_the_ledger_is_no_trouble_any_more() {
    let database = written();
    append(&database, "REPLACE INTO fam___none (\"id\") VALUES(1)");
    let node = reflector(&database).start();
    wait_until("the statement fails", DEADLINE, || last_error(&node.ops_url(), "applier").contains("fam___none"));
    database.query("DELETE FROM ctlstore_dml_ledger WHERE statement LIKE '%fam___none%'");
    wait_until("all is well", DEADLINE, || http::is_ok(&format!("{}/readyz", node.ops_url())));
    assert_eq!(role_status(&node.ops_url(), "applier")["state"], "running");
}
