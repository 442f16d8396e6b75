//! Makes and opens the database file for writing, with the settings that its durability and
//! its other readers depend on. Entry points: [`create`], [`open`] and [`adopt`].

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, FileControl, OpenFlags, ffi};

use ctlstore_core::disk::{beside, directory_of, file_mode, open_own};

use super::bookkeeping;
use super::error::LdbError;

/// The first release without the fault that a crash during a WAL reset could cause.
const MIN_SQLITE: (i32, &str) = (3_051_003, "3.51.3");

/// Large pages need fewer levels and fewer WAL frames for the same rows.
const NEW_FILE: &str = "PRAGMA page_size = 16384;";
/// The cache grows only with the pages that are used, up to 32 MiB. That keeps a loaded node
/// within its memory, and holds the inner pages of millions of rows.
const SETTINGS: &str = "\
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -32768;
PRAGMA temp_store = MEMORY;
PRAGMA foreign_keys = OFF;";
const WAL_MODE: &str = "PRAGMA journal_mode = WAL";
const TRUNCATE_WAL: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// The most prepared statements that are kept: upserts and deletes of about a hundred tables.
const STATEMENT_CACHE: usize = 256;

/// How long a write waits for another program's write lock. No program should have one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The place in SQLite's header of the versions that may read and write the file, and their
/// values in WAL mode. The original's readers refuse any other.
const VERSIONS_OFFSET: u64 = 18;
const WAL_VERSIONS: [u8; 2] = [2, 2];
/// Makes an empty LDB at `file`, complete and closed.
pub fn create(file: &Path) -> Result<(), LdbError> {
    let failed = |error: &rusqlite::Error| LdbError::sqlite(file, "creating it", error);
    let io_failed = |error| LdbError::io(file, "creating it", error);
    // Made before SQLite makes it, for the mode. -wal and -shm get the same mode.
    let made = OpenOptions::new().write(true).create_new(true).mode(file_mode()).open(file).map_err(io_failed)?;
    // The process's umask must not take the group's right to read.
    made.set_permissions(Permissions::from_mode(file_mode())).map_err(io_failed)?;
    let result = (|| {
        let connection = connect(file)?;
        connection.execute_batch(NEW_FILE)?;
        settle(&connection)?;
        in_transaction(&connection, bookkeeping::create)?;
        connection.query_row(TRUNCATE_WAL, [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    })();
    result.map_err(|error| {
        // A file without a link would only be removed at the next start, and a full disk needs
        // the space now.
        for leftover in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(file, leftover));
        }
        failed(&error)
    })
}

/// Makes a copied LDB this host's. It gets our tables and settings, and a changelog numbering
/// that belongs to no file, so opening it makes the numbering jump. The inode alone would not
/// tell the files apart, because the inode of a removed file can come back. The file is closed
/// again, with nothing beside it.
pub fn adopt(file: &Path, changelog_number: Option<u64>) -> Result<(), LdbError> {
    let failed = |error: &rusqlite::Error| LdbError::sqlite(file, "making it this host's", error);
    let io_failed = |error| LdbError::io(file, "making it this host's", error);
    let connection = open(file)?;
    let adopt = || {
        in_transaction(&connection, |connection| bookkeeping::disown_numbering(connection, changelog_number))?;
        let is_busy: bool = connection.query_row(TRUNCATE_WAL, [], |row| row.get(0))?;
        if is_busy {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        Ok(())
    };
    adopt().map_err(|error| failed(&error))?;
    connection.close().map_err(|(_, error)| failed(&error))?;
    for beside_it in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(file, beside_it)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_failed(error)),
            _ => {}
        }
    }
    let made = open_own(OpenOptions::new().read(true), file).map_err(io_failed)?;
    made.set_permissions(Permissions::from_mode(file_mode())).map_err(io_failed)
}

/// Opens the database at `file`, and gives it our settings and tables.
pub fn open(file: &Path) -> Result<Connection, LdbError> {
    let failed = |error: rusqlite::Error| LdbError::sqlite(file, "opening it", &error);
    if rusqlite::version_number() < MIN_SQLITE.0 {
        return Err(LdbError::SqliteTooOld { found: rusqlite::version(), wanted: MIN_SQLITE.1 });
    }
    let connection = connect(file).map_err(failed)?;
    // Checked before anything is written, so that a newer program's file stays as it is.
    if let Some(found) = bookkeeping::format_version(&connection).map_err(failed)?
        && found.parse().map_or(true, |version: u32| version > bookkeeping::FORMAT_VERSION)
    {
        return Err(LdbError::NewerFormat { path: file.to_owned(), found, known: bookkeeping::FORMAT_VERSION });
    }
    settle(&connection).map_err(failed)?;
    in_transaction(&connection, bookkeeping::create).map_err(failed)?;
    Ok(connection)
}

/// Opens `file`, which must not be a link itself. Its directories may be.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let directory = std::fs::canonicalize(directory_of(file)).unwrap_or_else(|_| directory_of(file).to_owned());
    let connection = Connection::open_with_flags(directory.join(file.file_name().unwrap_or_default()), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Readers without write access can't make -wal and -shm, so these stay. Those of a file that
    // turns out to be no database stay as evidence.
    connection.file_control(Some("main"), FileControl::PersistWal(&mut 1))?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.query_row(WAL_MODE, [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_CANTOPEN),
            Some(format!("journal mode is {mode}, not wal")),
        ));
    }
    connection.execute_batch(SETTINGS)?;
    // With these, a misspelled column is an error and not a text.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // No ledger makes triggers or views. Those of other programs do nothing.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map(drop)
}

/// Runs `work` in a transaction of its own, and commits it.
pub fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let result = work(connection).and_then(|value| connection.execute_batch("COMMIT").map(|()| value));
    if result.is_err() && !connection.is_autocommit() {
        // The first error says more than one of the rollback.
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

/// Marks a finished file, which SQLite has closed, as being in WAL mode. Tells whether that
/// changed it. The caller flushes it.
pub fn mark_for_wal(file: &File) -> io::Result<bool> {
    let mut versions = [0; WAL_VERSIONS.len()];
    file.read_exact_at(&mut versions, VERSIONS_OFFSET)?;
    let is_new = versions != WAL_VERSIONS;
    if is_new {
        file.write_all_at(&WAL_VERSIONS, VERSIONS_OFFSET)?;
    }
    Ok(is_new)
}
