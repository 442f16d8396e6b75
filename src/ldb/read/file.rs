//! One LDB file that is open for reading: its connection and its tables.
//!
//! Never open the file by other means than SQLite: on closing any descriptor of
//! it, this process would lose the locks of all its connections to it.

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags};

use crate::disk::FileId;
use crate::schema::TableRef;

use super::error::ReadError;
use super::position;
use super::table::{Table, Tables};

/// How long a read waits for a lock. WAL readers wait for none but while the WAL
/// is being recovered after a crash of its writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Prepared statements kept: one for each table and number of key columns in use.
const STATEMENTS: usize = 256;
/// `mmap_size` saves copying pages; the cache holds what is read through the WAL.
const PRAGMAS: &str = "PRAGMA query_only = 1; PRAGMA mmap_size = 67108864; PRAGMA cache_size = -2048";

const BEGIN: &str = "BEGIN";
const END: &str = "END";

/// The file at `path`, `None` when there is none.
pub(super) fn id_of(path: &Path) -> Result<Option<FileId>, ReadError> {
    FileId::of(path).map_err(|source| ReadError::Path { path: path.to_owned(), source })
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Others read and write it meanwhile.
    Shared,
    /// Nobody writes it.
    Immutable,
}

impl Access {
    fn open(self, path: &Path) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match self {
            Self::Shared => Connection::open_with_flags(path, flags),
            Self::Immutable => {
                Connection::open_with_flags(uri(path, "immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)
            }
        }
    }
}

/// `path` as a `file:` URI, with every byte escaped that could mean something in one;
/// `parameters` are SQLite's own, such as `immutable=1`.
pub fn uri(path: &Path, parameters: &str) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}

pub(super) struct LdbFile {
    connection: Connection,
    tables: RefCell<Tables>,
    id: FileId,
}

impl LdbFile {
    /// Opens what is at `path`, which `id` was just read from. When another file takes
    /// the path meanwhile, the next look finds that and opens again.
    pub(super) fn open(path: &Path, id: FileId, access: Access) -> Result<Self, ReadError> {
        let connection = access.open(path).map_err(|error| opening(path, error))?;
        let file = Self { connection, tables: RefCell::default(), id };
        file.set_up().map_err(|error| opening(path, error))?;
        if !file.transaction(position::is_ldb)? {
            return Err(ReadError::NotThereYet { path: PathBuf::from(path) });
        }
        Ok(file)
    }

    fn set_up(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // A reader leaves the WAL to the applier, also when it is the last to close it.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        self.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        self.connection.execute_batch(PRAGMAS)
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, ReadError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// What the table is within the current transaction.
    pub(super) fn table(&self, table: &TableRef) -> Result<Arc<Table>, ReadError> {
        self.tables.borrow_mut().get(self, table)
    }

    /// Runs `read` in a read transaction, which ends with it however it ends.
    pub(super) fn transaction<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.prepare(BEGIN)?.raw_execute()?;
        let open = OpenTransaction(self);
        let outcome = read(self);
        drop(open);
        outcome
    }
}

struct OpenTransaction<'f>(&'f LdbFile);

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        // It has nothing to write, so all that its end can meet is that SQLite ended it before.
        let _ = self.0.prepare(END).and_then(|mut statement| Ok(statement.raw_execute()?));
    }
}

/// Says what SQLite's "unable to open" means here.
fn opening(path: &Path, error: rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ReadError::NotReadable { path: path.to_owned() }
        }
        _ => error.into(),
    }
}
