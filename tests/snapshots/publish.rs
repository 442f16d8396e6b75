//! Snapshots of an LDB that the real applier writes: consistent and whole. No host that starts
//! from them goes a step back.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::SnapshotError;
use rusqlite::{Connection, OpenFlags};

use support::SmallDisk;
use support::snapshot::{Applier, Outcome, check, end_of, names_in, publisher, round, take};

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
            match round(&mut publisher, &Abort::default()) {
                Ok(Outcome::Unchanged) => {}
                Ok(Outcome::Taken { seq, failures }) if failures.is_empty() => {
                    assert_eq!(check(&snapshot), seq);
                    seen.push(seq);
                }
                other => panic!("no snapshot was taken: {other:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "seqs do not grow: {seen:?}");
    // The snapshot, its lock, its manifest, its data and the data of one to three before it.
    let left = names_in(snapshot.parent().unwrap());
    assert!((5..=7).contains(&left.len()), "{left:?}");
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
}

#[test]
fn a_snapshot_that_others_have_open_is_replaced_without_a_trace_of_them() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("a snapshot?#%.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(3));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    take(&mut publisher);
    // Opened without `immutable`, as a careless program does, SQLite makes files beside it.
    let open = || Connection::open_with_flags(&snapshot, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let seq = |connection: &Connection| -> i64 {
        connection.query_row("SELECT seq FROM _ldb_seq", [], |row| row.get(0)).unwrap()
    };
    let old = open();
    assert_eq!(seq(&old), end_of(3));
    applier.apply_to(end_of(4));
    take(&mut publisher);
    assert_eq!((seq(&old), seq(&open())), (end_of(3), end_of(4)));
}

#[test]
fn data_that_was_replaced_long_ago_is_removed_and_what_was_replaced_just_now_stays() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("files/snapshot.db"));
    let mut applier = Applier::open(&ldb);
    let mut publisher = publisher(&ldb, &[&snapshot]);
    let data = || -> Vec<String> {
        let names = names_in(&directory.path().join("files"));
        names.into_iter().filter(|name| name.starts_with("snapshot.db.") && name.contains('-')).collect()
    };
    for transaction in 1..=3 {
        applier.apply_to(end_of(transaction));
        take(&mut publisher);
    }
    let all = data();
    assert_eq!(all.len(), 3, "a host may be downloading each of them: {all:?}");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for name in &all {
        fs::File::options()
            .write(true)
            .open(directory.path().join("files").join(name))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    applier.apply_to(end_of(4));
    take(&mut publisher);
    let left = data();
    assert_eq!(left.len(), 2, "{left:?}");
    for transaction in [3, 4] {
        let prefix = format!("snapshot.db.{}-", end_of(transaction));
        assert!(left.iter().any(|name| name.starts_with(&prefix)), "{left:?}");
    }
}

#[test]
fn nothing_is_taken_before_the_first_statement_and_none_twice() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::NothingYet)));
    let mut applier = Applier::open(&ldb);
    assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::NothingYet)));
    assert!(!snapshot.exists());
    applier.apply_to(end_of(1));
    assert_eq!(take(&mut publisher), end_of(1));
    assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::Unchanged)));
    // If the object is removed, it comes back: from what is still there, or made anew.
    fs::remove_file(&snapshot).unwrap();
    assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::Unchanged)));
    assert_eq!(check(&snapshot), end_of(1));
    for name in names_in(directory.path()).iter().filter(|name| name.starts_with("snapshot.db")) {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    assert_eq!(take(&mut publisher), end_of(1));
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
    take(&mut publisher(&path("ahead.db"), &[&snapshot]));
    let published = fs::read(&snapshot).unwrap();

    let mut behind = Applier::open(&path("behind.db"));
    behind.adopt("one");
    behind.apply_to(end_of(8));
    let mut of_behind = publisher(&path("behind.db"), &[&snapshot]);
    let refused = round(&mut of_behind, &Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::Older { published, taken, .. } if published > taken), "{refused}");

    drop(of_behind);
    let mut other = Applier::open(&path("other.db"));
    other.adopt("two");
    other.apply_to(end_of(10));
    let mut of_other = publisher(&path("other.db"), &[&snapshot]);
    let refused = round(&mut of_other, &Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::OtherLedger { .. }), "{refused}");
    assert_eq!(fs::read(&snapshot).unwrap(), published);

    drop(of_other);
    behind.apply_to(end_of(10));
    assert_eq!(take(&mut publisher(&path("behind.db"), &[&snapshot])), end_of(10));
}

