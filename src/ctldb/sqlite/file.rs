//! The ctldb's file: where it may be, who owns it, and how a connection to it is
//! set up. Knows nothing of what is in it.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::ctldb::CtldbError;

const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Nobody else writes, so only a stranger (a shell, a backup) is ever waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite before 3.51.3 could lose a WAL's reset.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Statements kept prepared per connection.
const CACHED_STATEMENTS: usize = 256;

/// The -wal file stays (others have it open), so it is cut back to this after a checkpoint.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = OFF;";

/// Filesystems that other hosts write too, by statfs's magic numbers: NFS, SMB, CIFS, SMB2, Ceph, AFS, Coda.
const NETWORK_FILESYSTEMS: [u64; 7] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x00C3_6400, 0x5346_414F, 0x7375_7245];

/// Makes the directory and takes the file for this process alone, until the returned
/// lock is dropped. Fails, naming the holder, while another process has it.
pub(super) fn claim(path: &Path) -> Result<File, CtldbError> {
    let failed = |what: &str, e: std::io::Error| CtldbError::Failed(format!("{what} {}: {e}", path.display()));
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|e| failed("make the directory of", e))?;
    refuse_network_filesystem(directory)?;
    let mut open = File::options();
    open.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let mut lock = open.open(lock_path(path)).map_err(|e| failed("open the lock file of", e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message; an unreadable holder is still a holder.
            let _ = lock.take(20).read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
            return Err(CtldbError::Failed(format!("{} is in use by process {holder}", path.display())));
        }
        Err(TryLockError::Error(e)) => return Err(failed("lock", e)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|e| failed("write the lock file of", e))?;
    // Made here because SQLite would make it readable to everyone; -wal and -shm follow its mode.
    open.open(path).map_err(|e| failed("make", e))?;
    Ok(lock)
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// WAL readers and writers share memory, which hosts do not.
fn refuse_network_filesystem(directory: &Path) -> Result<(), CtldbError> {
    let failed = |e: String| CtldbError::Failed(format!("look at the filesystem of {}: {e}", directory.display()));
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).map_err(|e| failed(e.to_string()))?;
    // SAFETY: all-zero bytes are a valid statfs, which is plain numbers.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends in a NUL and `stat` is there to be written.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(failed(std::io::Error::last_os_error().to_string()));
    }
    // The magic numbers have 32 bits, the field's sign and width differ by platform.
    if NETWORK_FILESYSTEMS.contains(&(stat.f_type as u64 & 0xFFFF_FFFF)) {
        return Err(CtldbError::Failed(format!(
            "{} is on a network filesystem, where an sqlite ctldb can't be",
            directory.display()
        )));
    }
    Ok(())
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
        return Err(CtldbError::Failed(format!("{} can't have a write-ahead log", path.display())));
    }
    connection.execute_batch(SETTINGS)?;
    keep_wal(&connection)?;
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

/// Keeps -wal and -shm when the last connection closes, so that processes that may
/// not make files there can still read.
fn keep_wal(connection: &Connection) -> Result<(), CtldbError> {
    let mut on: std::ffi::c_int = 1;
    // SAFETY: the handle is the open connection's, and `on` outlives the call.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast(),
        )
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(CtldbError::Failed(format!("keep the -wal file: code {code}"))) }
}
