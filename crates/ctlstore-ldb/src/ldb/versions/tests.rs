//! Versions as files: what appears, under which number, and what goes.

use super::*;

const SCHEMA: &str = "
CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);";

/// As the original makes them: no table of ours, no mark of the WAL.
fn make_ldb(path: &Path, seq: i64) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute("INSERT INTO _ldb_seq VALUES (1, ?1)", [seq]).unwrap();
}

fn add(versions: &Versions, seq: i64) -> PathBuf {
    make_ldb(&versions.incoming().unwrap(), seq);
    let version = versions.install().unwrap();
    versions.remove_old().unwrap();
    version
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_newest_stay_and_numbers_grow_whatever_the_clock_says() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("versioned");
    let versions = Versions::claim(&directory, 2).unwrap();
    let future = directory.join("9000000000000");
    fs::create_dir(&future).unwrap();
    make_ldb(&future.join(VERSIONED_LDB), 1);
    add(&versions, 2);
    assert_eq!(names(&directory), ["9000000000000", "9000000000001"]);
    let newest = add(&versions, 3);
    assert_eq!(names(&directory), ["9000000000001", "9000000000002"]);
    assert_eq!(names(home.path()), ["versioned", "versioned.lock"]);
    let standing = versions.standing().unwrap();
    assert_eq!((standing.seq(), standing.newest.unwrap().0), (Some(Seq(3)), newest.clone()));
    let header = fs::read(newest.join(VERSIONED_LDB)).unwrap();
    assert_eq!(header[18..20], [2, 2]);
}

#[test]
fn what_a_crash_left_is_removed_and_what_is_no_version_stays() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("versioned");
    let versions = Versions::claim(&directory, 2).unwrap();
    add(&versions, 5);
    fs::write(versions.incoming().unwrap(), "half").unwrap();
    for left in [directory.join("0000000000001"), directory.join("notes"), home.path().join("versioned.removing")] {
        fs::create_dir(left).unwrap();
    }
    drop(versions);
    let versions = Versions::claim(&directory, 2).unwrap();
    assert_eq!(names(home.path()), ["versioned", "versioned.lock"]);
    add(&versions, 6);
    add(&versions, 7);
    assert_eq!(names(&directory).len(), 3, "{:?}", names(&directory));
    assert!(names(&directory).contains(&"notes".to_owned()));
}

#[test]
fn what_somebody_else_keeps_under_a_version_s_name_is_never_removed() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("versioned");
    let theirs = directory.join("0000000000001/holiday.jpg");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "a picture").unwrap();
    fs::write(theirs.with_file_name(VERSIONED_LDB), "with an ldb's name beside it").unwrap();
    let versions = Versions::claim(&directory, 2).unwrap();
    for seq in 5..9 {
        add(&versions, seq);
    }
    assert_eq!(names(&directory).len(), 3, "{:?}", names(&directory));
    drop(versions);
    for name in ["versioned.incoming", "versioned.removing"] {
        let theirs = home.path().join(name).join("notes.txt");
        fs::create_dir(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "notes").unwrap();
        let error = Versions::claim(&directory, 2).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("notes.txt, which is no part of a version"), "{error}");
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "notes");
        fs::remove_dir_all(theirs.parent().unwrap()).unwrap();
    }
    // A link goes, and not what it leads to.
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join(VERSIONED_LDB), "theirs").unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.path().join("versioned.incoming")).unwrap();
    add(&Versions::claim(&directory, 2).unwrap(), 9);
    assert_eq!(fs::read_to_string(elsewhere.join(VERSIONED_LDB)).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "a picture");
}

#[test]
fn a_version_that_cannot_be_read_is_told_and_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let versions = Versions::claim(&home.path().join("versioned"), 3).unwrap();
    assert!(versions.standing().unwrap().newest.is_none());
    let good = add(&versions, 5);
    let bad = add(&versions, 6);
    fs::write(bad.join(VERSIONED_LDB), [b'x'; 8192]).unwrap();
    let standing = versions.standing().unwrap();
    assert_eq!((standing.seq(), standing.newest.unwrap().0), (Some(Seq(5)), good));
    assert!(standing.unreadable.unwrap().contains(bad.to_str().unwrap()));
}

#[test]
fn one_process_at_a_time_brings_versions() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("versioned");
    let _first = Versions::claim(&directory, 2).unwrap();
    let error = Versions::claim(&directory, 2).unwrap_err();
    assert!(matches!(error, LdbError::VersionsClaimed { .. }), "{error}");
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("versioned");
    let versions = Versions::claim(&directory, 2).unwrap();
    add(&versions, 5);
    fs::remove_dir_all(&directory).unwrap();
    assert!(versions.standing().unwrap().newest.is_none());
    add(&versions, 4);
    assert_eq!(versions.standing().unwrap().seq(), Some(Seq(4)));
}