#[test]
fn what_is_no_snapshot_stays_and_a_wal_beside_a_published_one_is_removed() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(1));
    fs::write(&snapshot, "notes").unwrap();
    let refused = round(&mut publisher(&ldb, &[&snapshot]), &Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::Foreign { .. }), "{refused}");
    assert_eq!(fs::read(&snapshot).unwrap(), b"notes");
    fs::remove_file(&snapshot).unwrap();
    take(&mut publisher(&ldb, &[&snapshot]));
    // The object was torn since. Its manifest repairs it.
    fs::remove_file(&snapshot).unwrap();
    fs::write(&snapshot, "torn").unwrap();
    fs::write(directory.path().join("snapshot.db-wal"), "of someone who opened it for writing").unwrap();
    fs::write(directory.path().join("snapshot.db.ctlstore.tmp"), "left by a crash").unwrap();
    applier.apply_to(end_of(2));
    take(&mut publisher(&ldb, &[&snapshot]));
    assert_eq!(check(&snapshot), end_of(2));
    assert!(!directory.path().join("snapshot.db-wal").exists());
    assert!(!directory.path().join("snapshot.db.ctlstore.tmp").exists());
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
    match round(&mut publisher, &Abort::default()) {
        Ok(Outcome::Taken { failures, .. }) => assert_eq!(failures.len(), 1, "{failures:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!((check(&one), check(&two)), (end_of(4), end_of(4)));
    // There is nothing new, but one destination still lacks the snapshot: that is no success.
    assert!(round(&mut publisher, &Abort::default()).is_err());
    fs::remove_file(path("a file")).unwrap();
    assert_eq!(take(&mut publisher), end_of(4));
    assert_eq!(check(&bad), end_of(4));
}

#[test]
fn a_destination_has_one_publisher() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(1));
    let mut first = publisher(&ldb, &[&snapshot]);
    take(&mut first);
    applier.apply_to(end_of(2));
    let refused = round(&mut publisher(&ldb, &[&snapshot]), &Abort::default()).unwrap_err();
    assert!(matches!(refused, SnapshotError::InUse { .. }), "{refused}");
    drop(first);
    take(&mut publisher(&ldb, &[&snapshot]));
}

#[test]
fn an_aborted_copy_leaves_nothing_behind() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(2_000));
    let abort = Abort::default();
    abort.abort();
    let aborted = round(&mut publisher(&ldb, &[&snapshot]), &abort).unwrap_err();
    assert!(matches!(aborted, SnapshotError::Aborted), "{aborted}");
    assert!(!snapshot.exists() && !directory.path().join("snapshot.db.ctlstore.tmp").exists());
}

#[test]
fn a_full_disk_is_named_and_the_published_snapshot_stays() {
    let directory = support::scratch_dir();
    let small = SmallDisk::mount("1m");
    let (ldb, snapshot) = (directory.path().join("ldb.db"), small.path("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(100));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    take(&mut publisher);
    applier.apply_to(end_of(10_000));
    let full = round(&mut publisher, &Abort::default()).unwrap_err();
    assert!(matches!(full, SnapshotError::DiskFull(_)), "{full}");
    assert_eq!(check(&snapshot), end_of(100));
    assert!(!small.path("snapshot.db.ctlstore.tmp").exists());
}
