//! Several reads of one point in time, in one read transaction. Entry point: [`ReadTransaction`].
//! `page`, `measure` and `typed_key` have further reads of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Rows;
use serde::de::DeserializeOwned;

use ctlstore_core::disk::FileId;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, TableSchema, Timestamp};

use super::caught_up;
use super::error::ReadError;
use super::file::LdbFile;
use super::json::{self, AnswerLimits};
use super::key::Key;
use super::position::{self, LastApplied};
use super::row::Row;
use super::scan::{BufferedScan, ScanCursor};
use super::table::Table;

/// The LDB at one point in time: one read transaction, in which every read sees the same ledger
/// transactions and the seq that covers them.
///
/// It keeps the LDB's WAL from shrinking as long as it lives. So it should live for milliseconds,
/// and its user should not wait for anything meanwhile.
pub struct ReadTransaction<'f> {
    pub(super) file: &'f LdbFile,
}

impl<'f> ReadTransaction<'f> {
    /// The caller has begun a transaction on `file`, and ends it.
    pub(super) fn new(file: &'f LdbFile) -> Self {
        Self { file }
    }

    /// The table as it is in this transaction.
    pub(super) fn table(&self, table: &TableRef) -> Result<Arc<Table>, ReadError> {
        self.file.table(table.family.as_str(), table.table.as_str())
    }

    /// The identity of the file that is read. An LDB that was replaced has another one.
    pub fn file_id(&self) -> FileId {
        self.file.id()
    }

    /// Does as [`Reader::get`](crate::Reader::get).
    ///
    /// # Errors
    /// Those of that method.
    pub fn get<T: DeserializeOwned>(&self, family: &str, table: &str, key: impl Key) -> Result<Option<T>, ReadError> {
        self.get_with(family, table, key, |row| row.deserialize())
    }

    /// Does as [`Reader::get_with`](crate::Reader::get_with).
    ///
    /// # Errors
    /// Those of that method.
    pub fn get_with<T>(
        &self,
        family: &str,
        table: &str,
        key: impl Key,
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.file.find_here((family, table), &key, read)
    }

    /// The rows whose key begins with `prefix`, in key order; `()` stands for every row. At most 512
    /// rows or about 256 KiB are in memory at once.
    pub fn scan_prefix<T: DeserializeOwned>(
        &self,
        family: &str,
        table: &str,
        prefix: impl Key,
    ) -> ReadTransactionScan<'_, T> {
        ReadTransactionScan { transaction: self, rows: BufferedScan::new((family, table), &prefix) }
    }

    /// Hands each row whose key begins with `prefix` to `each`, in key order, until `each` breaks
    /// off. No row is kept in memory.
    ///
    /// # Errors
    /// Those of reading, and those of `each`. An error ends the scan.
    pub fn scan_with(
        &self,
        family: &str,
        table: &str,
        prefix: impl Key,
        each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        ScanCursor::new((family, table), &prefix).advance(self.file, None, each)
    }

    /// Does as [`LdbReader::get_json`](super::LdbReader::get_json).
    ///
    /// # Errors
    /// Those of that method.
    pub fn get_json(&self, table: &TableRef, key: &(impl Key + ?Sized), out: &mut Vec<u8>) -> Result<bool, ReadError> {
        let names = (table.family.as_str(), table.table.as_str());
        let found = json::all_or_nothing(out, |out| self.file.find_here(names, key, |row| json::push_row(out, row)));
        found.map(|row| row.is_some())
    }

    /// Does as [`LdbReader::scan_json`](super::LdbReader::scan_json).
    ///
    /// # Errors
    /// Those of that method.
    pub fn scan_json(
        &self,
        table: &TableRef,
        prefix: &(impl Key + ?Sized),
        limits: AnswerLimits,
        out: &mut Vec<u8>,
    ) -> Result<u64, ReadError> {
        let table = self.table(table)?;
        if prefix.parts() > table.key_columns() {
            return Err(table.arity_error(prefix.parts()));
        }
        let mut statement = self.file.prepare(table.select(prefix.parts()))?;
        table.bind(&mut statement, prefix)?;
        json::all_or_nothing(out, |out| push_rows(out, &table, statement.raw_query(), limits))
    }

    /// The last applied statement: its seq, and when it was written.
    pub fn progress(&self) -> Result<LastApplied, ReadError> {
        self.file.progress()
    }

    /// The last applied seq; 0 before the first.
    pub fn last_seq(&self) -> Result<Seq, ReadError> {
        position::last_seq(self.file.connection())
    }

    /// When the last applied statement was written to the ledger, by the ctldb's clock; `None`
    /// before the first.
    pub fn last_update(&self) -> Result<Option<Timestamp>, ReadError> {
        position::last_update(self.file.connection())
    }

    /// Does as [`Reader::ledger_latency`](crate::Reader::ledger_latency).
    pub fn ledger_latency(&self) -> Result<Option<Duration>, ReadError> {
        Ok(caught_up::lag(self.file.path(), self.last_seq()?, self.last_update()?, Timestamp::now()))
    }

    /// The last applied seq and the ledger that it belongs to.
    pub fn position(&self) -> Result<LdbPosition, ReadError> {
        position::position(self.file.connection())
    }

    /// The LDB's tables, in the order of their SQL names.
    pub fn tables(&self) -> Result<Vec<TableRef>, ReadError> {
        position::tables(self.file.connection())
    }

    /// The table's fields and key.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::OddTable`] if another program made it with a type or
    /// name that ctlstore has not.
    pub fn schema(&self, family: &str, table: &str) -> Result<TableSchema, ReadError> {
        self.file.table(family, table)?.schema()
    }

    /// Reads the next piece of a scan.
    pub(crate) fn fill<T: DeserializeOwned>(&self, scan: &mut BufferedScan<T>) -> Result<(), ReadError> {
        scan.read(self.file)
    }
}

fn push_rows(out: &mut Vec<u8>, table: &Table, mut rows: Rows<'_>, limits: AnswerLimits) -> Result<u64, ReadError> {
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
        // One byte is left for the closing bracket.
        if out.len() - start >= limits.max_bytes {
            return Err(ReadError::TooManyBytes { max: limits.max_bytes });
        }
    }
    out.push(b']');
    Ok(count)
}

/// The rows of [`ReadTransaction::scan_prefix`]. There are no more rows after an error.
pub struct ReadTransactionScan<'s, T> {
    transaction: &'s ReadTransaction<'s>,
    rows: BufferedScan<T>,
}

impl<T: DeserializeOwned> Iterator for ReadTransactionScan<'_, T> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let transaction = self.transaction;
        self.rows.next(|rows| transaction.fill(rows))
    }
}
