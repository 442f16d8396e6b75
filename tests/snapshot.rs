//! Snapshots of an LDB that the real applier writes: consistent, whole, and never a
//! step back for whoever starts from them.

mod snapshot_support;
mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ctlstore::ledger::Seq;
use ctlstore::snapshot::{Abort, Publisher, Round, SnapshotError, Target};
use rusqlite::{Connection, OpenFlags};

use snapshot_support::{Applier, check, end_of};
use support::SmallDisk;

fn publisher(ldb: &Path, snapshots: &[&Path]) -> Publisher {
    Publisher::new(ldb, snapshots.iter().map(|path| Target::File(path.to_path_buf())))
}

#[track_caller]
fn taken(round: Result<Round, SnapshotError>) -> Seq {
    match round {
        Ok(Round::Taken { position, failures, .. }) if failures.is_empty() => position.seq,
        other => panic!("no snapshot was taken: {other:?}"),
    }
}

#[test]
fn each_snapshot_equals_the_ledger_replayed_to_its_seq_while_the_applier_works() {
    const SNAPSHOTS: usize = 12;
    let directory = support::scratch_dir();
    let ldb = directory.path().join("ldb.db");
    let snapshot = directory.path().join("snapshots/snapshot.db");
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(200));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    let done = AtomicBool::new(false);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut transaction = 200;
            while !done.load(Ordering::Relaxed) {
                transaction += 1;
                applier.apply_to(end_of(transaction));
            }
        });
        while seen.len() < SNAPSHOTS {
            match publisher.round(&Abort::default()) {
                Ok(Round::Unchanged(_)) => {}
                round => {
                    let seq = taken(round);
                    assert_eq!(check(&snapshot), seq.0);
                    seen.push(seq.0);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "seqs do not grow: {seen:?}");
    let left: Vec<_> =
        fs::read_dir(snapshot.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "more than the snapshot and its lock: {left:?}");
}

#[test]
fn a_snapshot_that_others_have_open_is_replaced_without_a_trace_of_them() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("a snapshot?#%.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(3));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    taken(publisher.round(&Abort::default()));
    // Without `immutable`, as a careless program opens it: SQLite makes files beside it.
    let open = || Connection::open_with_flags(&snapshot, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let seq = |connection: &Connection| -> i64 {
        connection.query_row("SELECT seq FROM _ldb_seq", [], |row| row.get(0)).unwrap()
    };
    let old = open();
    assert_eq!(seq(&old), end_of(3));
    applier.apply_to(end_of(4));
    taken(publisher.round(&Abort::default()));
    assert_eq!((seq(&old), seq(&open())), (end_of(3), end_of(4)));
}

#[test]
fn nothing_is_taken_before_the_first_statement_and_none_twice() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    assert!(matches!(publisher.round(&Abort::default()), Ok(Round::NothingYet)));
    let mut applier = Applier::open(&ldb);
    assert!(matches!(publisher.round(&Abort::default()), Ok(Round::NothingYet)));
    assert!(!snapshot.exists());
    applier.apply_to(end_of(1));
    assert_eq!(taken(publisher.round(&Abort::default())).0, end_of(1));
    assert!(matches!(publisher.round(&Abort::default()), Ok(Round::Unchanged(seq)) if seq.0 == end_of(1)));
    // Someone clears the place: it is filled again.
    fs::remove_file(&snapshot).unwrap();
    assert_eq!(taken(publisher.round(&Abort::default())).0, end_of(1));
    assert_eq!(check(&snapshot), end_of(1));
}

#[test]
fn a_snapshot_older_than_the_published_one_or_of_another_ledger_is_refused() {
    let directory = support::scratch_dir();
    let path = |name: &str| directory.path().join(name);
    let snapshot = path("snapshot.db");
    let mut ahead = Applier::open(&path("ahead.db"));
    ahead.adopt("one");
    ahead.apply_to(end_of(9));
    taken(publisher(&path("ahead.db"), &[&snapshot]).round(&Abort::default()));
    let published = fs::read(&snapshot).unwrap();

    let mut behind = Applier::open(&path("behind.db"));
    behind.adopt("one");
    behind.apply_to(end_of(8));
    let mut of_behind = publisher(&path("behind.db"), &[&snapshot]);
    let refused = of_behind.round(&Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::Older { published, taken, .. } if published > taken), "{refused}");

    drop(of_behind);
    let mut other = Applier::open(&path("other.db"));
    other.adopt("two");
    other.apply_to(end_of(10));
    let mut of_other = publisher(&path("other.db"), &[&snapshot]);
    let refused = of_other.round(&Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::OtherLedger { .. }), "{refused}");
    assert_eq!(fs::read(&snapshot).unwrap(), published);

    drop(of_other);
    behind.apply_to(end_of(10));
    assert_eq!(taken(publisher(&path("behind.db"), &[&snapshot]).round(&Abort::default())).0, end_of(10));
}

