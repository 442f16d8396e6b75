//! Snapshots of an LDB that is being written all the time, by a whole node and in size.
//! They print the cost for the applier. No test depends on how fast it is.
//!
//! They write for a minute, or for as long as `CTLSTORE_TEST_SECONDS` says, and until enough snapshots were checked.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_core::Abort;
use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::{SnapshotProgress, digests, take};
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use support::client::role_status;
use support::{Client, Node, wait};

const DEADLINE: Duration = Duration::from_secs(60);
const WRITERS: u64 = 8;

fn options() -> LdbOptions {
    LdbOptions { wal_checkpoint_bytes: 40 << 20, changelog: None, history: None }
}

fn row(seq: i64, statement: String) -> LedgerRow {
    LedgerRow { seq: Seq(seq), leader_ts: Some(Timestamp::now()), statement }
}

/// The ledger of a node's embedded ctldb, replayed as far as asked.
struct Replay {
    ledger: Connection,
    ldb: Ldb,
    assembler: Assembler,
}

impl Replay {
    fn of(ctldb: &Path, ldb: &Path) -> Self {
        let ledger = Connection::open_with_flags(ctldb, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let ldb = Ldb::open(ldb, &options()).unwrap();
        Self { ledger, ldb, assembler: Assembler::after(Seq::ZERO) }
    }

    fn to(&mut self, seq: Seq) {
        let sql = "SELECT seq, statement FROM ctlstore_dml_ledger WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
        let mut statement = self.ledger.prepare_cached(sql).unwrap();
        let mut rows = statement.query([self.assembler.last_seq().0, seq.0]).unwrap();
        while let Some(next) = rows.next().unwrap() {
            self.assembler.push(row(next.get(0).unwrap(), next.get(1).unwrap())).unwrap();
        }
        assert!(!self.assembler.in_transaction(), "the ledger up to {seq} ends inside a transaction");
        if let Some(batch) = self.assembler.take_complete() {
            self.ldb.apply(&batch).unwrap();
        }
        assert_eq!(self.ldb.position().unwrap().seq, seq);
    }
}

/// Opens the published snapshot. If another one replaces it, this one stays as it is.
fn published(snapshot: &Path) -> Option<(Connection, Seq)> {
    let uri = format!("file:{}?immutable=1", snapshot.display());
    let connection =
        Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).ok()?;
    let seq = connection.query_row("SELECT seq FROM _ldb_seq WHERE id = 1", [], |row| row.get(0)).ok()?;
    Some((connection, Seq(seq)))
}

/// Writes rows of its own and rows that all writers share until it is told to stop.
fn write(client: &Client, writer: u64, stop: &AtomicBool) {
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let upsert = |id: u64| {
            let text = "x".repeat((round % 300) as usize);
            json!({ "table": "tab", "values": { "id": id, "value": format!("{writer} {round} {text}") } })
        };
        let delete = json!({ "table": "tab", "delete": true, "values": { "id": round % 50 } });
        let mutations = [upsert(writer * 1_000_000 + round % 1_000), upsert(round % 100), delete];
        let answer = client.try_mutate("fam", &json!({ "mutations": mutations })).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn every_snapshot_of_a_node_under_eight_writers_equals_the_ledger_replayed_to_its_seq() {
    let seconds = env::var("CTLSTORE_TEST_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let directory = support::scratch_dir();
    let snapshot = directory.path().join("snapshot.db");
    let node = Node::new()
        .roles(&["executive", "reflector", "snapshotter"])
        .set("snapshotter.interval", "200ms")
        .set("snapshotter.urls", vec![format!("file://{}", snapshot.display())]);
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let mut replay = Replay::of(&node.data_dir().join("ctldb.db"), &directory.path().join("replay.db"));
    let replayed = Connection::open(directory.path().join("replay.db")).unwrap();

    let (stop, mut checked, mut last) = (AtomicBool::new(false), 0, Seq::ZERO);
    thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (client, stop) = (&client, &stop);
            scope.spawn(move || write(client, writer, stop));
        }
        let _ended = Ending(&stop);
        let began = Instant::now();
        // Five rounds begin in a second. A busy machine has longer, and no fewer to check.
        while began.elapsed() < Duration::from_secs(seconds) || checked < seconds {
            let next = || published(&snapshot).filter(|(_, seq)| *seq > last);
            let (copy, seq) = wait::wait_for("another snapshot", DEADLINE, next);
            let report: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(report, "ok", "at seq {seq}");
            replay.to(seq);
            assert_eq!(digests(&copy).unwrap(), digests(&replayed).unwrap(), "at seq {seq}");
            (checked, last) = (checked + 1, seq);
        }
    });
    let details = role_status(&process.ops_url(), "snapshotter")["details"].clone();
    let stall = details["max_apply_stall_ms"].as_f64().expect("a stall");
    assert!(stall > 0.0, "{details}");
    println!("{checked} snapshots up to seq {last}; slowest commit in the round of one: {stall:.1} ms");
}

