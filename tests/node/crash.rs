//! A host that is killed again and again while writers run. It goes on from its LDB's position, with
//! every row and the right seq. A follower of its changelog never keeps a stale row without notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use support::client::role_status;
use support::ldb::follower::Follower;
use support::ldb::{reader, strings};
use support::{Client, Node, NodeProcess, TestDatabase, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 8;
const ROWS: i64 = 300;
const ALL: &str = "SELECT id || '=' || value FROM fam___tab ORDER BY id";

/// Sends random upserts and deletes, in requests of one to eight, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(client: &Client) -> Self {
        let client = client.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mutations: Vec<_> = (0..rand::random_range(1..=8)).map(|_| mutation()).collect();
                let answer = client.try_mutate("fam", &json!({ "mutations": mutations })).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn mutation() -> serde_json::Value {
    let id = rand::random_range(0..ROWS);
    match rand::random_range(0..5) {
        0 => json!({ "table": "tab", "delete": true, "values": { "id": id } }),
        _ => json!({ "table": "tab", "values": { "id": id, "value": rand::random::<u32>().to_string() } }),
    }
}

fn applied(host: &NodeProcess) -> i64 {
    role_status(&host.ops_url(), "applier")["last_seq"].as_i64().expect("a seq")
}

fn last_of_ledger(database: &TestDatabase) -> i64 {
    database.value("SELECT MAX(seq) FROM ctlstore_dml_ledger").expect("a seq").parse().expect("a number")
}

#[test]
fn a_host_that_is_killed_at_random_goes_on_with_every_row_and_no_stale_cache() {
    let database = support::sqlite();
    let executive = Node::new().roles(&["executive"]).ctldb(&database.url).start();
    let client = Client::registered(executive.executive_url());
    client.create_simple_table("fam", "tab");
    let host = Node::new().roles(&["reflector"]).ctldb(&database.url).set("reflector.poll_interval", "2ms");
    // It is small, so that the file is replaced many times.
    let host = host.set("changelog.max_bytes", 20_000);

    let mut process = host.start();
    wait_until("the table is there", DEADLINE, || applied(&process) >= 1);
    let mut follower = Follower::new(host.data_dir().join("change.log"));
    follower.load(&reader(&host.ldb_path()));
    for round in 0..ROUNDS {
        let writer = Writer::start(&client);
        let far = applied(&process) + rand::random_range(20..400);
        wait_until("some of it is applied", DEADLINE, || {
            follower.follow();
            applied(&process) >= far
        });
        process.kill9();
        follower.follow();
        process = host.start();
        wait_until("it goes on", DEADLINE, || applied(&process) > far);
        writer.stop();
        let last = last_of_ledger(&database);
        wait_until("it has caught up", DEADLINE, || applied(&process) == last);

        let ldb = reader(&host.ldb_path());
        let ctldb = reader(database.url.strip_prefix("sqlite:").expect("a file").as_ref());
        assert_eq!(strings(&ldb, ALL), strings(&ctldb, ALL), "round {round}");
        assert_eq!(strings(&ldb, "SELECT seq || '' FROM _ldb_seq"), [last.to_string()], "round {round}");
        wait_until(&format!("nobody holds a stale row in round {round}"), DEADLINE, || {
            follower.follow();
            follower.stale(&ldb).is_empty()
        });
        follower.load(&ldb);
    }
}
