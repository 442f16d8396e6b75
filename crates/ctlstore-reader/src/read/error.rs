//! Why a read failed. Entry point: [`ReadError`], with one variant for each thing that a caller can
//! do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::ErrorCode;

use ctlstore_core::disk::too_many_open_files;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{NameError, TableRef};

/// The error of a read of an LDB.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No file has the path, or the file is still empty. The LDB may appear at any time.
    #[error("ldb {} is not there yet", path.display())]
    NotThereYet { path: PathBuf },
    #[error("ldb {} can't be looked at: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    /// SQLite's WAL needs a file beside the LDB, which this user can't make or read.
    #[error(
        "ldb {} can't be opened by this user: it must be readable, and so must its -wal and -shm, \
         or the directory be writable",
        path.display()
    )]
    NotReadable { path: PathBuf },
    /// This process or the machine has as many files open as it may. The error may pass.
    #[error("ldb can't be opened: too many open files; raise the limit (ulimit -n, LimitNOFILE)")]
    TooManyOpenFiles,
    /// No table can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("no table {0}")]
    UnknownTable(TableRef),
    #[error("table {table} has {wanted} key columns, not {got}")]
    KeyArity { table: TableRef, wanted: usize, got: usize },
    /// The value that was given for a key column does not fit its type.
    #[error("key column {column:?} of table {table} wants {wanted}")]
    KeyType { table: TableRef, column: String, wanted: &'static str },
    /// The table was made again with another key while it was scanned, so the scan can't go on.
    #[error("table {table} got another key while it was scanned")]
    KeyChanged { table: TableRef },
    /// The caller's type has a field that is not a column of the table.
    #[error("table {table} has no column {column:?}")]
    MissingColumn { table: TableRef, column: String },
    /// `found` is the kind of the stored value. For an integer it is the number.
    #[error("column {column:?} of table {table} holds {found}, wanted {wanted}")]
    WrongType { table: TableRef, column: String, wanted: String, found: String },
    /// The caller's type can't be made from a row of this table, or its own code has refused.
    #[error("table {table}{}: {reason}", in_column(.column.as_deref()))]
    Refused { table: TableRef, column: Option<String>, reason: String },
    /// Another program made the table with a type or name that ctlstore has not.
    #[error("table {table}: {reason}")]
    OddTable { table: TableRef, reason: String },
    /// The LDB did not reach the seq in time.
    #[error("ldb is at seq {current}, {wanted} did not come within {} ms", .waited.as_millis())]
    SeqNotReached { wanted: Seq, current: Seq, waited: Duration },
    /// The data is older than allowed. `lag` is `None` if the age can't be told.
    #[error("ldb {}, at most {} ms are allowed", lag_of(*.lag), .max.as_millis())]
    TooOld { lag: Option<Duration>, max: Duration },
    #[error("{got} ldbs can't be rotated, 1 to {max} can")]
    NothingToRotate { got: usize, max: usize },
    #[error("more than {max} rows match")]
    TooManyRows { max: u64 },
    #[error("the rows have more than {max} bytes")]
    TooManyBytes { max: usize },
    #[error("column {column:?} of table {table} holds an infinite number, which json can't say")]
    Infinite { table: TableRef, column: String },
    /// Another process has the file locked. A later try may succeed.
    #[error("ldb is busy")]
    Busy,
    #[error("ldb: {0}")]
    Sqlite(rusqlite::Error),
}

fn in_column(column: Option<&str>) -> String {
    column.map(|column| format!(", column {column:?}")).unwrap_or_default()
}

fn lag_of(lag: Option<Duration>) -> String {
    lag.map_or("has had nothing applied yet".to_owned(), |lag| format!("is {} ms old", lag.as_millis()))
}

impl ReadError {
    /// Whether the file is damaged or not a database. Another file may soon replace it.
    pub fn is_damage(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// Whether the fault is the file's or the connection's, and not the request's.
    pub(super) fn is_of_the_file(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::NotReadable { .. } | Self::Path { .. } | Self::TooManyOpenFiles)
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::CannotOpen) if too_many_open_files().is_some() => Self::TooManyOpenFiles,
            _ => Self::Sqlite(error),
        }
    }
}
