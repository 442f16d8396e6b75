//! What an executive reports: its status, its metrics, and its messages to the poller of the same node.

use std::time::Duration;

use serde_json::json;

use ctlstore::actors::executive::ExecutiveOptions;
use ctlstore::messages::executive::LedgerGrew;
use ctlstore_ctldb::{AnyCtldb, LedgerTable, SqliteCtldb};
use support::http::get;
use support::in_process::{Executive, row};
use support::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_status_and_the_metrics_follow_what_is_committed() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    executive.mutate(&json!({"mutations": [row(1, "a"), row(2, "b")]})).expect(200);
    executive.mutate(&json!({"mutations": [row(1, "a")], "check_cookie": "AA=="})).expect(409);
    get(&executive.at("/schema/table/fam/none")).expect(404);
    let status = executive.status();
    assert_eq!(status.last_seq.map(|seq| seq.0), Some(5));
    assert_eq!(status.not_ready, None);
    let want = [("waiting", 0), ("requests_committed", 1), ("commits", 1), ("mutations", 2), ("requests_refused", 2)];
    for (name, count) in want {
        assert_eq!(status.details[name], json!(count), "{name}");
    }
    let metrics = executive.metrics.encode().unwrap();
    for line in [
        "ctlstore_executive_mutations_total 2",
        "ctlstore_executive_ledger_statements_total 4",
        "ctlstore_executive_commit_requests_count 1",
        "ctlstore_executive_commit_duration_seconds_count 1",
        r#"ctlstore_http_requests_total{server="executive",route="/families/{family}/mutations",method="POST",status="409"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "no line {line} in\n{metrics}");
    }
}

/// Takes the messages to the poller of the same node.
struct Poller(std::sync::mpsc::Sender<i64>);

impl actix::Actor for Poller {
    type Context = actix::Context<Self>;
}

impl actix::Handler<LedgerGrew> for Poller {
    type Result = ();

    fn handle(&mut self, grew: LedgerGrew, _: &mut Self::Context) {
        self.0.send(grew.seq.0).expect("the test listens");
    }
}

#[test]
fn the_poller_of_the_same_node_is_told_of_every_commit() {
    let (told, heard) = std::sync::mpsc::channel();
    let (started, starting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let system = actix::System::new();
        system.block_on(async {
            started.send(actix::Actor::start(Poller(told)).recipient()).expect("the test waits");
        });
        system.run().expect("the poller's system runs");
    });
    let poller = starting.recv_timeout(DEADLINE).expect("the poller starts");
    let database = support::sqlite();
    let path = database.url.trim_start_matches("sqlite:").to_owned();
    let open =
        move || AnyCtldb::Sqlite(SqliteCtldb::open(path.as_ref(), LedgerTable::default()).expect("open the ctldb"));
    let executive = Executive::run(open, ExecutiveOptions::default(), Some(poller));
    wait_until("the executive serves", DEADLINE, || support::http::is_ok(&executive.at("/status")));
    executive.furnish();
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(1), "a table was made");
    executive.mutate(&json!({"mutations": [row(1, "a"), row(2, "b")]})).expect(200);
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(5), "rows were written");
    executive.mutate(&json!({"mutations": [row(1, "a")], "check_cookie": "AA=="})).expect(409);
    executive.mutate(&json!({"mutations": [row(1, "a")]})).expect(200);
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(6), "what was refused is not told");
}
