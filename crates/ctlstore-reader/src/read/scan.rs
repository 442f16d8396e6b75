//! Scans rows by a leading part of their key, in pieces, so that no transaction lasts as long as
//! the scan. Entry points: [`BufferedScan`] for rows one by one, [`ScanCursor`] for the pieces. Each
//! piece goes on after the key at which the piece before it ended.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value as StoredValue, ValueRef as Stored};
use serde::Deserialize;

use super::error::ReadError;
use super::file::LdbFile;
use super::key::Key;
use super::row::Row;
use super::table::Table;
use super::value::Value;

/// The bounds of one piece of a scan. The piece ends at the one that it reaches first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    rows: usize,
    bytes: usize,
    time: Duration,
}

/// The bounds of the rows that are in memory at once. The time is less than the 5 ms that a read
/// transaction may last.
const PIECE: Piece = Piece { rows: 512, bytes: 256 * 1024, time: Duration::from_millis(3) };

/// A scan between its pieces.
pub(super) struct ScanCursor {
    family: String,
    name: String,
    prefix: Vec<Value>,
    /// The table as it was in the last piece.
    table: Option<Arc<Table>>,
    /// The last row's values in the key columns after the prefix.
    after: Option<Vec<StoredValue>>,
    is_done: bool,
}

impl ScanCursor {
    pub(super) fn new<K: Key + ?Sized>((family, name): (&str, &str), prefix: &K) -> Self {
        let prefix = (0..prefix.parts()).map(|i| prefix.part(i).to_value()).collect();
        Self { family: family.to_owned(), name: name.to_owned(), prefix, table: None, after: None, is_done: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Hands rows to `each` in the current transaction until `piece` is full, there are no more rows,
    /// or `each` breaks off. `None` stands for no bound. An error ends the scan.
    pub(super) fn advance(
        &mut self,
        file: &LdbFile,
        piece: Option<Piece>,
        each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let result = self.try_advance(file, piece, each);
        self.is_done |= result.is_err();
        result
    }

    fn try_advance(
        &mut self,
        file: &LdbFile,
        piece: Option<Piece>,
        mut each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let table = file.table(&self.family, &self.name)?;
        self.check(&table)?;
        let mut statement = file.prepare(match self.after {
            Some(_) => table.resume(self.prefix.len()),
            None => table.select(self.prefix.len()),
        })?;
        table.bind(&mut statement, &self.prefix)?;
        for (value, index) in self.after.iter().flatten().zip(self.prefix.len() + 1..) {
            statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(value.into()))?;
        }
        let mut rows = statement.raw_query();
        let mut room = piece.map(Room::new);
        while let Some(row) = rows.next()? {
            let row = Row::new(&table, row);
            let flow = each(row)?;
            let is_full = room.as_mut().is_some_and(|room| !room.takes(row));
            if flow.is_break() {
                self.is_done = true;
                return Ok(());
            }
            if is_full && self.stop_at(row) {
                return Ok(());
            }
        }
        self.is_done = true;
        Ok(())
    }

    /// Whether the scan can go on in the table as it is now.
    fn check(&mut self, table: &Arc<Table>) -> Result<(), ReadError> {
        if self.prefix.len() > table.key_columns() {
            return Err(table.arity_error(self.prefix.len()));
        }
        let before = self.table.replace(Arc::clone(table));
        if before.is_some_and(|before| !Arc::ptr_eq(&before, table) && !before.key_names().eq(table.key_names())) {
            return Err(ReadError::KeyChanged { table: table.table.clone() });
        }
        Ok(())
    }

    /// Remembers the row's key, if the scan can go on from it. It can't if the prefix is the whole
    /// key, since no row follows. It can't either if another program has put a NULL into the key,
    /// which compares with nothing, or a text that is not UTF-8.
    fn stop_at(&mut self, row: Row<'_>) -> bool {
        let rest = &row.table().key()[self.prefix.len()..];
        let values: Option<Vec<_>> = rest.iter().map(|index| comparable(row.stored(*index))).collect();
        let can_stop = values.as_ref().is_some_and(|values| !values.is_empty());
        if can_stop {
            self.after = values;
        }
        can_stop
    }

    /// Ends the scan.
    pub(super) fn end(&mut self) {
        self.is_done = true;
    }
}

/// A scan that returns rows one by one and keeps one piece of them in memory.
pub(crate) struct BufferedScan<T> {
    cursor: ScanCursor,
    rows: VecDeque<T>,
    error: Option<ReadError>,
}

impl<T: for<'r> Deserialize<'r>> BufferedScan<T> {
    pub(crate) fn new<K: Key + ?Sized>(table: (&str, &str), prefix: &K) -> Self {
        Self { cursor: ScanCursor::new(table, prefix), rows: VecDeque::new(), error: None }
    }

    /// The next row. `more` is called for the next piece when the rows of the last one are used up.
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

    /// Reads the next piece in the current transaction. Rows before an error are kept.
    pub(super) fn read(&mut self, file: &LdbFile) -> Result<(), ReadError> {
        let Self { cursor, rows, .. } = self;
        cursor.advance(file, Some(PIECE), |row| {
            rows.push_back(row.deserialize()?);
            Ok(ControlFlow::Continue(()))
        })
    }
}

fn comparable(value: Stored<'_>) -> Option<StoredValue> {
    match value {
        Stored::Null => None,
        Stored::Integer(integer) => Some(StoredValue::Integer(integer)),
        Stored::Real(real) => Some(StoredValue::Real(real)),
        Stored::Text(bytes) => std::str::from_utf8(bytes).ok().map(|text| StoredValue::Text(text.to_owned())),
        Stored::Blob(bytes) => Some(StoredValue::Blob(bytes.to_owned())),
    }
}

/// The room that is left in a piece.
struct Room {
    rows: usize,
    bytes: usize,
    until: Instant,
}

impl Room {
    fn new(piece: Piece) -> Self {
        Self { rows: piece.rows, bytes: piece.bytes, until: Instant::now() + piece.time }
    }

    /// Counts a row. Returns false if it is the last one that fits.
    fn takes(&mut self, row: Row<'_>) -> bool {
        let size = |index| match row.stored(index) {
            Stored::Text(bytes) | Stored::Blob(bytes) => bytes.len(),
            _ => size_of::<i64>(),
        };
        let bytes: usize = (0..row.len()).map(size).sum();
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        // To read the clock costs as much as to read a column, and 16 rows take microseconds.
        self.rows > 0 && self.bytes > 0 && (!self.rows.is_multiple_of(16) || Instant::now() < self.until)
    }
}
