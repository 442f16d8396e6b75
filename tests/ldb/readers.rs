//! Readers in other processes, while the applier runs, see whole ledger transactions and the seq that
//! covers them.

use std::time::{Duration, Instant};

use ctlstore_ldb::Ldb;
use support::ldb::workload::{self, Replay, Task, Workload};
use support::ldb::{CREATE, Scratch, assert_same, batch, dump, integer, options, reader, seq, upsert};
use support::wait_until;

/// The test that the applying process runs.
const APPLIER: &str = concat!(module_path!(), "::a_reader_sees_only_whole_ledger_transactions");
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_reader_sees_only_whole_ledger_transactions() {
    let workload = Workload::new(7, 6_000, true);
    if let Some(task) = Task::from_environment() {
        return task.run(&workload);
    }
    let directory = tempfile::tempdir().unwrap();
    drop(workload::open(directory.path(), 7));
    let ldb = reader(&directory.path().join("ldb.db"));
    let mut applier = workload::start(APPLIER, directory.path(), 7, None, None);
    let mut replay = Replay::new(&workload);
    let mut states = 0;
    let mut last = 0;
    // The reader looks as often as it can; the applier does not wait for it.
    let started = Instant::now();
    while last < workload.last_seq() {
        assert!(started.elapsed() < DEADLINE, "the applier stopped at {last}");
        ldb.execute_batch("BEGIN").unwrap();
        let there = seq(&ldb);
        if there > last {
            let rows = dump(&ldb);
            assert!(replay.is_boundary(there), "{there} is within a ledger transaction");
            assert_same(&rows, &replay.dump_at(there), &format!("at seq {there}"));
            (states, last) = (states + 1, there);
        }
        ldb.execute_batch("COMMIT").unwrap();
    }
    assert!(applier.wait().unwrap().success());
    assert!(states > 5, "the reader saw only {states} states");
}

#[test]
fn a_reader_that_stays_does_not_hold_up_the_applier_and_the_wal_shrinks_behind_it() {
    let scratch = Scratch::new();
    let mut small = options(None);
    small.wal_checkpoint_bytes = 256 * 1024;
    let mut ldb = Ldb::open(&scratch.ldb(), &small).unwrap();
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "first")])).unwrap();
    let slow = scratch.reader();
    slow.execute_batch("BEGIN").unwrap();
    assert_eq!(seq(&slow), 2);
    let mut next = 3;
    let mut fill = |ldb: &mut Ldb, wanted: u64| {
        while ldb.wal_bytes() < wanted {
            let rows: Vec<_> = (0..200).map(|id| upsert(id, &"x".repeat(190))).collect();
            let rows: Vec<_> = rows.iter().map(String::as_str).collect();
            next = ldb.apply(&batch(next, &rows)).unwrap().seq.0 + 1;
            ldb.maintain().unwrap();
            assert!(next < 1_000_000, "the wal never reached {wanted} bytes");
        }
    };
    // The reader's open transaction makes the WAL grow past every threshold.
    fill(&mut ldb, 6 * 256 * 1024);
    let checkpoint = ldb.maintain().unwrap().unwrap();
    assert!(!checkpoint.is_complete && checkpoint.remaining_bytes > 0, "{checkpoint:?}");
    assert_eq!(integer(&slow, "SELECT count(*) FROM fam___tab"), 1);
    slow.execute_batch("COMMIT").unwrap();
    wait_until("the wal to be cut", DEADLINE, || {
        ldb.maintain().unwrap();
        ldb.wal_bytes() == 0
    });
    assert_eq!(integer(&slow, "SELECT count(*) FROM fam___tab"), 200);
}

#[test]
fn a_wal_without_readers_in_the_way_stays_near_its_threshold() {
    let scratch = Scratch::new();
    let mut small = options(None);
    small.wal_checkpoint_bytes = 256 * 1024;
    let mut ldb = Ldb::open(&scratch.ldb(), &small).unwrap();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let mut largest = 0;
    let mut checkpoints = 0;
    for seq in 2..1_000 {
        ldb.apply(&batch(seq, &[&upsert(seq, &"x".repeat(190))])).unwrap();
        checkpoints += u64::from(ldb.maintain().unwrap().is_some());
        largest = largest.max(ldb.wal_bytes());
    }
    assert!(largest < 2 * 256 * 1024, "the wal came to {largest} bytes");
    assert!(checkpoints > 10, "{checkpoints} checkpoints");
}
