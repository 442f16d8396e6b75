//! The reader library and its files: versions, replaced files, waits for a seq without an applier's seq
//! file, and connections that are closed.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_reader::{ReadError, ReadTransaction, Reader, RotatingReader, Seq};

use support::library::{SetAtEnd, Written, point_at, scratch};
use support::wait::wait_until;

const TABLE: &str = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"))"#;
const SOON: Duration = Duration::from_secs(20);

fn write(path: &Path, value: &str) -> Written {
    let written = Written::at(path);
    written.apply(&format!("{TABLE}; INSERT INTO fam___tab VALUES('a', '{value}')"));
    written
}

fn value(reader: &Reader) -> String {
    reader.get_with("fam", "tab", "a", |row| row.get("v")).unwrap().unwrap()
}

#[test]
fn the_newest_version_is_read_and_a_bad_one_leaves_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let versions = directory.path().join("versioned");
    let reader = Reader::open_versioned(&versions).unwrap();
    assert!(matches!(reader.last_seq(), Err(ReadError::NotThereYet { .. })));

    // The version is complete before it gets its name.
    let publish = |version: &str, value: &str| {
        write(&directory.path().join("new/ldb.db"), value).finish();
        fs::rename(directory.path().join("new"), versions.join(version)).unwrap();
    };
    fs::create_dir(&versions).unwrap();
    publish("1700000000001", "first");
    assert_eq!(value(&reader), "first");
    assert!(!versions.join("1700000000001/ldb.db-shm").exists(), "it was opened as if someone wrote it");
    publish("1700000000000", "older");
    publish("1700000000003", "third");
    wait_until("the newest version", SOON, || value(&reader) == "third");

    fs::create_dir(versions.join("1700000000004")).unwrap();
    fs::write(versions.join("1700000000004/ldb.db"), [b'x'; 8192]).unwrap();
    let fresh = Reader::open_versioned(&versions).unwrap();
    assert_eq!((value(&reader), value(&fresh)), ("third".into(), "third".into()));
    fs::remove_dir_all(versions.join("1700000000004")).unwrap();
    publish("1700000000004", "fourth");
    wait_until("the mended version", SOON, || value(&reader) == "fourth" && value(&fresh) == "fourth");
    fs::remove_dir_all(&versions).unwrap();
    assert_eq!(value(&reader), "fourth");
}

#[test]
fn no_thread_reads_an_older_version_than_another_one_has_read() {
    let directory = tempfile::tempdir().unwrap();
    let versions = directory.path().join("versioned");
    fs::create_dir(&versions).unwrap();
    let publish = |number: i64| {
        let written = write(&directory.path().join("new/ldb.db"), "any");
        written.connection.execute("UPDATE _ldb_seq SET seq = ?", [number]).unwrap();
        written.finish();
        fs::rename(directory.path().join("new"), versions.join(format!("{number:013}"))).unwrap();
    };
    publish(1);
    // Some threads share one handle, the others share one that was opened on its own.
    let readers = [(); 2].map(|()| Reader::open_versioned(&versions).unwrap());
    let stop = AtomicBool::new(false);
    let newest = AtomicI64::new(0);
    let read_on = &|reader: &Reader| {
        let mut versions_read = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            let before = newest.load(Ordering::SeqCst);
            let seq = reader.last_seq().unwrap().0;
            assert!(seq >= before, "version {seq} after {before}");
            newest.fetch_max(seq, Ordering::SeqCst);
            versions_read.insert(seq);
        }
        versions_read
    };
    thread::scope(|threads| {
        let threads: Vec<_> =
            readers.iter().cycle().take(4).map(|reader| threads.spawn(move || read_on(reader))).collect();
        for number in 2..12 {
            publish(number);
            wait_until("someone reads it", SOON, || newest.load(Ordering::SeqCst) == number);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            assert!(thread.join().unwrap().len() > 5, "a thread that hardly read proves nothing");
        }
    });
}

