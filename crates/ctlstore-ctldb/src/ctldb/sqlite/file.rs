//! The ctldb's file: where it may be, which process has claimed it, and how connections to it are set up.
//! Entry points: [`claim`], [`open_writer`] and [`open_reader`]. The module knows no table.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, FileControl, OpenFlags};

use crate::ctldb::error::CtldbError;
use ctlstore_core::disk::{self, FileId, LockError, ProcessLock};

/// The longest wait for another program, such as a shell or a backup. No other executive writes.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Older versions of SQLite could lose a reset of the WAL.
const OLDEST_SQLITE: i32 = 3_051_003;

/// The statements that each connection keeps prepared.
const CACHED_STATEMENTS: usize = 256;

/// The -wal file stays, because other processes have it open. So a checkpoint cuts it back to this size.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = OFF;";

/// Makes the directory and claims the file for this process, until the returned lock is dropped. Fails if
/// another process has claimed it, and names that process.
pub(super) fn claim(path: &Path) -> Result<ProcessLock, CtldbError> {
    let shown = path.display();
    let failed = |what: &str, e: io::Error| CtldbError::Failed(format!("{what} {shown}: {e}"));
    let directory = disk::directory_of(path);
    disk::create_directory(directory).map_err(|e| failed("make the directory of", e))?;
    if let Some(kind) = disk::network_filesystem(directory).map_err(|e| failed("look at the filesystem of", e))? {
        return Err(CtldbError::Failed(format!(
            "{shown} is on a network filesystem ({kind}), where it can't have a wal"
        )));
    }
    let lock = ProcessLock::take(path).map_err(|error| match error {
        LockError::Held { holder } => CtldbError::Failed(format!("{shown} is in use by another executive ({holder})")),
        LockError::Io(e) => failed("lock", e),
    })?;
    disk::check_database(path).map_err(|e| failed("open", e))?;
    // The file is made here because SQLite would make it readable to every user. -wal and -shm get its mode.
    // An existing file is not opened: closing it would drop the locks of this process's other connections,
    // and another program could then remove its WAL.
    match OpenOptions::new().write(true).create_new(true).mode(disk::FILE_MODE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", error)),
        _ => {}
    }
    Ok(lock)
}

/// The file that a connection has open. It may be deleted or replaced meanwhile.
pub(super) struct OwnedFile {
    path: PathBuf,
    id: Option<FileId>,
}

impl OwnedFile {
    /// The file that `path` leads to now.
    pub fn at(path: &Path) -> Result<Self, CtldbError> {
        Ok(Self { path: path.to_owned(), id: file_at(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that this user may still write on the file's disk.
    pub fn free_bytes(&self) -> Result<u64, CtldbError> {
        let directory = disk::directory_of(&self.path);
        let failed = |e| CtldbError::Unavailable(format!("look at the disk of {}: {e}", self.path.display()));
        disk::free_bytes(directory).map_err(failed)
    }

    /// Fails if the path no longer leads to this file. Writes to a deleted file are lost when it is closed,
    /// and no other process sees them.
    pub fn check(&self) -> Result<(), CtldbError> {
        if self.id.is_some() && file_at(&self.path)? == self.id {
            return Ok(());
        }
        let reason = format!("{} was deleted or replaced while the executive had it open", self.path.display());
        Err(CtldbError::Unavailable(reason))
    }
}

fn file_at(path: &Path) -> Result<Option<FileId>, CtldbError> {
    FileId::of(path).map_err(|e| CtldbError::Unavailable(format!("look at {}: {e}", path.display())))
}

/// Opens the connection that writes.
pub(super) fn open_writer(path: &Path) -> Result<Connection, CtldbError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(CtldbError::Failed(format!("sqlite {} is too old", rusqlite::version())));
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    set_up(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(CtldbError::Failed("can't have a write-ahead log".to_owned()));
    }
    connection.execute_batch(SETTINGS)?;
    // -wal and -shm stay when the last connection closes. Processes that may not make files there can then
    // still read.
    connection.file_control(Some("main"), FileControl::PersistWal(&mut 1))?;
    Ok(connection)
}

/// Opens a connection that can't write. Fails if there is no file.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Whether the kernel has a lock of this process on the file.
    fn is_locked(path: &Path) -> bool {
        let pid = std::process::id().to_string();
        let inode = std::fs::metadata(path).unwrap().ino();
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.contains(&pid.as_str()) && fields.iter().any(|field| field.ends_with(&format!(":{inode}")))
        })
    }

    #[test]
    fn claiming_a_ctldb_leaves_the_locks_of_its_connections() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctldb.db");
        drop(claim(&path).unwrap());
        let connection = open_writer(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(is_locked(&path));
        drop(claim(&path).unwrap());
        assert!(is_locked(&path));
    }
}
