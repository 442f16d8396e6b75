//! A row while SQLite stands on it: its columns, read where they lie.

use std::fmt;

use rusqlite::types::ValueRef as Stored;
use serde::Deserialize;

use super::de::{ColumnDeserializer, RowDeserializer};
use super::error::ReadError;
use super::table::Table;
use super::value::ValueRef;

/// One row, borrowed: nothing is copied until it is asked for, and what borrows from
/// it can't leave the closure that it was handed to.
#[derive(Clone, Copy)]
pub struct Row<'r> {
    table: &'r Table,
    row: &'r rusqlite::Row<'r>,
}

impl<'r> Row<'r> {
    /// `row` is of a statement that selects every column of `table`, in order.
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

    /// Names and values in the table's column order.
    pub fn columns(self) -> impl ExactSizeIterator<Item = (&'r str, ValueRef<'r>)> {
        let columns = self.table.columns.iter().enumerate();
        columns.map(move |(index, column)| (column.name.as_str(), self.at(index)))
    }

    /// The column's value, `None` when the table has no such column.
    pub fn value(self, column: &str) -> Option<ValueRef<'r>> {
        self.index(column).map(|index| self.at(index))
    }

    /// One column as any type that serde can make of it: `&str`, `&[u8]`, `i64`,
    /// `Option<f64>`, an enum of unit variants from text.
    ///
    /// # Errors
    /// [`ReadError::MissingColumn`]; [`ReadError::WrongType`] when the value is none of
    /// that type, as NULL is for all but `Option`.
    pub fn get<T: Deserialize<'r>>(self, column: &str) -> Result<T, ReadError> {
        let missing = || ReadError::MissingColumn { table: self.table.table.clone(), column: column.to_owned() };
        let index = self.index(column).ok_or_else(missing)?;
        T::deserialize(ColumnDeserializer::new(self, index))
            .map_err(|refused| refused.in_column(&self.table.columns[index].name).into_error(&self.table.table))
    }

    /// The whole row as a struct whose fields are named as the columns, a map, or a
    /// tuple of the columns in order. Fields may borrow: `&'a str`, `&'a [u8]`.
    /// Columns that the struct does not name are skipped; `#[serde(default)]` and
    /// `Option` stand for columns that the table does not have (yet).
    ///
    /// # Errors
    /// [`ReadError::MissingColumn`] and [`ReadError::WrongType`], which names the column;
    /// [`ReadError::Refused`] with what a type's own code said.
    pub fn deserialize<T: Deserialize<'r>>(self) -> Result<T, ReadError> {
        T::deserialize(RowDeserializer::new(self)).map_err(|refused| refused.into_error(&self.table.table))
    }

    fn index(self, column: &str) -> Option<usize> {
        self.table.columns.iter().position(|known| known.name == column)
    }

    pub(super) fn column_name(self, index: usize) -> &'r str {
        &self.table.columns[index].name
    }

    /// As SQLite has it.
    pub(super) fn stored(self, index: usize) -> Stored<'r> {
        self.row.get_ref(index).expect("the statement selects every column of its table")
    }

    pub(super) fn at(self, index: usize) -> ValueRef<'r> {
        match self.stored(index) {
            Stored::Null => ValueRef::Null,
            Stored::Integer(integer) => ValueRef::Integer(integer),
            Stored::Real(real) => ValueRef::Real(real),
            Stored::Text(bytes) | Stored::Blob(bytes) if self.table.columns[index].is_bytes => ValueRef::Blob(bytes),
            // A text with a NUL is stored as bytes.
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
