//! Several reads of one moment.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Rows;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use ctlstore_core::disk::FileId;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, TableSchema, Timestamp};

use super::Limits;
use super::caught_up;
use super::error::ReadError;
use super::file::LdbFile;
use super::json;
use super::key::Key;
use super::position::{self, Progress};
use super::row::Row;
use super::scan::{PIECE, ScanCursor};
use super::table::Table;

/// The LDB at one moment: one read transaction, in which every read sees the same
/// ledger transactions and the seq that covers them.
///
/// It keeps the LDB's WAL from shrinking as long as it lives: a matter of
/// milliseconds, not for work that waits for anything.
pub struct ReadTransaction<'f> {
    pub(super) file: &'f LdbFile,
}

impl<'f> ReadTransaction<'f> {
    /// The caller has begun a transaction on `file` and ends it.
    pub(super) fn new(file: &'f LdbFile) -> Self {
        Self { file }
    }

    /// What the table is at this moment.
    pub(super) fn table(&self, table: &TableRef) -> Result<Arc<Table>, ReadError> {
        self.file.table(table.family.as_str(), table.table.as_str())
    }

    /// Which file is read: a replaced LDB is another one.
    pub fn file_id(&self) -> FileId {
        self.file.id()
    }

    /// As [`Reader::get`](crate::reader::Reader::get).
    ///
    /// # Errors
    /// As there.
    pub fn get<T: DeserializeOwned>(&self, family: &str, table: &str, key: impl Key) -> Result<Option<T>, ReadError> {
        self.get_with(family, table, key, |row| row.deserialize())
    }

    /// As [`Reader::get_with`](crate::reader::Reader::get_with).
    ///
    /// # Errors
    /// As there.
    pub fn get_with<T>(
        &self,
        family: &str,
        table: &str,
        key: impl Key,
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.file.find_here((family, table), &key, read)
    }

    /// The rows whose key begins with `prefix`, in key order; `()` is every row. At most
    /// 512 rows or 256 KiB are held at once.
    pub fn scan_prefix<T: DeserializeOwned>(
        &self,
        family: &str,
        table: &str,
        prefix: impl Key,
    ) -> ReadTransactionScan<'_, T> {
        ReadTransactionScan { transaction: self, pieces: Pieces::new((family, table), &prefix) }
    }

    /// Hands each row whose key begins with `prefix` to `each`, in key order, until it
    /// breaks off. Nothing is held in memory.
    ///
    /// # Errors
    /// Of reading, and what `each` gives, which ends the scan.
    pub fn scan_with(
        &self,
        family: &str,
        table: &str,
        prefix: impl Key,
        each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        ScanCursor::new((family, table), &prefix).advance(self.file, None, each)
    }

    /// As [`LdbReader::get_json`](super::LdbReader::get_json).
    ///
    /// # Errors
    /// As there.
    pub fn get_json(&self, table: &TableRef, key: &(impl Key + ?Sized), out: &mut Vec<u8>) -> Result<bool, ReadError> {
        let start = out.len();
        let names = (table.family.as_str(), table.table.as_str());
        let found = self.file.find_here(names, key, |row| json::push_row(out, row));
        if found.is_err() {
            out.truncate(start);
        }
        found.map(|row| row.is_some())
    }

    /// As [`LdbReader::scan_json`](super::LdbReader::scan_json).
    ///
    /// # Errors
    /// As there.
    pub fn scan_json(
        &self,
        table: &TableRef,
        prefix: &(impl Key + ?Sized),
        limits: Limits,
        out: &mut Vec<u8>,
    ) -> Result<u64, ReadError> {
        let start = out.len();
        let mut scan = || {
            let table = self.file.table(table.family.as_str(), table.table.as_str())?;
            if prefix.parts() > table.key_columns() {
                return Err(table.arity_error(prefix.parts()));
            }
            let mut statement = self.file.prepare(table.select(prefix.parts()))?;
            table.bind(&mut statement, prefix)?;
            push_rows(out, &table, statement.raw_query(), limits)
        };
        let count = scan();
        if count.is_err() {
            out.truncate(start);
        }
        count
    }

    /// The last applied seq and when it was written.
    pub fn progress(&self) -> Result<Progress, ReadError> {
        self.file.progress()
    }

    /// The last applied seq, 0 before the first.
    pub fn last_seq(&self) -> Result<Seq, ReadError> {
        position::last_seq(self.file)
    }

    /// When the last applied statement was written to the ledger, by the ctldb's
    /// clock; `None` before the first.
    pub fn last_update(&self) -> Result<Option<Timestamp>, ReadError> {
        position::last_update(self.file)
    }

    /// As [`Reader::ledger_latency`](crate::reader::Reader::ledger_latency).
    pub fn ledger_latency(&self) -> Result<Option<Duration>, ReadError> {
        Ok(caught_up::lag(self.file.path(), self.last_seq()?, self.last_update()?, Timestamp::now()))
    }

    /// The last applied seq and the ledger that it belongs to.
    pub fn position(&self) -> Result<LdbPosition, ReadError> {
        position::position(self.file)
    }

    /// The LDB's tables, in the order of their SQL names.
    pub fn tables(&self) -> Result<Vec<TableRef>, ReadError> {
        position::tables(self.file)
    }

    /// The table's fields and key.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::OddTable`] where another program made
    /// it with types or names that no table of ours has.
    pub fn schema(&self, family: &str, table: &str) -> Result<TableSchema, ReadError> {
        self.file.table(family, table)?.schema()
    }
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
        json::push_row(out, Row::new(table, row))?;
        count += 1;
        // One byte is kept for the bracket.
        if out.len() - start >= limits.max_bytes {
            return Err(ReadError::TooManyBytes { max: limits.max_bytes });
        }
    }
    out.push(b']');
    Ok(count)
}

/// The rows of [`ReadTransaction::scan_prefix`]. After an error there are no more.
pub struct ReadTransactionScan<'s, T> {
    transaction: &'s ReadTransaction<'s>,
    pieces: Pieces<T>,
}

impl<T: DeserializeOwned> Iterator for ReadTransactionScan<'_, T> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let transaction = self.transaction;
        self.pieces.next(|pieces| pieces.read(transaction))
    }
}

/// A scan that gives its rows one by one, of which it holds a piece.
pub(crate) struct Pieces<T> {
    cursor: ScanCursor,
    rows: VecDeque<T>,
    error: Option<ReadError>,
}

impl<T: for<'r> Deserialize<'r>> Pieces<T> {
    pub(crate) fn new<K: Key + ?Sized>(table: (&str, &str), prefix: &K) -> Self {
        Self { cursor: ScanCursor::new(table, prefix), rows: VecDeque::new(), error: None }
    }

    /// The next row; `more` is called for the next piece when the last one is used up.
    pub(crate) fn next(
        &mut self,
        mut more: impl FnMut(&mut Self) -> Result<(), ReadError>,
    ) -> Option<Result<T, ReadError>> {
        while self.rows.is_empty() && self.error.is_none() && !self.cursor.is_done() {
            if let Err(error) = more(self) {
                self.cursor.end();
                self.error = Some(error);
            }
        }
        self.rows.pop_front().map(Ok).or_else(|| self.error.take().map(Err))
    }

    /// Reads the next piece. What came before an error is kept.
    pub(crate) fn read(&mut self, transaction: &ReadTransaction<'_>) -> Result<(), ReadError> {
        let Self { cursor, rows, .. } = self;
        cursor.advance(transaction.file, Some(PIECE), |row| {
            rows.push_back(row.deserialize()?);
            Ok(ControlFlow::Continue(()))
        })
    }
}
