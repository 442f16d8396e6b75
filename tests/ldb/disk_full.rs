//! The disk fills up under the applier. The error names the disk, nothing is half applied, and the work
//! goes on when there is room again. The test mounts a small tmpfs, so it needs root.

use std::fs;
use std::path::{Path, PathBuf};

use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::{ApplyError, Ldb, LdbError};
use support::SmallDisk;
use support::ldb::follower::Follower;
use support::ldb::{CREATE, batch, dump, options, reader, seq, strings, upsert};

fn open(ldb: &Path, changelog: PathBuf) -> Result<Ldb, LdbError> {
    Ldb::open(ldb, &options(Some(ChangelogOptions { path: changelog, max_bytes: 1 << 20 })))
}

/// Rewrites the same few hundred rows, which makes the WAL grow.
fn apply(ldb: &mut Ldb, next: &mut i64) -> Result<(), ApplyError> {
    let wide = "x".repeat(150);
    let statements: Vec<_> = (0..500).map(|id| upsert(id, &wide)).collect();
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    *next = ldb.apply(&batch(*next, &statements))?.seq.0 + 1;
    Ok(())
}

fn apply_until_failure(ldb: &mut Ldb, next: &mut i64) -> ApplyError {
    loop {
        if let Err(error) = apply(ldb, next) {
            return error;
        }
        assert!(*next < 100_000, "the disk never filled up");
    }
}

#[test]
fn a_full_disk_stops_the_applier_with_nothing_torn_until_there_is_room() {
    let disk = SmallDisk::mount("4m");
    let path = disk.path("ldb.db");
    let mut ldb = open(&path, disk.path("change.log")).unwrap();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let mut follower = Follower::new(disk.path("change.log"));
    follower.follow();
    follower.load(&reader(&path));
    let ballast = disk.fill();
    let mut next = 2;
    let error = apply_until_failure(&mut ldb, &mut next);
    assert!(matches!(error, ApplyError::Ldb(LdbError::DiskFull { .. })), "{error}");
    assert!(error.to_string().starts_with("no space left for ldb /"), "{error}");
    // The LDB can be read, is whole, and has the committed rows.
    let there = reader(&path);
    assert_eq!((seq(&there), strings(&there, "PRAGMA quick_check")), (next - 1, vec!["ok".to_owned()]));

    // The same applier goes on as soon as there is room.
    fs::remove_file(ballast).unwrap();
    apply(&mut ldb, &mut next).unwrap();
    assert_eq!(seq(&there), next - 1);

    // A start on the full disk does no harm either.
    let ballast = disk.fill();
    apply_until_failure(&mut ldb, &mut next);
    drop(ldb);
    let before = dump(&there);
    let opened = open(&path, disk.path("change.log"));
    assert_eq!((seq(&there), dump(&there)), (next - 1, before));
    if let Err(error) = &opened {
        assert!(matches!(error, LdbError::DiskFull { .. }), "{error}");
    }
    drop(opened);

    fs::remove_file(ballast).unwrap();
    let mut ldb = open(&path, disk.path("change.log")).unwrap();
    apply(&mut ldb, &mut next).unwrap();
    ldb.maintain().unwrap();
    assert_eq!(seq(&there), next - 1);
    follower.follow();
    assert_eq!(follower.stale(&reader(&path)), [""; 0]);
}

#[test]
fn a_disk_without_room_for_an_ldb_is_named_and_nothing_is_left_on_it() {
    let disk = SmallDisk::mount("1m");
    let ballast = disk.fill();
    let path = disk.path("ldb.db");
    let error = Ldb::open(&path, &options(None)).unwrap_err();
    assert!(matches!(error, LdbError::DiskFull { .. }), "{error}");
    assert!(!path.exists());
    fs::remove_file(ballast).unwrap();
    Ldb::open(&path, &options(None)).unwrap();
}