#[test]
fn a_file_that_is_cut_short_is_an_error_and_not_the_end_of_the_process() {
    let (_directory, written) = scratch();
    let value = "x".repeat(4000);
    written.apply(&format!(
        "{TABLE}; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO fam___tab SELECT printf('%05d', i), '{value}' FROM n"
    ));
    let path = written.finish();
    let reader = Reader::open(&path).unwrap();
    let read = |key: &str| reader.get::<(String, String)>("fam", "tab", key);
    assert!(read("00500").unwrap().is_some());
    let read_at = Instant::now();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 8 / 4096 * 4096).unwrap();
    // A reader looks at the file every 50 ms.
    wait_until("the next look", SOON, || read_at.elapsed() > Duration::from_millis(60));
    assert!(read("00500").unwrap_err().is_damage());
    assert!(read("00500").unwrap_err().is_damage());
}

#[test]
fn the_default_is_the_ldb_in_the_directory_that_the_environment_names() {
    const NAME: &str = concat!(module_path!(), "::the_default_is_the_ldb_in_the_directory_that_the_environment_names");
    const EXPECTED: &str = "LIBRARY_EXPECTED_DEFAULT";
    if let Some(expected) = std::env::var_os(EXPECTED) {
        return assert_eq!(Reader::open_default().unwrap().path(), Path::new(&expected));
    }
    // Each process has its own environment.
    let ask = |expected: &Path, directory: Option<&Path>| {
        let mut child = support::one_test(NAME);
        child.env(EXPECTED, expected).env_remove("CTLSTORE_PATH");
        let output = child.envs(directory.map(|directory| ("CTLSTORE_PATH", directory))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    };
    let directory = tempfile::tempdir().unwrap();
    ask(Path::new("/var/spool/ctlstore/ldb.db"), None);
    ask(&directory.path().join("ldb.db"), Some(directory.path()));
}

#[test]
fn an_ldb_whose_turn_it_is_not_can_be_checkpointed_whole() {
    let directory = tempfile::tempdir().unwrap();
    let ldbs = ["one", "two"].map(|name| write(&directory.path().join(name).join("ldb.db"), name));
    let paths = ldbs.each_ref().map(|ldb| ldb.path.clone());
    let reader = RotatingReader::open(&paths, Duration::from_millis(50)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        // Some threads are always in a read transaction, so the LDB in use always has a reader.
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let row = |snapshot: &ReadTransaction<'_>| {
                        let row: Option<(String, String)> = snapshot.get("fam", "tab", "a")?;
                        thread::yield_now();
                        assert_eq!(snapshot.get("fam", "tab", "a")?, row);
                        Ok(row.is_some())
                    };
                    assert!(reader.read_transaction(row).unwrap());
                }
            });
        }
        for ldb in &ldbs {
            ldb.apply("UPDATE fam___tab SET v = v || '.'");
            let wal = ldb.path.with_file_name("ldb.db-wal");
            assert!(fs::metadata(&wal).unwrap().len() > 0);
            wait_until("a whole checkpoint", SOON, || {
                ldb.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap_or(1) == 0
            });
            assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
        }
    });
}

#[test]
fn a_wait_ends_with_the_seq_that_came_or_with_the_one_that_did_not_suffice() {
    let (_directory, written) = scratch();
    written.apply(TABLE);
    let reader = Reader::open(&written.path).unwrap();
    // The Go program's applier writes no seq file.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.min_seq(Seq(3), SOON).get::<(String, String)>("fam", "tab", "a"));
        written.apply("INSERT INTO fam___tab VALUES('a', 'not yet')");
        written.apply("REPLACE INTO fam___tab VALUES('a', 'now')");
        assert_eq!(waiting.join().unwrap().unwrap().unwrap().1, "now");
    });
    let timeout = Duration::from_millis(30);
    let error = reader.wait_for(Seq(4), timeout).unwrap_err();
    let ReadError::SeqNotReached { wanted: Seq(4), current: Seq(3), waited } = error else { panic!("{error}") };
    assert!(waited >= timeout);
    // A seq file that an applier has left is only a hint.
    fs::write(written.path.with_file_name("ldb.db.seq"), "00000000000000000002\n").unwrap();
    assert_eq!(reader.wait_for(Seq(3), Duration::ZERO).unwrap(), Seq(3));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait_for(Seq(4), SOON));
        written.apply("DELETE FROM fam___tab");
        assert_eq!(waiting.join().unwrap().unwrap(), Seq(4));
    });
    let away = Reader::open(written.path.with_file_name("none.db")).unwrap();
    assert!(matches!(away.wait_for(Seq(1), Duration::ZERO), Err(ReadError::NotThereYet { .. })));
}

