//! The ctldb's file: where it may be, who owns it, and how a connection to it is
//! set up. Knows nothing of what is in it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, FileControl, OpenFlags};

use crate::ctldb::CtldbError;
use ctlstore_core::disk::{self, FileId, LockError, ProcessLock};

/// Nobody else writes, so only a stranger (a shell, a backup) is ever waited for.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite before 3.51.3 could lose a WAL's reset.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Statements kept prepared per connection.
const CACHED_STATEMENTS: usize = 256;

/// The -wal file stays (others have it open), so it is cut back to this after a checkpoint.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = OFF;";

/// Makes the directory and takes the file for this process alone, until the returned
/// lock is dropped. Fails, naming the holder, while another process has it.
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
    // Made here because SQLite would make it readable to everyone; -wal and -shm follow its mode.
    // A file that is there is not opened: closing it would drop the locks that other
    // connections of this process have on it, and strangers could take its WAL away.
    match OpenOptions::new().write(true).create_new(true).mode(disk::FILE_MODE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", error)),
        _ => {}
    }
    Ok(lock)
}

/// The file that a connection is to, which may lose its name.
pub(super) struct OwnedFile {
    path: PathBuf,
    id: Option<FileId>,
}

impl OwnedFile {
    /// What `path` leads to now.
    pub fn at(path: &Path) -> Result<Self, CtldbError> {
        Ok(Self { path: path.to_owned(), id: file_at(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Room on the file's disk for this user, in bytes.
    pub fn free_bytes(&self) -> Result<u64, CtldbError> {
        let directory = disk::directory_of(&self.path);
        let failed = |e| CtldbError::Unavailable(format!("look at the disk of {}: {e}", self.path.display()));
        disk::free_bytes(directory).map_err(failed)
    }

    /// Fails when the path leads elsewhere by now: what is written to a file without a
    /// name is gone when it is closed, and nobody else sees it.
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

/// The connection that writes.
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
    // -wal and -shm stay when the last connection closes, so that processes that may
    // not make files there can still read.
    connection.file_control(Some("main"), FileControl::PersistWal(&mut 1))?;
    Ok(connection)
}

/// A connection that can't write. Fails while the file is not there.
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
        let (pid, inode) = (std::process::id().to_string(), std::fs::metadata(path).unwrap().ino());
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
