//! The embedded ctldb's own tasks: its file, and which process owns it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctlstore_core::schema::FieldType;
use ctlstore_core::sql;
use ctlstore_ctldb::{Ctldb, CtldbError, LedgerTable, SchemaChange, SqliteCtldb};
use support::SmallDisk;
use support::ctldb::*;

fn path_of(database: &support::TestDatabase) -> PathBuf {
    PathBuf::from(database.url.strip_prefix("sqlite:").unwrap())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let database = support::sqlite();
    let first = prepared(&database).await;
    let second = SqliteCtldb::open(&path_of(&database), LedgerTable::default()).err().unwrap();
    assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
    first.close().await;
    SqliteCtldb::open(&path_of(&database), LedgerTable::default()).unwrap();
}

#[tokio::test]
async fn files_are_not_for_everyone_and_stay_for_readers() {
    let database = support::sqlite();
    let path = path_of(&database).parent().unwrap().join("made/for/it/ctldb.db");
    let ctldb = prepared_at(&format!("sqlite:{}", path.display())).await;
    write(&ctldb, vec![Step::Append(vec!["x".into()])]).await;
    ctldb.close().await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        // The process's umask may remove rights, but nothing adds any.
        assert_eq!(mode(&with_suffix(&path, suffix)) & !0o640, 0, "{suffix}");
    }
    assert_eq!(mode(path.parent().unwrap()) & !0o750, 0);
}

#[tokio::test]
async fn the_file_is_as_the_protocol_says() {
    let database = support::sqlite();
    let ctldb = prepared(&database).await;
    write(&ctldb, vec![Step::Append(vec!["x".into()])]).await;
    assert_eq!(database.value("PRAGMA journal_mode").unwrap(), "wal");
    let declared = "SELECT type FROM pragma_table_info('ctlstore_dml_ledger') WHERE name = 'leader_ts'";
    assert_eq!(database.value(declared).unwrap(), "TEXT");
    let written = database.value("SELECT leader_ts FROM ctlstore_dml_ledger").unwrap();
    assert_eq!(written.len(), "2006-01-02 15:04:05.000".len(), "{written}");
    assert_eq!(database.value("SELECT typeof(leader_ts) FROM ctlstore_dml_ledger").unwrap(), "text");
}

#[tokio::test]
async fn text_with_a_nul_is_stored_as_the_ledger_spells_it() {
    let database = support::sqlite();
    let ctldb = prepared(&database).await;
    let schema = table("fam___tab", &[("k", FieldType::String), ("t", FieldType::Text)], &["k"]);
    let create = SchemaChange::CreateTable(schema.clone());
    let row = vec![text("a"), text("x\0y")];
    write(&ctldb, vec![Step::Alter(create), Step::Upsert(schema.table().clone(), vec![row.clone()])]).await;
    let stored = || database.query("SELECT typeof(t), hex(t) FROM fam___tab");
    let bound = stored();
    database.query(&sql::upsert(&schema, &row));
    assert_eq!(bound, stored());
}

#[tokio::test]
async fn a_stranger_that_holds_the_file_is_waited_for() {
    let database = support::sqlite();
    let ctldb = prepared(&database).await;
    let stranger = rusqlite::Connection::open(path_of(&database)).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let error = ctldb.write(Steps(vec![Step::LastSeq]), deadline).await.unwrap_err();
    assert!(matches!(error, CtldbError::Contention(_)), "{error}");
    stranger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(write(&ctldb, vec![Step::Append(vec!["x".into()])]).await[0].number(), 1);
}

#[tokio::test]
async fn a_full_disk_is_named_and_passes() {
    let disk = SmallDisk::mount("1m");
    let ctldb = prepared_at(&format!("sqlite:{}/ctldb.db", disk.directory().display())).await;
    let large = || vec![Step::LastSeq, Step::Append(vec!["x".repeat(100_000)])];
    let mut written = 0;
    let error = loop {
        match try_write(&ctldb, large()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk is never full");
    };
    assert!(matches!(error, CtldbError::NotWritable(_)) && error.to_string().contains("full"), "{error}");
    disk.resize("10m");
    let answers = write(&ctldb, large()).await;
    assert_eq!([answers[0].number(), answers[1].number()], [written, written + 1]);
}
