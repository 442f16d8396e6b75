//! Reads that share a read transaction. Each sees what it would see in a transaction of its own, and no
//! process waits for a transaction that is left open.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_core::ledger::Seq;
use ctlstore_ldb::Ldb;
use ctlstore_reader::read::{LdbReader, ReadError, ReadTransaction};
use rusqlite::Connection;

use support::http::post;
use support::ldb::workload::{self, Dice, Task, Workload};
use support::ldb::{Scratch, batch, upsert};
use support::reader_server::{OriginalLdb, ReaderServer, options};
use support::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const TABLE: &str = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;
const KEY: &str = r#"{"Key":[{"Value":"a"}]}"#;
/// The test that the applying process runs.
const APPLIER: &str = concat!(module_path!(), "::shared_reads_are_as_fresh_as_others_while_the_applier_is_killed");

fn row(value: impl std::fmt::Display) -> String {
    format!(r#"REPLACE INTO fam___tab ("k","v") VALUES('a','{value}')"#)
}

/// An LDB with one row.
fn ldb_at(path: &Path, value: &str) -> OriginalLdb {
    let ldb = OriginalLdb::create(path);
    ldb.apply([TABLE, &row(value)]);
    ldb
}

fn value(reader: &mut LdbReader) -> String {
    reader.shared(|now| now.get_with("fam", "tab", "a", |row| row.get("v"))).unwrap().unwrap()
}

/// Whether the WAL could be cut now. An open transaction prevents that.
fn can_cut_the_wal(ldb: &Connection) -> bool {
    ldb.busy_timeout(Duration::ZERO).unwrap();
    let is_busy: bool = ldb.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    !is_busy
}

#[test]
fn shared_reads_are_as_fresh_as_others_while_the_applier_is_killed() {
    let workload = Workload::new(5, 4_000, true);
    if let Some(task) = Task::from_environment() {
        return task.run(&workload);
    }
    let directory = tempfile::tempdir().unwrap();
    drop(workload::open(directory.path(), 5));
    let path = directory.path().join("ldb.db");
    let other = support::ldb::reader(&path);
    let mut reader = LdbReader::new(&path);
    let mut dice = Dice::new(5);
    let mut last = 0;
    let mut kills = 0;
    let started = Instant::now();
    while last < workload.last_seq() {
        let target = workload.last_seq().min(last + 1 + dice.roll(400) as i64);
        let mut applier = workload::start(APPLIER, directory.path(), 5, None, None);
        while last < target {
            assert!(started.elapsed() < DEADLINE, "the applier stopped at {last}");
            let before = support::ldb::seq(&other);
            let id = 1_000 + dice.roll(5) as i64;
            let read = |now: &ReadTransaction<'_>| {
                Ok((now.last_seq()?, in_table(now, "left", id)?, in_table(now, "right", id)?))
            };
            let (Seq(seq), left, right) = reader.shared(read).unwrap();
            assert!(seq >= before.max(last), "at {seq}, after {before} and {last}");
            assert_eq!(left, right, "half a ledger transaction at {seq}");
            let after = support::ldb::seq(&other);
            assert!(seq <= after, "at {seq}, and {after} later");
            last = seq;
        }
        applier.kill().unwrap();
        applier.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills");
}

fn in_table(now: &ReadTransaction<'_>, table: &str, id: i64) -> Result<Option<String>, ReadError> {
    match now.get_with("fam", table, (id, "key"), |row| row.get("v")) {
        Err(ReadError::UnknownTable(_)) => Ok(None),
        found => found,
    }
}

#[test]
fn no_answer_is_older_than_what_was_committed_before_its_request() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    let server = ReaderServer::start(options(&path));
    let committed = AtomicI64::new(0);
    let is_done = AtomicBool::new(false);
    let requests: usize = thread::scope(|scope| {
        let read = || {
            let mut last = 0;
            let mut requests = 0;
            while !is_done.load(Ordering::SeqCst) {
                let before = committed.load(Ordering::SeqCst).max(last);
                let answer = post(&server.row("fam/tab"), KEY).expect(200);
                let found: i64 = answer.json()["v"].as_str().unwrap().parse().unwrap();
                assert!(found >= before, "{found} was read after {before}");
                // The second row of the LDB was 0 at seq 2.
                assert_eq!(answer.header("ctlstore-seq").unwrap(), (found + 2).to_string());
                (last, requests) = (found, requests + 1);
            }
            requests
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        for value in 1..=500 {
            ldb.apply([row(value)]);
            committed.store(value, Ordering::SeqCst);
            if value % 7 == 0 {
                // Success does not matter. The WAL begins again now and then while the readers read.
                can_cut_the_wal(&ldb.0);
            }
        }
        is_done.store(true, Ordering::SeqCst);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(requests > 10, "only {requests} requests");
}

#[test]
fn an_idle_reader_holds_no_transaction() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    let server = ReaderServer::start(options(&path));
    for value in 1..=20 {
        post(&server.row("fam/tab"), KEY).expect(200);
        post(&server.rows("fam/tab"), "{}").expect(200);
        // A transaction that is still open does not see this row.
        ldb.apply([row(value)]);
        wait_until("the reader's transaction has ended", DEADLINE, || can_cut_the_wal(&ldb.0));
    }
}

#[test]
fn a_shared_transaction_is_open_until_it_is_let_go_of() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    let mut reader = LdbReader::new(&path);
    assert_eq!(value(&mut reader), "0");
    ldb.apply([row("1")]);
    assert!(!can_cut_the_wal(&ldb.0), "the first read's transaction is open");
    assert_eq!(value(&mut reader), "1");
    // The other kinds of read see the row too.
    ldb.apply([row("2")]);
    assert_eq!(reader.get_with("fam", "tab", "a", |row| row.get::<String>("v")).unwrap().unwrap(), "2");
    assert_eq!(value(&mut reader), "2");
    ldb.apply([row("3")]);
    assert_eq!(reader.last_seq().unwrap(), Seq(5));
    assert_eq!(value(&mut reader), "3");
    reader.let_go();
    assert!(can_cut_the_wal(&ldb.0));
    // Here the WAL was cut, and then begins again.
    assert_eq!(value(&mut reader), "3");
    ldb.apply([row("4")]);
    assert_eq!(value(&mut reader), "4");
}

#[test]
fn a_wal_is_cut_while_reads_never_pause() {
    const THRESHOLD: u64 = 256 * 1024;
    let scratch = Scratch::new();
    let mut small = support::ldb::options(None);
    small.wal_checkpoint_bytes = THRESHOLD;
    let mut ldb = Ldb::open(&scratch.ldb(), &small).unwrap();
    ldb.apply(&batch(1, &[support::ldb::CREATE, &upsert(1, "first")])).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = LdbReader::new(scratch.ldb());
                while !is_done.load(Ordering::SeqCst) {
                    let row = reader.shared(|now| now.get_with("fam", "tab", 1, |row| row.get::<String>("v")));
                    row.unwrap().unwrap();
                }
            });
        }
        let pinned = scratch.reader();
        pinned.execute_batch("BEGIN").unwrap();
        let mut next = support::ldb::seq(&pinned) + 1;
        while ldb.wal_bytes() < 6 * THRESHOLD {
            let rows: Vec<_> = (1..200).map(|id| upsert(id, &"x".repeat(190))).collect();
            let rows: Vec<_> = rows.iter().map(String::as_str).collect();
            next = ldb.apply(&batch(next, &rows)).unwrap().seq.0 + 1;
        }
        pinned.execute_batch("COMMIT").unwrap();
        wait_until("the wal to be cut", DEADLINE, || {
            ldb.maintain().unwrap();
            ldb.wal_bytes() == 0
        });
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_table_changed_under_an_open_transaction_is_read_as_it_is() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    let mut reader = LdbReader::new(&path);
    for column in 0..10 {
        let columns = reader.shared(|now| now.get_with("fam", "tab", "a", |row| Ok(row.len()))).unwrap();
        assert_eq!(columns, Some(2 + column));
        ldb.apply([format!(r#"ALTER TABLE fam___tab ADD COLUMN "c{column}" REAL"#)]);
    }
    ldb.apply(["DROP TABLE IF EXISTS fam___tab"]);
    let gone = reader.shared(|now| now.get_with("fam", "tab", "a", |row| Ok(row.len())));
    assert!(matches!(gone, Err(ReadError::UnknownTable(_))), "{gone:?}");
    ldb.apply([TABLE, &row("again")]);
    assert_eq!(value(&mut reader), "again");
}

#[test]
fn a_file_that_takes_the_path_is_followed_by_reads_without_pause() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let point_at = |name: &str| {
        let link = directory.path().join("link.tmp");
        symlink(name, &link).unwrap();
        fs::rename(&link, &path).unwrap();
    };
    let _first = ldb_at(&directory.path().join("ldb.1"), "1");
    point_at("ldb.1");
    let mut reader = LdbReader::new(&path);
    assert_eq!(value(&mut reader), "1");
    let second = ldb_at(&directory.path().join("ldb.2"), "2");
    point_at("ldb.2");
    for name in ["ldb.1", "ldb.1-wal", "ldb.1-shm"] {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    wait_until("the reader follows the link", DEADLINE, || value(&mut reader) == "2");
    second.apply([row("3")]);
    assert_eq!(value(&mut reader), "3");
}

#[test]
fn a_file_with_a_rollback_journal_is_not_kept_locked() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    let mode: String = ldb.0.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    ldb.0.busy_timeout(Duration::ZERO).unwrap();
    let mut reader = LdbReader::new(&path);
    for next in 1..=20 {
        assert_eq!(value(&mut reader), (next - 1).to_string());
        ldb.apply([row(next)]);
    }
    for beside in ["ldb.db-wal", "ldb.db-shm"] {
        assert!(!directory.path().join(beside).exists(), "{beside}");
    }
}

#[test]
fn a_file_that_nobody_writes_is_read_in_one_transaction() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = ldb_at(&path, "0");
    assert!(can_cut_the_wal(&ldb.0));
    drop(ldb);
    let mut reader = LdbReader::immutable(&path);
    for _ in 0..3 {
        assert_eq!(value(&mut reader), "0");
        assert_eq!(reader.last_seq().unwrap(), Seq(2));
    }
    reader.let_go();
    assert_eq!(value(&mut reader), "0");
    assert!(!directory.path().join("ldb.db-shm").exists());
}