#[test]
fn what_is_no_snapshot_is_replaced_and_a_wal_beside_it_is_removed() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    fs::write(&snapshot, "torn").unwrap();
    fs::write(directory.path().join("snapshot.db-wal"), "of someone who opened it for writing").unwrap();
    fs::write(directory.path().join("snapshot.db.tmp"), "left by a crash").unwrap();
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(2));
    taken(publisher(&ldb, &[&snapshot]).round(&Abort::default()));
    assert_eq!(check(&snapshot), end_of(2));
    assert!(!directory.path().join("snapshot.db.tmp").exists());
}

#[test]
fn every_destination_gets_the_snapshot_whatever_becomes_of_the_others() {
    let directory = support::scratch_dir();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a file"), "").unwrap();
    let (bad, one, two) = (path("a file/snapshot.db"), path("one/snapshot.db"), path("two/snapshot.db"));
    let mut applier = Applier::open(&path("ldb.db"));
    applier.apply_to(end_of(4));
    let mut publisher = publisher(&path("ldb.db"), &[&bad, &one, &two]);
    match publisher.round(&Abort::default()) {
        Ok(Round::Taken { failures, .. }) => assert_eq!(failures.len(), 1, "{failures:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!((check(&one), check(&two)), (end_of(4), end_of(4)));
    // Nothing new, but one destination still lacks it: that is no success.
    assert!(publisher.round(&Abort::default()).is_err());
    fs::remove_file(path("a file")).unwrap();
    assert_eq!(taken(publisher.round(&Abort::default())).0, end_of(4));
    assert_eq!(check(&bad), end_of(4));
}

#[test]
fn a_destination_has_one_publisher() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(1));
    let mut first = publisher(&ldb, &[&snapshot]);
    taken(first.round(&Abort::default()));
    applier.apply_to(end_of(2));
    let refused = publisher(&ldb, &[&snapshot]).round(&Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::InUse { .. }), "{refused}");
    drop(first);
    taken(publisher(&ldb, &[&snapshot]).round(&Abort::default()));
}

#[test]
fn an_aborted_copy_leaves_nothing_behind() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(2_000));
    let abort = Abort::default();
    abort.abort();
    let aborted = publisher(&ldb, &[&snapshot]).round(&abort).unwrap_err();
    assert!(matches!(aborted, SnapshotError::Aborted), "{aborted}");
    assert!(!snapshot.exists() && !directory.path().join("snapshot.db.tmp").exists());
}

#[test]
fn a_full_disk_is_named_and_the_published_snapshot_stays() {
    let directory = support::scratch_dir();
    let small = SmallDisk::mount("1m");
    let (ldb, snapshot) = (directory.path().join("ldb.db"), small.path("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(100));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    taken(publisher.round(&Abort::default()));
    applier.apply_to(end_of(10_000));
    let full = publisher.round(&Abort::default()).unwrap_err();
    assert!(matches!(full, SnapshotError::DiskFull(_)), "{full}");
    assert_eq!(check(&snapshot), end_of(100));
    assert!(!small.path("snapshot.db.tmp").exists());
}
