//! Support for tests of the reader library: LDBs that plain SQLite writes, as any program with write
//! permission could.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tempfile::TempDir;

const BOOKKEEPING: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
    INSERT OR IGNORE INTO _ldb_seq VALUES (1, 0);";

/// An LDB with the connection that writes it.
pub struct Written {
    pub path: PathBuf,
    pub connection: Connection,
}

impl Written {
    pub fn at(path: &Path) -> Self {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(BOOKKEEPING).unwrap();
        Self { path: path.to_owned(), connection }
    }

    /// Runs the statements and increments the seq, in one transaction.
    pub fn apply(&self, statements: &str) {
        let sql = format!("BEGIN; {statements}; UPDATE _ldb_seq SET seq = seq + 1; COMMIT");
        self.connection.execute_batch(&sql).unwrap();
    }

    /// Closes it as one file without a WAL, like a snapshot.
    pub fn finish(self) -> PathBuf {
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(self.connection);
        self.path
    }
}

/// An LDB in a directory of its own.
pub fn scratch() -> (TempDir, Written) {
    let directory = tempfile::tempdir().unwrap();
    let written = Written::at(&directory.path().join("ldb.db"));
    (directory, written)
}

/// Makes `path` a link to `target`, atomically.
pub fn point_at(path: &Path, target: &Path) {
    let link = path.with_extension("link");
    symlink(target, &link).unwrap();
    fs::rename(&link, path).unwrap();
}

/// Tells threads to end, even if the test fails before.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
