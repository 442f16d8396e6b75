//! The history of changes: a client that goes on in it knows every row, whatever happened to the
//! applier, its LDB or the files in between. If it can't know every row, it is told so.

mod bridge;
mod client;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use client::Client;
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{
    Grown, HistoryCursor, HistoryOptions, HistoryTail, TooOld, What, at_ledger_seq, directory_of,
};
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::Connection;
use support::ldb::workload::{self, Dice, Task, Workload};
use support::ldb::{CREATE, Scratch, batch, reader, seq, upsert};

/// The test that the killed processes run.
const APPLIER: &str = concat!(module_path!(), "::a_workload_is_applied_to_its_end");
const SIGABRT: i32 = 6;

fn workload_of(seed: u64) -> Workload {
    Workload::new(seed, 4_000, true)
}

#[test]
fn a_workload_is_applied_to_its_end() {
    if let Some(task) = Task::from_environment() {
        return task.run(&workload_of(task.seed));
    }
    let directory = tempfile::tempdir().unwrap();
    let (workload, path) = (workload_of(1), directory.path().join("ldb.db"));
    drop(workload::open(directory.path(), 1));
    let mut client = Client::new(&path);
    workload.apply(&mut workload::open(directory.path(), 1), || 100);
    assert!(client.go_on().len() > 2_000);
    client.check(&path);
    assert_eq!(client.resyncs, [""; 0]);
}

#[test]
fn killed_at_random_nothing_is_missed_and_nobody_starts_over() {
    let (seed, directory) = (7, tempfile::tempdir().unwrap());
    let (workload, path) = (workload_of(seed), directory.path().join("ldb.db"));
    let mut dice = Dice::new(seed);
    drop(workload::open(directory.path(), seed));
    let mut client = Client::new(&path);
    let (mut kills, mut at) = (0, 0);
    while at < workload.last_seq() {
        let target = (at + dice.roll(250) as i64).min(workload.last_seq());
        let mut applier = workload::start(APPLIER, directory.path(), seed, None, None);
        while seq(&reader(&path)) < target {
            assert!(applier.try_wait().unwrap().is_none_or(|status| status.success()), "the applier has failed");
        }
        for _ in 0..dice.roll(400_000) {
            std::hint::spin_loop();
        }
        applier.kill().unwrap();
        applier.wait().unwrap();
        kills += 1;
        drop(workload::open(directory.path(), seed));
        at = seq(&reader(&path));
        client.go_on();
        client.check(&path);
    }
    assert!(kills > 5, "{kills} kills");
    assert_eq!(client.resyncs, [""; 0]);
}

#[test]
fn killed_at_any_failpoint_history_and_rows_agree() {
    let (seed, directory) = (8, tempfile::tempdir().unwrap());
    let path = directory.path().join("ldb.db");
    drop(workload::open(directory.path(), seed));
    let mut client = Client::new(&path);
    for failpoint in
        ["apply-after-seq", "apply-after-history", "apply-after-commit", "apply-after-changelog", "apply-after-history"]
    {
        for hit in [1, 3] {
            let armed = format!("{failpoint}:{hit}");
            let mut applier = workload::start(APPLIER, directory.path(), seed, Some(40), Some(&armed));
            assert_eq!(applier.wait().unwrap().signal(), Some(SIGABRT), "{armed}");
            // Before an applier opens it again, a reader takes what is surely committed.
            let early = client.go_on();
            drop(workload::open(directory.path(), seed));
            let late = client.go_on();
            assert_eq!(late.is_empty(), failpoint != "apply-after-commit", "{armed}: {} late", late.len());
            assert!(hit == 1 || !early.is_empty(), "{armed}");
            client.check(&path);
        }
    }
    assert_eq!(client.resyncs, [""; 0]);
}

fn options(ldb: &Path, retain_bytes: u64) -> LdbOptions {
    let history = Some(HistoryOptions::beside(ldb, retain_bytes));
    LdbOptions { wal_checkpoint_bytes: 1 << 20, changelog: None, history }
}

fn open(scratch: &Scratch) -> Ldb {
    Ldb::open(&scratch.ldb(), &options(&scratch.ldb(), 1 << 20)).unwrap()
}

