//! Ledgers that are written straight to the ctldb, for hosts that start behind them: how
//! fast a reflector catches up, from which kind of ctldb, and what a node is like on an
//! LDB of a gigabyte.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Connection, address, load, send_all};
use super::data;
use super::process::{Peak, anonymous_memory};
use super::report::Report;
use support::{Node, NodeProcess, http, sql, wait::wait_until};

/// Ledger rows of a catch-up: single-row transactions, as one mutation a request makes them.
const ROWS: usize = 300_000;
const ROUNDS: usize = 3;
/// Rows of one INSERT into the ledger.
const CHUNK: usize = 1_000;
/// With a text of this many bytes each they fill a gigabyte.
const BIG_ROWS: usize = 1_000_000;
const BIG_TEXT: usize = 1_000;
/// How long the gigabyte is read and written at least.
const LOADED: Duration = Duration::from_secs(5);
/// So that one is always due.
const SNAPSHOTS: &str = "5s";
const DEADLINE: Duration = Duration::from_secs(600);

/// The ctldb at `url` gets schema and table by an executive, and a ledger of so many upserts by SQL.
async fn fill(url: &str, rows: usize, text: impl Fn(usize) -> String) {
    let mut node = data::roomy(Node::new()).roles(&["executive"]).ctldb(url).start();
    send_all(address(&node.executive_url()), &data::schema(), 1).await;
    node.stop(DEADLINE);
    let first = 1 + sql::query(url, "SELECT MAX(seq) FROM ctlstore_dml_ledger").expect("the ledger is read")[0][0]
        .as_deref()
        .map_or(0, |seq| seq.parse::<usize>().expect("a seq is a number"));
    for start in (0..rows).step_by(CHUNK) {
        let row = |i: usize| {
            let (seq, id, text) = (first + i, data::id(i), text(i));
            format!(r#"({seq},'REPLACE INTO bench___points ("id","n","v") VALUES(''{id}'',{i},''{text}'')')"#)
        };
        let values: Vec<String> = (start..(start + CHUNK).min(rows)).map(row).collect();
        let insert = format!("INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES {}", values.join(","));
        sql::query(url, &insert).expect("the ledger takes rows");
    }
}

fn detail(node: &NodeProcess, role: &str, name: &str) -> Option<Value> {
    let status = http::get(&format!("{}/status", node.ops_url())).json();
    let roles = status["roles"].as_array()?.clone();
    Some(roles.into_iter().find(|found| found["role"] == role)?[name].clone())
}

/// From the start of a reflector without an LDB to the last row applied.
fn catch_up(url: &str, last: i64) -> Duration {
    let node = Node::new().roles(&["reflector"]).ctldb(url);
    let start = Instant::now();
    let running = node.start();
    wait_until("the reflector has caught up", DEADLINE, || is_at(&running, "applier", last));
    start.elapsed()
}

fn last_seq(url: &str) -> i64 {
    let rows = sql::query(url, "SELECT MAX(seq) FROM ctlstore_dml_ledger").expect("the ledger is read");
    rows[0][0].as_deref().and_then(|seq| seq.parse().ok()).expect("the ledger has rows")
}

/// The same ledger from an SQLite file and from a server, by turns.
pub async fn from_both(report: &mut Report, sqlite: &str, mysql: &str) {
    let mut rates = [Vec::new(), Vec::new()];
    for url in [sqlite, mysql] {
        fill(url, ROWS, data::text).await;
    }
    for _ in 0..ROUNDS {
        for (url, rates) in [sqlite, mysql].into_iter().zip(&mut rates) {
            rates.push(ROWS as f64 / catch_up(url, last_seq(url)).as_secs_f64());
        }
    }
    let [from_sqlite, from_mysql] = rates.map(super::writes::middle);
    let reference = ("the same from an SQLite ctldb", from_sqlite);
    report.ratio("a reflector catches up from MariaDB", from_mysql, reference, "statements/s", "≥ 0.7");
}

/// A whole node that has an LDB of a gigabyte: started again on it, idle, and with all of
/// its roles at work at once.
pub async fn gigabyte(report: &mut Report, url: &str, reader: &str) {
    let text = |i: usize| format!("{i:0BIG_TEXT$}");
    fill(url, BIG_ROWS, text).await;
    let node = data::roomy(Node::new()).ctldb(url).set("reader.bind", reader).set("snapshotter.interval", SNAPSHOTS);
    let last = last_seq(url);
    let mut running = node.start();
    let peak = Peak::of(running.pid());
    wait_until("the ledger is applied", DEADLINE, || is_at(&running, "applier", last));
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    report.figure("RssAnon, highest while 1 GB is applied and snapshots are taken", megabytes(peak.end()), "< 150 MB");
    let mut executive = Connection::open(address(&running.executive_url())).await.expect("the node takes connections");
    let mut connection = Connection::open(reader).await.expect("the reader takes connections");
    super::steady::until_readable(&mut executive, &mut connection, 1).await;
    wait_until("a snapshot has all of it", DEADLINE, || is_at(&running, "snapshotter", last));
    running = super::steady::starts(report, &node, running, reader).await;
    report.figure("RssAnon, idle on it, all roles", megabytes(anonymous_memory(running.pid())), "< 40 MB");

    let last = last_seq(url);
    let peak = Peak::of(running.pid());
    let executive = running.executive_url();
    let reads = async {
        // A snapshot that has what was written since is one that was taken meanwhile.
        while !is_at(&running, "snapshotter", last + 1) {
            super::reads::point_reads(reader, LOADED).await;
        }
    };
    let writes = async {
        loop {
            load(address(&executive), data::WRITERS, &super::writes::requests(100), 200, LOADED).await;
        }
    };
    tokio::select! {
        () = reads => {}
        () = writes => {}
        () = tokio::time::sleep(DEADLINE) => panic!("no snapshot within {DEADLINE:?}"),
    }
    let what = "RssAnon, highest with 64 connections reading, 8 writing and a snapshot being taken";
    report.figure(what, megabytes(peak.end()), "< 150 MB");
}

fn is_at(node: &NodeProcess, role: &str, seq: i64) -> bool {
    detail(node, role, "last_seq").is_some_and(|last| last.as_i64() >= Some(seq))
}