#[test]
fn connections_are_closed_with_their_thread_their_file_and_their_reader() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().canonicalize().unwrap();
    let path = place.join("ldb.db");
    let open = |name: &str| open_files(&place.join(name));
    let first = write(&place.join("gen-1"), "1").finish();
    point_at(&path, &first);
    let reader = Reader::open(&path).unwrap();
    assert_eq!((value(&reader).as_str(), open("gen-1")), ("1", 1));

    for _ in 0..20 {
        let reader = reader.clone();
        thread::spawn(move || assert_eq!(value(&reader), "1")).join().unwrap();
    }
    // SQLite keeps one descriptor for the next connection. To close it would lose the locks.
    assert_eq!(open("gen-1"), 2, "threads that ended have left their connections");

    // One thread has read once and then does nothing.
    let (go_on, idle) = mpsc::channel::<()>();
    let (has_read, reading) = mpsc::channel();
    let thread = thread::spawn({
        let reader = reader.clone();
        move || {
            has_read.send(value(&reader)).unwrap();
            let _ = idle.recv();
            value(&reader)
        }
    });
    assert_eq!(reading.recv().unwrap(), "1");
    assert_eq!(open("gen-1"), 2);
    let second = write(&place.join("gen-2"), "2").finish();
    point_at(&path, &second);
    wait_until("the new file is read", SOON, || value(&reader) == "2");
    assert_eq!((open("gen-1"), open("gen-2")), (0, 1), "an idle thread holds the file that was replaced");
    drop(go_on);
    assert_eq!(thread.join().unwrap(), "2");
    drop(reader);
    assert_eq!(open("gen-2"), 0);
}

/// The number of this process's descriptors of the file.
fn open_files(path: &Path) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    descriptors.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
}

#[test]
fn reads_within_reads_panics_and_more_threads_than_connections_are_all_served() {
    let (_directory, written) = scratch();
    written.apply(&format!("{TABLE}; INSERT INTO fam___tab VALUES('a', 'x')"));
    let reader = Reader::open(&written.path).unwrap();
    let nested = reader.read_transaction(|transaction| {
        let here: Option<(String, String)> = transaction.get("fam", "tab", "a")?;
        written.apply("UPDATE fam___tab SET v = 'y'");
        let there = reader.get_with("fam", "tab", "a", |row| Ok((row.get::<String>("v")?, value(&reader))))?;
        assert_eq!(transaction.get::<(String, String)>("fam", "tab", "a")?, here);
        Ok((here.unwrap().1, there.unwrap()))
    });
    assert_eq!(nested.unwrap(), ("x".into(), ("y".into(), "y".into())));

    let panicked =
        catch_unwind(AssertUnwindSafe(|| reader.read_transaction(|_| -> Result<(), ReadError> { panic!("mine") })));
    assert!(panicked.is_err());
    assert_eq!(value(&reader), "y");

    let all = std::sync::Barrier::new(200);
    thread::scope(|scope| {
        for _ in 0..200 {
            // All threads are inside a read at once.
            scope.spawn(|| reader.read_transaction(|_| Ok(all.wait())).map(drop).unwrap());
        }
    });
    assert_eq!(value(&reader), "y");
}
