//! Why a read gave nothing, told apart as far as a caller can act on it.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::schema::TableRef;

/// What can go wrong while reading an LDB.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No file has the path, or it holds nothing yet. It may come at any time.
    #[error("ldb {} is not there yet", path.display())]
    NotThereYet { path: PathBuf },
    #[error("ldb {} can't be looked at: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    /// SQLite's WAL needs a file beside the LDB that this user can't make or read.
    #[error(
        "ldb {} can't be opened by this user: it must be readable, and so must its -wal and -shm, \
         or the directory be writable",
        path.display()
    )]
    NotReadable { path: PathBuf },
    #[error("no table {0}")]
    UnknownTable(TableRef),
    #[error("table {table} has {wanted} key columns, not {got}")]
    KeyArity { table: TableRef, wanted: usize, got: usize },
    #[error("more than {max} rows match")]
    TooManyRows { max: u64 },
    #[error("the rows have more than {max} bytes")]
    TooManyBytes { max: usize },
    #[error("column {column:?} of table {table} holds an infinite number, which json can't say")]
    Infinite { table: TableRef, column: String },
    /// Another process keeps the file locked; worth another try.
    #[error("ldb is busy")]
    Busy,
    #[error("ldb: {0}")]
    Sqlite(rusqlite::Error),
}

impl ReadError {
    /// Whether it says something about the file or connection, not about what was asked.
    pub(super) fn is_of_the_file(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::NotReadable { .. } | Self::Path { .. })
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}