/// An LDB with some rows, and a client that knows them.
fn with_rows(scratch: &Scratch) -> (Ldb, Client) {
    let mut ldb = open(scratch);
    ldb.adopt_ledger_id("a ledger").unwrap();
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a"), &upsert(2, "b")])).unwrap();
    let client = Client::new(&scratch.ldb());
    (ldb, client)
}

/// Whether a client can go on after an event between two starts. If it can't, its position is
/// one of another history.
#[track_caller]
fn goes_on_after(what: impl FnOnce(&Scratch)) -> bool {
    let scratch = Scratch::new();
    let (ldb, mut client) = with_rows(&scratch);
    ldb.close().unwrap();
    what(&scratch);
    drop(open(&scratch));
    let mut tail = HistoryTail::new(&client.directory);
    tail.poll().unwrap();
    let goes_on = tail.history() == client.history.as_deref();
    if !goes_on {
        client = Client::new(&scratch.ldb());
    }
    // Once is enough: from then on the client goes on.
    let mut ldb = open(&scratch);
    let next = ldb.position().unwrap().seq.0 + 1;
    let statements = if next == 1 { vec![CREATE.to_owned()] } else { vec![upsert(9, "z")] };
    ldb.apply(&batch(next, &statements.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    drop(ldb);
    open(&scratch);
    client.go_on();
    client.check(&scratch.ldb());
    assert_eq!(client.resyncs, [""; 0]);
    goes_on
}

fn last_segment(scratch: &Scratch) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(directory_of(&scratch.ldb())).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

fn append(scratch: &Scratch, bytes: &[u8]) {
    OpenOptions::new().append(true).open(last_segment(scratch)).unwrap().write_all(bytes).unwrap();
}

fn execute(scratch: &Scratch, sql: &str) {
    Connection::open(scratch.ldb()).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn clients_are_told_where_changes_are_not_known_and_else_not() {
    assert!(goes_on_after(|_| {}), "nothing happened");
    // The last group was written and never committed, in every shape that a crash leaves.
    let row = br#"{"n":3,"op":"delete","family":"fam","table":"tab","key":[{"name":"id","type":"INTEGER","value":1}],"ledgerSeq":4}"#;
    assert!(goes_on_after(|scratch| append(scratch, row)), "a torn line");
    let group = [row.as_slice(), b"\n{\"until\":4}\n"].concat();
    assert!(goes_on_after(|scratch| append(scratch, &group)), "a group without its commit");
    assert!(goes_on_after(|scratch| append(scratch, &[0; 5000])), "room that was never written");

    let others = "UPDATE _ldb_seq SET seq = 5";
    assert!(!goes_on_after(|scratch| execute(scratch, others)), "rows applied by another program");
    let cut = |scratch: &Scratch| {
        let text = fs::read_to_string(last_segment(scratch)).unwrap();
        let middle = text.find("\"value\":2").unwrap();
        OpenOptions::new().write(true).open(last_segment(scratch)).unwrap().set_len(middle as u64).unwrap();
    };
    assert!(!goes_on_after(cut), "a power failure that took the end");
    let damaged = |scratch: &Scratch| fs::write(last_segment(scratch), [0; 5000]).unwrap();
    assert!(!goes_on_after(damaged), "a power failure that took everything");
    let without = |scratch: &Scratch| {
        scratch.open().apply(&batch(4, &[&upsert(1, "c")])).unwrap();
    };
    assert!(!goes_on_after(without), "a start without a history");
    let other = "UPDATE _ldb_meta SET value = 'other' WHERE name = 'ledger_id'";
    assert!(!goes_on_after(|scratch| execute(scratch, other)), "another ledger");
    let anew = |scratch: &Scratch| fs::remove_file(fs::canonicalize(scratch.ldb()).unwrap()).unwrap();
    assert!(!goes_on_after(anew), "an LDB that was lost");
    let removed = |scratch: &Scratch| fs::remove_dir_all(directory_of(&scratch.ldb())).unwrap();
    assert!(!goes_on_after(removed), "a history that was lost");

    // An older copy of the same ledger catches up without help: every change that comes again is sent again.
    let older = "UPDATE _ldb_seq SET seq = 2; DELETE FROM fam___tab WHERE id = 2";
    let scratch = Scratch::new();
    let (ldb, mut client) = with_rows(&scratch);
    ldb.close().unwrap();
    execute(&scratch, older);
    open(&scratch).apply(&batch(3, &[&upsert(2, "b"), &upsert(3, "c")])).unwrap();
    client.go_on();
    client.check(&scratch.ldb());
    assert_eq!(client.resyncs, [""; 0]);
}

#[test]
fn statements_of_no_known_form_say_what_they_can() {
    let scratch = Scratch::new();
    let (mut ldb, mut client) = with_rows(&scratch);
    ldb.apply(&batch(4, &["UPDATE fam___tab SET v = 'x'"])).unwrap();
    client.next += 2;
    let two = HistoryCursor::seek(&client.directory, 3).unwrap().unwrap().read(5, 1000).unwrap().unwrap();
    assert!(two.iter().all(|record| matches!(record.what, What::Row { op: None, .. })), "{two:?}");
    ldb.apply(&batch(5, &["alter table fam___tab add w TEXT"])).unwrap();
    client.go_on();
    assert_eq!(client.resyncs, ["a statement changed rows that it does not name"]);
}

#[test]
fn no_more_than_asked_is_kept_and_what_is_kept_is_found_from_every_place() {
    const RETAIN: u64 = 64 * 1024;
    let scratch = Scratch::new();
    let mut ldb = Ldb::open(&scratch.ldb(), &options(&scratch.ldb(), RETAIN)).unwrap();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let directory = directory_of(&scratch.ldb());
    let mut tail = HistoryTail::new(&directory);
    tail.poll().unwrap();
    let mut seen = Vec::new();
    for seq in 2..1500 {
        ldb.apply(&batch(seq, &[&upsert(seq, "a")])).unwrap();
        if seq % 7 == 0 {
            let Grown::By(records) = tail.poll().unwrap() else { panic!("it begins anew") };
            seen.extend(records.iter().map(|record| record.ledger_seq.0));
        }
    }
    assert_eq!(seen, (2..2 + seen.len() as i64).collect::<Vec<_>>());
    tail.poll().unwrap();
    let bytes: u64 = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!((RETAIN / 2..=RETAIN).contains(&bytes), "{bytes} bytes");
    let (end, mut kept) = (tail.next(), 0);
    for number in 1..end {
        let Ok(mut cursor) = HistoryCursor::seek(&directory, number).unwrap() else {
            assert_eq!(kept, 0, "{number} is lost in the middle");
            assert_eq!(at_ledger_seq(&directory, Seq(number as i64), end).unwrap(), Err(TooOld));
            continue;
        };
        let first = cursor.read(end, 1).unwrap().unwrap().remove(0);
        assert_eq!((first.number, first.ledger_seq.0), (number, number as i64 + 1));
        if kept > 0 {
            assert_eq!(at_ledger_seq(&directory, Seq(number as i64), end).unwrap(), Ok(number));
        }
        kept += 1;
    }
    assert!(kept > 200, "{kept} are kept");
    assert_eq!(at_ledger_seq(&directory, Seq(1_499), end).unwrap(), Ok(end));
}

#[test]
fn a_history_that_cannot_be_written_stops_nothing_and_says_so_when_it_can() {
    let scratch = Scratch::new();
    let (mut ldb, mut client) = with_rows(&scratch);
    // The segment is full, so the next commit needs a new one, and none can be made there.
    let large = "x".repeat(180);
    for seq in 4..1000 {
        ldb.apply(&batch(seq, &[&upsert(seq, &large)])).unwrap();
    }
    client.go_on();
    let (directory, aside) = (directory_of(&scratch.ldb()), scratch.directory.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    fs::write(&directory, "in the way").unwrap();
    let mut seq = 1000;
    while ldb.history_error().is_none() {
        ldb.apply(&batch(seq, &[&upsert(seq, "a")])).unwrap();
        seq += 1;
        assert!(seq < 10_000, "everything was written");
    }
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    // Without anything new to apply clients learn it too.
    ldb.maintain().unwrap();
    assert!(ldb.history_error().is_none());
    client.go_on();
    assert_eq!(client.resyncs, ["changes could not be written to the history"]);
    client.load(&scratch.ldb());
    ldb.apply(&batch(seq, &[&upsert(1, "last")])).unwrap();
    client.go_on();
    client.check(&scratch.ldb());
}