/// Tells the writers to stop, also after a failed check.
struct Ending<'s>(&'s AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rows of about a kilobyte that are there before.
const ROWS: i64 = 300_000;
/// Statements that are applied every second.
const RATE: u64 = 5_000;
const FILL: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1)
    INSERT INTO fam___big SELECT printf('old-%08d', x), x, hex(randomblob(500)) FROM n";

/// An LDB of more than 300 MB at seq 1.
fn large(path: &Path) {
    let mut ldb = Ldb::open(path, &options()).unwrap();
    let table = r#"CREATE TABLE fam___big ("k" VARCHAR(191), "v" INTEGER, "t" TEXT, PRIMARY KEY("k"));"#;
    let mut assembler = Assembler::after(Seq::ZERO);
    assembler.push(row(1, table.to_owned())).unwrap();
    ldb.apply(&assembler.take_complete().unwrap()).unwrap();
    ldb.close().unwrap();
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    connection.execute(FILL, [ROWS]).unwrap();
}

/// Applies new rows at the rate until it is told to stop; gives the slowest commit.
fn apply(path: &Path, stop: &AtomicBool) -> Duration {
    let mut ldb = Ldb::open(path, &options()).unwrap();
    let (began, mut applied, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let mut assembler = Assembler::after(Seq(1));
    while !stop.load(Ordering::Relaxed) {
        let due = || began.elapsed().as_millis() as u64 * RATE / 1_000;
        wait::wait_until("rows are due", DEADLINE, || due() > applied);
        for _ in 0..(due() - applied).min(1_000) {
            applied += 1;
            let text = "y".repeat(100);
            let upsert = format!(r#"REPLACE INTO fam___big ("k","v","t") VALUES('new-{applied}',{applied},'{text}')"#);
            assembler.push(row(1 + applied as i64, upsert)).unwrap();
        }
        let done = ldb.apply(&assembler.take_complete().unwrap()).unwrap();
        slowest = slowest.max(done.execute + done.commit);
        ldb.maintain().unwrap();
    }
    slowest
}

fn copy_and_flush(from: &Path, to: &Path) -> Duration {
    let began = Instant::now();
    // Another process reads the file. Closing it in this one would lose SQLite's locks on it.
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
    File::open(to).unwrap().sync_all().unwrap();
    let took = began.elapsed();
    fs::remove_file(to).unwrap();
    took
}

#[test]
fn a_large_ldb_is_taken_while_rows_are_applied() {
    let directory = support::scratch_dir();
    let (ldb, copy) = (directory.path().join("ldb.db"), directory.path().join("copy.db"));
    large(&ldb);
    assert!(fs::metadata(&ldb).unwrap().len() > 300 << 20);
    let plain = copy_and_flush(&ldb, &copy);
    let progress: Arc<dyn SnapshotProgress> = Arc::new(());
    let stop = AtomicBool::new(false);
    let (slowest, taken) = thread::scope(|scope| {
        let applier = scope.spawn(|| apply(&ldb, &stop));
        let _ended = Ending(&stop);
        let taken: Vec<_> = (0..2)
            .map(|_| {
                let began = Instant::now();
                let snapshot = take(&ldb, &copy, &Abort::default(), &progress).unwrap();
                (snapshot, began.elapsed())
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        (applier.join().unwrap(), taken)
    });
    for (snapshot, took) in &taken {
        let applied = snapshot.position.seq.0 - 1;
        assert_eq!(snapshot.tables.len(), 1);
        assert_eq!(snapshot.tables[0].rows as i64, ROWS + applied, "at seq {}", snapshot.position.seq);
        println!(
            "taken and checked in {took:?}, {} bytes; cp and fsync {plain:?}; slowest commit {slowest:?}",
            snapshot.bytes
        );
    }
    assert!(taken[0].0.position.seq < taken[1].0.position.seq, "nothing was applied meanwhile");
    let mut last = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let transaction = last.transaction().unwrap();
    let seq: i64 = transaction.query_row("SELECT seq FROM _ldb_seq", [], |row| row.get(0)).unwrap();
    assert_eq!(seq, taken[1].0.position.seq.0);
}
