//! A ledger that is pruned while a fleet follows it under load: hosts that keep up go on, one that was away for too
//! long starts again from a snapshot, and all of them end with what the ctldb has.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rusqlite::OpenFlags;
use serde_json::{Value, json};
use support::client::role_status;
use support::prune::*;
use support::{Client, Node, NodeProcess, TestDatabase, every_ctldb, scratch_dir, wait_until};

/// Rows younger than this stay: far more than a host that keeps up is behind.
const KEEP: &str = "5s";
const WRITERS: usize = 3;
const TABLE_ROWS: i64 = 400;
/// How much further than the host that is away the ledger is pruned.
const FAR: i64 = 400;

fn host(database: &TestDatabase, snapshot: &str) -> Node {
    Node::new()
        .roles(&["reflector"])
        .ctldb(&database.url)
        .set("reflector.poll_interval", "20ms")
        .set("bootstrap.urls", vec![snapshot.to_owned()])
}

fn applied(host: &NodeProcess) -> i64 {
    role_status(&host.ops_url(), "applier")["last_seq"].as_i64().unwrap_or_default()
}

/// How many snapshots have taken the place of this host's LDB since it was started.
fn bootstraps(host: &NodeProcess) -> u64 {
    role_status(&host.ops_url(), "applier")["details"]["bootstrap"]["fetched"].as_u64().expect("a number")
}

fn mutations() -> Value {
    let mutation = |_| {
        let id = rand::random_range(0..TABLE_ROWS);
        match rand::random_range(0..5) {
            0 => json!({ "table": "tab", "delete": true, "values": { "id": id } }),
            _ => json!({ "table": "tab", "values": { "id": id, "value": rand::random::<u32>().to_string() } }),
        }
    };
    json!({ "mutations": (0..rand::random_range(1..=6)).map(mutation).collect::<Vec<_>>() })
}

/// The table's rows in order, as text.
type Rows = Vec<(i64, String)>;

fn rows_of(database: &TestDatabase) -> Rows {
    let text = |value: &Option<String>| value.clone().expect("a value");
    let rows = database.query("SELECT id, value FROM fam___tab ORDER BY id");
    rows.iter().map(|row| (text(&row[0]).parse().expect("a number"), text(&row[1]))).collect()
}

fn ldb_rows(node: &Node) -> Rows {
    let ldb =
        rusqlite::Connection::open_with_flags(node.ldb_path(), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the ldb");
    let mut rows = ldb.prepare("SELECT id, value FROM fam___tab ORDER BY id").expect("a statement");
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.map(Result::unwrap).collect()
}

/// Prunes until the mark is beyond `seq`: by command where the ctldb has a server, and where it is a node's own
/// file by what that node does by itself.
fn prune_beyond(seq: i64, database: &TestDatabase, snapshot: &str) {
    let home = scratch_dir();
    wait_until("the ledger is pruned", DEADLINE, || {
        if database.is_mysql() {
            printed(run(&database.url, home.path(), &["--keep", KEEP, "--snapshot", snapshot]));
        }
        mark(database).is_some_and(|mark| mark > seq + 1)
    });
}

#[test]
fn two_hosts_follow_a_pruned_ledger_and_the_third_starts_again_from_a_snapshot() {
    for (name, database) in every_ctldb() {
        println!("on {name}");
        play(&database);
    }
}

fn play(database: &TestDatabase) {
    let home = scratch_dir();
    let snapshot = format!("file://{}", home.path().join("snapshot.db.zst").display());
    let mut executive = Node::new().roles(&["executive"]).ctldb(&database.url);
    if !database.is_mysql() {
        executive = executive.set("executive.ledger_retention", KEEP);
        executive = executive.set("executive.ledger_retention_snapshots", vec![snapshot.clone()]);
    }
    let executive = executive.start();
    let client = Client::registered(executive.executive_url());
    client.create_simple_table("fam", "tab");

    let supervisor = Node::new().roles(&["reflector", "snapshotter"]).ctldb(&database.url);
    let supervisor = supervisor.set("reflector.poll_interval", "20ms").set("snapshotter.interval", "300ms");
    let _supervisor = supervisor.set("snapshotter.urls", vec![snapshot.clone()]).start();
    let nodes = [(); 3].map(|()| host(database, &snapshot));
    let [one, two, mut three] = nodes.each_ref().map(Node::start);

    let (over, last) = (AtomicBool::new(false), AtomicI64::new(0));
    let began = std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.try_mutate("fam", &mutations()).expect("an answer").expect(200);
                    let seq = answer.header("ctlstore-seq").expect("a seq").parse().expect("a number");
                    last.fetch_max(seq, Ordering::Relaxed);
                }
            });
        }
        // The writers must end whatever happens, or the scope never would.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the third has some of it", DEADLINE, || applied(&three) > 50);
            let began = [&one, &two].map(bootstraps);
            three.kill9();
            let left_at = last.load(Ordering::Relaxed);
            wait_until("the third is far behind", DEADLINE, || last.load(Ordering::Relaxed) > left_at + FAR);
            prune_beyond(left_at, database, &snapshot);
            three = nodes[2].start();
            wait_until("the third is back", DEADLINE, || bootstraps(&three) > 0 && applied(&three) > left_at);
            // It goes on being pruned under all three.
            prune_beyond(last.load(Ordering::Relaxed), database, &snapshot);
            began
        }));
        over.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let last = ends(database).1;
    for (node, process) in nodes.iter().zip([&one, &two, &three]) {
        wait_until("the host has it all", DEADLINE, || applied(process) == last);
        assert_eq!(ldb_rows(node), rows_of(database));
        assert_eq!(role_status(&process.ops_url(), "poller")["state"], "running");
    }
    assert_eq!([&one, &two].map(bootstraps), began, "who keeps up starts from no snapshot");
    let (first, last, rows) = ends(database);
    assert_eq!((mark(database), rows), (Some(first), last - first + 1));
}
