//! Executives that keep the ledger short by themselves, in nodes that run.

use std::fs;

use support::client::role_status;
use support::prune::*;
use support::{Client, Node, NodeProcess, TestDatabase, http, scratch_dir, wait_until};

const ROWS: &str = "SELECT id || '=' || value FROM fam___tab ORDER BY id";

fn details(node: &NodeProcess) -> serde_json::Value {
    role_status(&node.ops_url(), "executive")["details"].clone()
}

/// Writes until the executive has pruned this many rows more.
fn write_until_pruned(node: &NodeProcess, client: &Client, rows: u64) {
    let pruned = || details(node)["ledger_rows_pruned"].as_u64().expect("a number");
    let (until, mut id) = (pruned() + rows, 0);
    wait_until("old rows are gone", DEADLINE, || {
        id += 1;
        client.upsert("fam", "tab", &[(id % 50, &id.to_string()), (id % 50 + 1, "x")]);
        pruned() >= until
    });
}

#[track_caller]
fn metric(node: &NodeProcess, name: &str) -> f64 {
    let metrics = http::get(&format!("{}/metrics", node.ops_url())).expect(200).text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[test]
fn a_node_by_itself_keeps_its_ledger_short() {
    let node = Node::new()
        .roles(&["executive", "reflector", "snapshotter"])
        .set("executive.ledger_retention", "1s")
        .set("snapshotter.interval", "150ms");
    let mut process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    write_until_pruned(&process, &client, 100);
    // It goes on where it was after a restart.
    assert!(process.stop(DEADLINE).success(), "{}", process.log());
    process = node.start();
    let client = Client::registered(process.executive_url());
    write_until_pruned(&process, &client, 100);

    let url = format!("sqlite:{}", node.data_dir().join("ctldb.db").display());
    let seen = details(&process);
    assert!(seen["ledger_pruned_at"].is_string() && seen["ledger_prune_error"].is_null(), "{seen}");
    assert!(seen["ledger_snapshot_seq"].is_i64(), "{seen}");
    assert!(seen["ledger_snapshot_seq"].as_i64() >= seen["ledger_low_water_seq"].as_i64().map(|seq| seq - 1), "{seen}");
    assert!(metric(&process, "ctlstore_executive_ledger_rows_pruned_total") >= 100.0);
    assert!(metric(&process, "ctlstore_executive_ledger_low_water_seq") > 1.0);
    assert!(metric(&process, "ctlstore_executive_ledger_prune_last_success_timestamp_seconds") > 1e9);
    let last = client.upsert("fam", "tab", &[(0, "the end")]);
    wait_until("the ldb has it all", DEADLINE, || {
        role_status(&process.ops_url(), "applier")["last_seq"].as_i64() == Some(last)
    });
    let ctldb = support::ldb::reader(url.trim_start_matches("sqlite:").as_ref());
    let ldb = support::ldb::reader(&node.ldb_path());
    assert_eq!(support::ldb::strings(&ldb, ROWS), support::ldb::strings(&ctldb, ROWS));
    let whole = "SELECT MIN(seq) = (SELECT CAST(value AS INTEGER) FROM ctlstore_meta WHERE name = 'low_water_seq') \
                 AND MAX(seq) - MIN(seq) + 1 = COUNT(*) FROM ctlstore_dml_ledger";
    assert_eq!(support::ldb::integer(&ctldb, whole), 1);
    assert!(process.stop(DEADLINE).success());
    assert_eq!(fs::read_dir(node.data_dir().join("verifying")).expect("the directory").count(), 0);
}

fn executive(database: &TestDatabase, snapshot: &str) -> Node {
    Node::new()
        .roles(&["executive"])
        .ctldb(&database.url)
        .set("executive.ledger_retention", "1s")
        .set("executive.ledger_retention_snapshots", vec![snapshot.to_owned()])
}

#[test]
fn executives_on_one_ctldb_share_the_work() {
    let databases = [Some(support::mariadb()), support::mysql56()];
    for database in databases.into_iter().flatten() {
        let home = scratch_dir();
        let snapshot = format!("file://{}", home.path().join("snapshot.db").display());
        let nodes = [executive(&database, &snapshot).start(), executive(&database, &snapshot).start()];
        let clients = nodes.each_ref().map(|node| Client::registered(node.executive_url()));
        clients[0].create_simple_table("fam", "tab");
        let host = Node::new().roles(&["reflector", "snapshotter"]).ctldb(&database.url);
        let host = host.set("snapshotter.urls", vec![snapshot]).set("snapshotter.interval", "150ms").start();
        for (node, client) in nodes.iter().zip(&clients) {
            write_until_pruned(node, client, 30);
        }
        let last = clients[1].upsert("fam", "tab", &[(0, "the end")]);
        wait_until("the host has it all", DEADLINE, || {
            role_status(&host.ops_url(), "applier")["last_seq"].as_i64() == Some(last)
        });
        // Both counted what they deleted, and together that is what is gone.
        let state =
            "SELECT (SELECT value FROM ctlstore_meta WHERE name = 'low_water_seq') - MIN(seq) FROM ctlstore_dml_ledger";
        assert_eq!(number(&database, state), 0);
        drop(host);
        for node in nodes {
            let mut node = node;
            assert!(node.stop(DEADLINE).success(), "{}", node.log());
        }
    }
}

#[test]
fn a_missing_snapshot_prunes_nothing_and_costs_no_write() {
    let (database, home) = (support::sqlite(), scratch_dir());
    let snapshot = format!("file://{}", home.path().join("nothing.db").display());
    let process = executive(&database, &snapshot).start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one"), (2, "two")]);
    client.upsert("fam", "tab", &[(3, "three")]);
    wait_until("the failure shows", DEADLINE, || details(&process)["ledger_prune_failures"].as_u64() > Some(1));
    let message = details(&process)["ledger_prune_error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("no verified snapshot") && message.contains("nothing.db"), "{message}");
    assert!(http::is_ok(&format!("{}/readyz", process.ops_url())), "pruning is no part of being ready");
    client.upsert("fam", "tab", &[(4, "four")]);
    assert_eq!((ends(&database), mark(&database)), ((1, 7, 7), None));
    let said = process.log().lines().filter(|line| line.contains("the ledger is not pruned")).count();
    assert_eq!(said, 1, "one trouble is one line");
}
