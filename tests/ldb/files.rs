//! The LDB as files: which users may open it, which files an applier accepts, and what happens if the
//! files are removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_ldb::{ApplyError, Ldb, LdbError};
use rusqlite::Connection;
use support::ldb::{CREATE, Scratch, batch, integer, options, seq, strings, timestamp, upsert};

/// An LDB as the Go program's applier makes it.
const ORIGINALS: &str = "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;
CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
CREATE TABLE fam___tab (\"id\" INTEGER, \"v\" VARCHAR(191), PRIMARY KEY(\"id\"));
INSERT INTO fam___tab VALUES(1, 'theirs');
REPLACE INTO _ldb_seq VALUES(1, 41);
REPLACE INTO _ldb_last_update VALUES('ledger', '2026-01-01 00:00:41+00:00');";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_removed(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Ldb(LdbError::Removed { .. }))
}

#[test]
fn a_new_ldb_is_ready_for_readers_of_other_users() {
    let scratch = Scratch::new();
    let path = scratch.directory.path().join("sub/ldb.db");
    let ldb = Ldb::open(&path, &options(None)).unwrap();
    assert_eq!(ldb.position().unwrap(), LdbPosition::default());
    assert_eq!(mode(path.parent().unwrap()), 0o750);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(Path::new(&format!("{}{suffix}", ldb.file().display()))), 0o640);
    }
    let reader = support::ldb::reader(&path);
    assert_eq!(strings(&reader, "PRAGMA journal_mode"), ["wal"]);
    assert_eq!(integer(&reader, "PRAGMA page_size"), 16384);
    assert_eq!(strings(&reader, "SELECT value FROM _ldb_meta WHERE name = 'format_version'"), ["1"]);
    drop(reader);
    let file = ldb.file().to_owned();
    ldb.close().unwrap();
    for suffix in ["-wal", "-shm"] {
        assert!(Path::new(&format!("{}{suffix}", file.display())).exists(), "{suffix} went with the writer");
    }
}

#[test]
fn a_second_applier_is_refused_with_the_first_ones_name() {
    let scratch = Scratch::new();
    let first = scratch.open();
    let error = Ldb::open(&scratch.ldb(), &options(None)).unwrap_err();
    assert!(matches!(error, LdbError::Locked { .. }));
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(first);
    scratch.open();
}

#[test]
fn a_file_of_the_original_is_taken_over_as_it_is() {
    let scratch = Scratch::new();
    Connection::open(scratch.ldb()).unwrap().execute_batch(ORIGINALS).unwrap();
    let mut ldb = scratch.open();
    let position = LdbPosition { seq: Seq(41), leader_ts: Some(timestamp(41)), ledger_id: None };
    assert_eq!(ldb.position().unwrap(), position);
    ldb.apply(&batch(42, &[&upsert(2, "ours")])).unwrap();
    assert!(fs::symlink_metadata(scratch.ldb()).unwrap().is_file());
    let reader = scratch.reader();
    assert_eq!(integer(&reader, "PRAGMA page_size"), 4096);
    assert_eq!(strings(&reader, "SELECT v FROM fam___tab ORDER BY id"), ["theirs", "ours"]);
}

#[test]
fn a_newer_programs_file_is_left_alone() {
    let scratch = Scratch::new();
    scratch.open().close().unwrap();
    let set = "UPDATE _ldb_meta SET value = '2' WHERE name = 'format_version'";
    Connection::open(scratch.ldb()).unwrap().execute(set, []).unwrap();
    let error = Ldb::open(&scratch.ldb(), &options(None)).unwrap_err();
    assert!(error.to_string().ends_with("has format version 2, this program knows versions up to 1"), "{error}");
}

#[test]
fn what_is_no_database_is_an_error_that_says_so_and_damage_where_an_applier_has_been() {
    let scratch = Scratch::new();
    fs::write(scratch.ldb(), "this is not a database, and it is long enough to look like one: ".repeat(20)).unwrap();
    assert!(matches!(Ldb::open(&scratch.ldb(), &options(None)), Err(LdbError::NotAnLdb { .. })));
    fs::write(scratch.directory.path().join("ldb.db.seq"), format!("{:020}\n", 7)).unwrap();
    assert!(matches!(Ldb::open(&scratch.ldb(), &options(None)), Err(LdbError::Corrupt { .. })));
}

#[test]
fn an_ldb_follows_one_ledger() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.adopt_ledger_id("one").unwrap();
    ldb.adopt_ledger_id("one").unwrap();
    assert!(matches!(ldb.adopt_ledger_id("two"), Err(LdbError::OtherLedger { .. })));
    drop(ldb);
    assert_eq!(scratch.open().position().unwrap().ledger_id.as_deref(), Some("one"));
}

#[test]
fn an_ldb_deleted_under_its_applier_is_an_error_and_nothing_is_committed() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let reader = scratch.reader();
    // A reader that has begun to read goes on in its open file.
    assert_eq!(seq(&reader), 1);
    fs::remove_file(ldb.file()).unwrap();
    let error = ldb.apply(&batch(2, &[&upsert(1, "a")])).unwrap_err();
    assert!(is_removed(&error) && error.to_string().contains("ldb.db was deleted or replaced"), "{error}");
    assert!(matches!(ldb.maintain(), Err(LdbError::Removed { .. })));
    assert_eq!(seq(&reader), 1);
    drop(ldb);
    // After it is opened again it begins from nothing, at the same path.
    assert_eq!(scratch.open().position().unwrap().seq, Seq(0));
}

#[test]
fn an_ldb_replaced_under_its_applier_is_an_error() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let other = scratch.directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch(ORIGINALS).unwrap();
    fs::remove_file(scratch.ldb()).unwrap();
    symlink(&other, scratch.ldb()).unwrap();
    assert!(is_removed(&ldb.apply(&batch(2, &[&upsert(1, "a")])).unwrap_err()));
    drop(ldb);
    assert_eq!(scratch.open().position().unwrap().seq, Seq(41));
}

#[test]
fn a_wal_deleted_under_its_applier_is_an_error() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let wal = format!("{}-wal", ldb.file().display());
    fs::remove_file(&wal).unwrap();
    let error = ldb.apply(&batch(2, &[&upsert(1, "a")])).unwrap_err();
    assert!(matches!(error, ApplyError::Ldb(LdbError::WalRemoved { .. })), "{error}");
    assert!(error.to_string().contains("-wal was deleted"), "{error}");
}

#[test]
fn readers_keep_a_generation_that_was_replaced() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "old")])).unwrap();
    let old = scratch.reader();
    assert_eq!(seq(&old), 2);
    ldb.close().unwrap();
    fs::remove_file(scratch.ldb()).unwrap();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    assert_eq!(strings(&old, "SELECT v FROM fam___tab"), ["old"]);
    assert_eq!(seq(&scratch.reader()), 1);
}
