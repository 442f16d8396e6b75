//! One row of a running query, whose columns are read from SQLite's own buffers. Entry point:
//! [`Row`]. `de` makes other types from it through serde.

use std::fmt;

use rusqlite::types::ValueRef as Stored;

use super::table::Table;
use super::value::ValueRef;

/// One borrowed row. Nothing is copied until a caller asks for it. A value that borrows from the
/// row can't leave the closure that the row was handed to.
#[derive(Clone, Copy)]
pub struct Row<'r> {
    table: &'r Table,
    row: &'r rusqlite::Row<'r>,
}

impl<'r> Row<'r> {
    /// `row` must come from a statement that selects every column of `table`, in order.
    pub(super) fn new(table: &'r Table, row: &'r rusqlite::Row<'r>) -> Self {
        Self { table, row }
    }

    pub(super) fn table(self) -> &'r Table {
        self.table
    }

    /// The number of columns.
    #[allow(clippy::len_without_is_empty)] // a table has at least one column
    pub fn len(self) -> usize {
        self.table.columns.len()
    }

    /// The names and values, in the table's column order.
    pub fn columns(self) -> impl ExactSizeIterator<Item = (&'r str, ValueRef<'r>)> {
        let columns = self.table.columns.iter().enumerate();
        columns.map(move |(index, column)| (column.name.as_str(), self.at(index)))
    }

    /// The column's value; `None` if the table has no such column.
    pub fn value(self, column: &str) -> Option<ValueRef<'r>> {
        self.index(column).map(|index| self.at(index))
    }

    /// The column's place in the table.
    pub(super) fn index(self, column: &str) -> Option<usize> {
        self.table.columns.iter().position(|known| known.name == column)
    }

    pub(super) fn column_name(self, index: usize) -> &'r str {
        &self.table.columns[index].name
    }

    /// The value as SQLite has stored it.
    pub(super) fn stored(self, index: usize) -> Stored<'r> {
        self.row.get_ref(index).expect("the statement selects every column of its table")
    }

    /// The value by the column's declared type.
    pub(super) fn at(self, index: usize) -> ValueRef<'r> {
        match self.stored(index) {
            Stored::Null => ValueRef::Null,
            Stored::Integer(integer) => ValueRef::Integer(integer),
            Stored::Real(real) => ValueRef::Real(real),
            Stored::Text(bytes) | Stored::Blob(bytes) if self.table.columns[index].is_bytes => ValueRef::Blob(bytes),
            // The ledger writes a text with a NUL as bytes.
            Stored::Text(bytes) | Stored::Blob(bytes) => {
                std::str::from_utf8(bytes).map_or(ValueRef::Blob(bytes), ValueRef::Text)
            }
        }
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.columns()).finish()
    }
}
