//! Why a read gave nothing, told apart as far as a caller can act on it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::ErrorCode;

use ctlstore_core::disk::too_many_open_files;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{NameError, TableRef};

/// What can go wrong while reading an LDB.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// This process, or the machine, has as many files open as it may. It may pass.
    #[error("ldb can't be opened: too many open files; raise the limit (ulimit -n, LimitNOFILE)")]
    TooManyOpenFiles,
    /// No table can have that name.
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("no table {0}")]
    UnknownTable(TableRef),
    #[error("table {table} has {wanted} key columns, not {got}")]
    KeyArity { table: TableRef, wanted: usize, got: usize },
    /// What was given for a key column can be no value of its type.
    #[error("key column {column:?} of table {table} wants {wanted}")]
    KeyType { table: TableRef, column: String, wanted: &'static str },
    /// The table was made again with another key while it was being scanned, so there is
    /// no going on from where the scan stood.
    #[error("table {table} got another key while it was scanned")]
    KeyChanged { table: TableRef },
    /// The type that was asked for has a field that is no column of the table.
    #[error("table {table} has no column {column:?}")]
    MissingColumn { table: TableRef, column: String },
    /// `found` is the kind of what is stored, and the number where its range is at fault.
    #[error("column {column:?} of table {table} holds {found}, wanted {wanted}")]
    WrongType { table: TableRef, column: String, wanted: String, found: String },
    /// The type that was asked for can't be made from a row of this table, or its own
    /// code said no.
    #[error("table {table}{}: {reason}", in_column(.column.as_deref()))]
    Refused { table: TableRef, column: Option<String>, reason: String },
    /// Another program made the table with what no table of ours has.
    #[error("table {table}: {reason}")]
    OddTable { table: TableRef, reason: String },
    /// The LDB had not come to the seq when the time was over.
    #[error("ldb is at seq {current}, {wanted} did not come within {} ms", .waited.as_millis())]
    SeqNotReached { wanted: Seq, current: Seq, waited: Duration },
    /// What was last applied is older than allowed; `lag` is `None` when nothing was yet.
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
    /// Another process keeps the file locked; worth another try.
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
    /// Whether the file is no database, or a damaged one. Another file may have its place soon.
    pub fn is_damage(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// Whether it says something about the file or connection, not about what was asked.
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
