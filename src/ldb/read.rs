//! Reading the LDB: rows by key or by a leading part of it, written as JSON, and
//! how far the LDB has come.
//!
//! The reader opens the file read-only and is one among many: other processes
//! read it too and one writes it. It starts before the file exists and follows a
//! file that takes its place. It builds with the feature `reader` alone, so there
//! is no runtime, no HTTP and no logging here: what goes wrong is returned.

mod error;
mod file;
mod json;
mod key;
mod position;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Rows, Statement};

use crate::ledger::{LdbPosition, Seq};
use crate::schema::{TableRef, Timestamp};

pub use error::ReadError;
pub use file::uri as sqlite_uri;
pub use key::KeyValue;

use file::{Access, LdbFile, id_of};
use table::Table;

/// How long a reader goes on with its file before it looks whether another one
/// has taken the path.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What one answer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows; `None` is no limit.
    pub max_rows: Option<u64>,
    /// The most bytes of JSON.
    pub max_bytes: usize,
}

/// One read-only connection to the LDB at a path, with what it has learned about
/// its tables. For one thread; make one per thread.
///
/// Each read is one short transaction of its own: schema, rows and position come
/// from the same moment, and nothing stays open between reads.
pub struct LdbReader {
    path: PathBuf,
    access: Access,
    file: Option<LdbFile>,
    looked: Instant,
    /// Why the file that has taken the path could not be opened.
    replacement_error: Option<ReadError>,
}

impl LdbReader {
    /// Opens nothing yet: the LDB need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_access(path.into(), Access::Shared)
    }

    /// For a file that nobody writes, such as a snapshot: no lock is taken, and no
    /// -wal or -shm made beside it.
    pub fn immutable(path: impl Into<PathBuf>) -> Self {
        Self::with_access(path.into(), Access::Immutable)
    }

    fn with_access(path: PathBuf, access: Access) -> Self {
        Self { path, access, file: None, looked: Instant::now(), replacement_error: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file that now has the path could not be opened; the one before it is
    /// read until it can.
    pub fn replacement_error(&self) -> Option<&ReadError> {
        self.replacement_error.as_ref()
    }

    /// Appends the row with this key, as a JSON object of column to value, to `out`.
    /// False, and nothing appended, when there is no such row.
    ///
    /// # Errors
    /// [`ReadError::KeyArity`] unless `key` has a value for each key column, in key order.
    pub fn get_json(&mut self, table: &TableRef, key: &[KeyValue], out: &mut Vec<u8>) -> Result<bool, ReadError> {
        let start = out.len();
        let found = self.with_table(table, |file, table| {
            out.truncate(start);
            if key.len() != table.key_columns() || key.is_empty() {
                return Err(table.arity_error(key.len()));
            }
            let mut statement = file.prepare(table.select(key.len()))?;
            let mut rows = bind(&mut statement, table, key)?;
            match rows.next()? {
                Some(row) => json::push_row(out, table, row).map(|()| true),
                None => Ok(false),
            }
        });
        if found.is_err() {
            out.truncate(start);
        }
        found
    }

    /// Appends the rows whose key begins with `prefix`, as a JSON array in key order,
    /// to `out`; an empty prefix is every row. Gives the number of rows.
    ///
    /// # Errors
    /// [`ReadError::TooManyRows`] and [`ReadError::TooManyBytes`] when more match than
    /// `limits` allow; `out` is then as it was.
    pub fn scan_json(
        &mut self,
        table: &TableRef,
        prefix: &[KeyValue],
        limits: Limits,
        out: &mut Vec<u8>,
    ) -> Result<u64, ReadError> {
        let start = out.len();
        let count = self.with_table(table, |file, table| {
            out.truncate(start);
            if prefix.len() > table.key_columns() {
                return Err(table.arity_error(prefix.len()));
            }
            let mut statement = file.prepare(table.select(prefix.len()))?;
            push_rows(out, table, bind(&mut statement, table, prefix)?, limits)
        });
        if count.is_err() {
            out.truncate(start);
        }
        count
    }

    /// The names of the table's key columns, in key order.
    pub fn key_columns(&mut self, table: &TableRef) -> Result<Vec<String>, ReadError> {
        self.with_table(table, |_, table| Ok(table.key_names().map(str::to_owned).collect()))
    }

    /// The last applied seq, 0 before the first.
    pub fn last_seq(&mut self) -> Result<Seq, ReadError> {
        self.with_file(position::last_seq)
    }

    /// When the last applied statement was written to the ledger, by the ctldb's
    /// clock; `None` before the first.
    pub fn last_update(&mut self) -> Result<Option<Timestamp>, ReadError> {
        self.with_file(position::last_update)
    }

    /// The last applied seq and the ledger that it belongs to.
    pub fn position(&mut self) -> Result<LdbPosition, ReadError> {
        self.with_file(position::position)
    }

    fn with_table<T>(
        &mut self,
        table: &TableRef,
        read: impl FnOnce(&LdbFile, &Table) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.with_file(|file| {
            let table = file.table(table)?;
            read(file, &table)
        })
    }

    /// Runs `read` in one read transaction on the file that has the path.
    fn with_file<T>(&mut self, read: impl FnOnce(&LdbFile) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.follow()?;
        let Some(file) = &self.file else { return Err(ReadError::NotThereYet { path: self.path.clone() }) };
        let outcome = file.transaction(read);
        if outcome.as_ref().is_err_and(ReadError::is_of_the_file) {
            // Whatever broke may be the connection's; the next read begins with another.
            self.file = None;
        }
        outcome
    }

    /// Opens the file at the path when none is open or another one has taken the path.
    /// A file that is gone, or a new one that can't be opened, leaves the open one in use.
    fn follow(&mut self) -> Result<(), ReadError> {
        if self.file.is_some() && self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let found = id_of(&self.path);
        let Some(open) = &self.file else {
            let id = found?.ok_or_else(|| ReadError::NotThereYet { path: self.path.clone() })?;
            self.file = Some(LdbFile::open(&self.path, id, self.access)?);
            return Ok(());
        };
        let opened = match found {
            Ok(Some(id)) if id != open.id() => LdbFile::open(&self.path, id, self.access),
            Ok(_) => return Ok(()),
            Err(error) => Err(error),
        };
        match opened {
            Ok(file) => {
                self.file = Some(file);
                self.replacement_error = None;
            }
            Err(error) => self.replacement_error = Some(error),
        }
        Ok(())
    }
}

fn bind<'s>(statement: &'s mut Statement<'_>, table: &Table, key: &[KeyValue]) -> Result<Rows<'s>, ReadError> {
    for (i, value) in key.iter().enumerate() {
        statement.raw_bind_parameter(i + 1, value.for_column(table.key_column_is_bytes(i)))?;
    }
    Ok(statement.raw_query())
}

fn push_rows(out: &mut Vec<u8>, table: &Table, mut rows: Rows<'_>, limits: Limits) -> Result<u64, ReadError> {
    let start = out.len();
    let mut count = 0;
    out.push(b'[');
    while let Some(row) = rows.next()? {
        if let Some(max) = limits.max_rows.filter(|max| count == *max) {
            return Err(ReadError::TooManyRows { max });
        }
        if count > 0 {
            out.push(b',');
        }
        json::push_row(out, table, row)?;
        count += 1;
        // One byte is kept for the bracket.
        if out.len() - start >= limits.max_bytes {
            return Err(ReadError::TooManyBytes { max: limits.max_bytes });
        }
    }
    out.push(b']');
    Ok(count)
}
