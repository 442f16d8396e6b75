//! The one copy that the destinations of a round share: its place, and the errors that they get if there is none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::{Phase, Publisher, SnapshotError, SnapshotProgress, SnapshotUrl, Target};
use rusqlite::Connection;

use support::SmallDisk;
use support::snapshot::{Applier, check, end_of, names_in, publisher, take};

/// Unfinished copies in some directories while the LDB is being copied.
struct Watch {
    directories: Vec<PathBuf>,
    seen: Mutex<Vec<PathBuf>>,
}

impl SnapshotProgress for Watch {
    fn at(&self, phase: Phase, _: u64, _: Option<u64>) {
        if phase == Phase::Copy {
            for directory in self.directories.iter().filter(|directory| directory.is_dir()) {
                let names = names_in(directory).into_iter().filter(|name| name.ends_with(".staged.tmp"));
                self.seen.lock().unwrap().extend(names.map(|_| directory.clone()));
            }
        }
    }
}

/// The directories in which an unfinished copy for `snapshot` was found.
fn staged_in(ldb: &Path, snapshot: &Path) -> Vec<PathBuf> {
    let directories = [ldb, snapshot].map(|path| path.parent().unwrap().to_owned());
    let watch = Arc::new(Watch { directories: directories.into(), seen: Mutex::default() });
    let progress: Arc<dyn SnapshotProgress> = Arc::clone(&watch) as _;
    let mut publisher = Publisher::new(ldb, [Target::new(SnapshotUrl::File(snapshot.to_owned()))]).reporting(progress);
    take(&mut publisher);
    let mut seen = watch.seen.lock().unwrap().clone();
    seen.dedup();
    seen
}

#[test]
fn a_copy_that_others_wait_for_is_made_only_on_the_ldbs_own_filesystem() {
    let (directory, disk) = (support::scratch_dir(), SmallDisk::mount("16m"));
    let ldb = directory.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(100));
    // A mount that hangs would hold up every other destination.
    let elsewhere = disk.path("snapshot.db");
    assert_eq!(staged_in(&ldb, &elsewhere), [directory.path()]);
    assert_eq!(check(&elsewhere), end_of(100));
    // A copy made here need not be copied again.
    let near = directory.path().join("files/snapshot.db");
    assert_eq!(staged_in(&ldb, &near), [directory.path().join("files")]);
    assert_eq!(check(&near), end_of(100));
}

#[test]
fn a_copy_that_fails_its_check_is_made_once_in_a_round_however_many_wait_for_it() {
    let directory = support::scratch_dir();
    let ldb = directory.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(3));
    // This index holds something else than its table.
    let damage = Connection::open(&ldb).unwrap();
    damage
        .execute_batch(
            "CREATE TABLE loose (a, b); INSERT INTO loose VALUES (1, 1), (2, 2); CREATE INDEX by_a ON loose (a);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX by_a ON loose (b)' WHERE name = 'by_a';
             PRAGMA writable_schema = RESET;
             UPDATE loose SET b = 7 WHERE a = 1;
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX by_a ON loose (a)' WHERE name = 'by_a';",
        )
        .unwrap();
    drop(damage);
    let files = ["one", "two", "three"].map(|name| directory.path().join(name).join("snapshot.db"));
    let mut publisher = publisher(&ldb, &files.each_ref().map(PathBuf::as_path));
    let round = publisher.round(Duration::MAX, &Abort::default()).unwrap();
    let mut failures: Vec<SnapshotError> = round.ended.into_iter().filter_map(|ended| ended.outcome.err()).collect();
    assert_eq!(failures.len(), 3, "{failures:?}");
    failures.sort_by_key(|failure| !failure.is_failed_check());
    assert!(matches!(failures[0], SnapshotError::Damaged { .. }), "{failures:?}");
    for told in &failures[1..] {
        assert!(matches!(told, SnapshotError::NoCopy(_)) && !told.is_failed_check(), "{told:?}");
        assert_eq!(told.to_string(), failures[0].to_string());
    }
    assert!(files.iter().all(|file| !file.exists()));
}
