//! The embedded ctldb's -wal: moved into the file when the executive stops in order, and missed when it is gone after
//! a kill.

use std::fs;
use std::path::{Path, PathBuf};

use ctlstore_ctldb::{Ctldb, CtldbError, LedgerTable, SqliteCtldb};
use rusqlite::Connection;
use support::ctldb::*;
use support::scratch_dir;

fn named(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn open(path: &Path) -> Result<SqliteCtldb, CtldbError> {
    SqliteCtldb::open(path, LedgerTable::default())
}

#[track_caller]
fn refused(path: &Path, reason: &str) {
    let error = open(path).err().expect("it is refused").to_string();
    assert!(error.contains(reason), "{error}");
}

fn append(statement: &str) -> Step {
    Step::Append(vec![statement.to_owned()])
}

/// The files of a ctldb as `kill -9` leaves them, at `to`; the ctldb itself goes on.
fn copy_as_killed(from: &Path, to: &Path) {
    for suffix in ["", "-wal", ".open"] {
        fs::copy(named(from, suffix), named(to, suffix)).expect("copy it");
    }
}

async fn statements(path: &Path) -> Vec<Answer> {
    let ctldb = open(path).expect("open it");
    ctldb.prepare().await.unwrap();
    let answers = write(&ctldb, vec![Step::LastSeq]).await;
    ctldb.close().await;
    answers
}

#[tokio::test]
async fn after_a_stop_in_good_order_the_file_alone_is_whole() {
    let directory = scratch_dir();
    let (path, copy) = (directory.path().join("ctldb.db"), directory.path().join("copy.db"));
    let ctldb = open(&path).unwrap();
    ctldb.prepare().await.unwrap();
    write(&ctldb, vec![append("one"), append("two")]).await;
    assert!(named(&path, ".open").exists());
    ctldb.close().await;
    assert_eq!(fs::metadata(named(&path, "-wal")).map_or(0, |wal| wal.len()), 0);
    assert!(!named(&path, ".open").exists());
    fs::copy(&path, &copy).unwrap();
    let found: i64 = Connection::open(&copy)
        .unwrap()
        .query_row("SELECT COUNT(*) FROM ctlstore_dml_ledger", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, 2);
    // Without its empty WAL it is opened as before.
    fs::remove_file(named(&path, "-wal")).unwrap();
    assert_eq!(statements(&path).await[0].number(), 2);
}

#[tokio::test]
async fn after_a_kill_a_wal_that_is_gone_or_another_one_is_refused() {
    let directory = scratch_dir();
    let path = directory.path().join("ctldb.db");
    let ctldb = open(&path).unwrap();
    ctldb.prepare().await.unwrap();
    let old = directory.path().join("old.db");
    copy_as_killed(&path, &old);
    write(&ctldb, vec![append("one")]).await;
    let at = |name: &str| directory.path().join(name);
    let [whole, gone, empty, older] = ["whole.db", "gone.db", "empty.db", "older.db"].map(at);
    for to in [&whole, &gone, &empty] {
        copy_as_killed(&path, to);
    }
    // Killed once more, so that its mark is newer than the WAL that takes the place.
    ctldb.close().await;
    let again = open(&path).unwrap();
    again.prepare().await.unwrap();
    write(&again, vec![append("two")]).await;
    copy_as_killed(&path, &older);
    again.close().await;
    fs::remove_file(named(&gone, "-wal")).unwrap();
    fs::write(named(&empty, "-wal"), "").unwrap();
    fs::copy(&old, &older).unwrap();
    fs::copy(named(&old, "-wal"), named(&older, "-wal")).unwrap();

    assert_eq!(statements(&whole).await[0].number(), 1);
    refused(&gone, "gone.db-wal with its newest commits is gone");
    refused(&empty, "empty.db-wal with its newest commits is gone");
    refused(&older, "its newest commits are gone");
    // Who wants to go on without them says so.
    fs::remove_file(named(&older, ".open")).unwrap();
    assert_eq!(statements(&older).await[0].number(), 0);
}

#[tokio::test]
async fn a_file_whose_tables_were_all_in_a_wal_that_is_gone_is_no_new_ctldb() {
    let directory = scratch_dir();
    let path = directory.path().join("ctldb.db");
    // As versions before this one left it that were killed before their first checkpoint.
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("CREATE TABLE ctlstore_meta (name TEXT, value TEXT)").unwrap();
    let copy = directory.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::write(named(&copy, ".lock"), "pid 1\n").unwrap();
    refused(&copy, "has no tables");
    fs::remove_file(&copy).unwrap();
    open(&copy).unwrap();
}

#[test]
fn a_database_that_has_only_a_table_of_families_is_another_programs() {
    let directory = scratch_dir();
    let families = "CREATE TABLE families (id INTEGER PRIMARY KEY, name TEXT);";
    let locks = "CREATE TABLE locks (id TEXT PRIMARY KEY, clock BIGINT);";
    for (index, tables) in [families.to_owned(), locks.to_owned(), format!("{families}{locks}")].iter().enumerate() {
        let path = directory.path().join(format!("{index}.db"));
        Connection::open(&path).unwrap().execute_batch(tables).unwrap();
        let before = fs::read(&path).unwrap();
        refused(&path, "is not a ctldb");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    // With one that only a ctldb has, it is one that was being made.
    let mutators = "CREATE TABLE mutators (writer TEXT, secret TEXT, cookie BLOB, clock BIGINT);";
    let path = directory.path().join("begun.db");
    Connection::open(&path).unwrap().execute_batch(&format!("{families}{mutators}")).unwrap();
    open(&path).unwrap();
}
