//! A reader that runs as another user than the applier, without the right to write beside the LDB.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{LdbReader, ReadError};
use rusqlite::config::DbConfig;

use support::reader_server::OriginalLdb;

const NOBODY: u32 = 65534;
const TABLE: &str = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;
const ROW: &str = r#"REPLACE INTO fam___tab ("k","v") VALUES('a','1')"#;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory that every user may enter and only its owner may write.
fn shared_directory() -> tempfile::TempDir {
    let directory = support::scratch_dir();
    set_mode(directory.path().parent().unwrap(), 0o755);
    set_mode(directory.path(), 0o755);
    directory
}

/// Reads the row on a thread that has the file rights of another, unprivileged user.
fn read_as_nobody(ldb: &Path) -> Result<String, ReadError> {
    let read = || {
        // SAFETY: plain system calls that change this thread's own file rights and nothing else.
        let user = unsafe {
            libc::setfsgid(NOBODY);
            libc::setfsuid(NOBODY);
            // This call changes nothing more. It returns the user whose rights the thread has.
            libc::setfsuid(NOBODY) as u32
        };
        assert_eq!(user, NOBODY, "taking another user's file rights needs root");
        let mut out = Vec::new();
        let table = TableRef::parse("fam", "tab").unwrap();
        LdbReader::new(ldb).get_json(&table, "a", &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    };
    thread::scope(|scope| scope.spawn(read).join().unwrap())
}

#[test]
fn another_user_reads_beside_a_writer_and_after_it_has_gone() {
    let directory = shared_directory();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE, ROW]);
    assert_eq!(read_as_nobody(&path).unwrap(), r#"{"k":"a","v":"1"}"#);
    // The writer leaves its WAL, as ctlstore's applier does.
    ldb.0.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(ldb);
    assert!(directory.path().join("ldb.db-wal").exists());
    assert_eq!(read_as_nobody(&path).unwrap(), r#"{"k":"a","v":"1"}"#);
}

#[test]
fn what_another_user_may_not_read_is_said_in_so_many_words() {
    let directory = shared_directory();
    let path = directory.path().join("ldb.db");
    OriginalLdb::create(&path).apply([TABLE, ROW]);
    // The writer is gone, and so are -wal and -shm. This user can't make them again.
    assert!(!directory.path().join("ldb.db-shm").exists());
    let error = read_as_nobody(&path).unwrap_err();
    assert!(matches!(error, ReadError::NotReadable { .. }) && error.to_string().contains("-shm"), "{error}");

    set_mode(&path, 0o600);
    let error = read_as_nobody(&path).unwrap_err();
    assert!(matches!(error, ReadError::NotReadable { .. }), "{error}");
}
