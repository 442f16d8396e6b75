//! Writes pages of a table's rows as JSON, in key order, in a read transaction. Entry point:
//! [`ReadTransaction::page_json`].

use rusqlite::Rows;
use rusqlite::types::{ToSqlOutput, ValueRef as Stored};

use ctlstore_core::schema::TableRef;

use super::error::ReadError;
use super::json;
use super::read_transaction::ReadTransaction;
use super::row::Row;
use super::table::Table;
use super::value::Value;

/// The bounds of a page. It also ends at the last row that matches.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// The most rows; at least 1.
    pub rows: u64,
    /// Bytes of JSON. The row that reaches the limit still belongs to the page.
    pub bytes: usize,
}

/// The number of rows of a page, and the beginning of the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub rows: u64,
    /// The place of the last row, after which the next page begins; `None` if no further row matches.
    pub next: Option<PagePlace>,
}

/// The place of a row among those with its prefix: its values in the key columns after the prefix,
/// as SQLite has stored them.
pub type PagePlace = Vec<Value>;

impl ReadTransaction<'_> {
    /// Appends the rows whose key begins with `prefix` and comes after `after`, as a JSON array in
    /// key order, until the page is full. The page has at least one row if one matches.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::KeyArity`] if `prefix` has too many values, or if
    /// `prefix` and `after` together do not have one value for each key column;
    /// [`ReadError::TooManyBytes`] if rows with nulls in their key, at which no page can end, pass
    /// the limit.
    pub fn page_json(
        &self,
        table: &TableRef,
        prefix: &[Value],
        after: Option<&PagePlace>,
        limits: PageLimits,
        out: &mut Vec<u8>,
    ) -> Result<Page, ReadError> {
        let table = self.table(table)?;
        let given = prefix.len() + after.map_or(0, Vec::len);
        if prefix.len() > table.key_columns() || (after.is_some() && given != table.key_columns()) {
            return Err(table.arity_error(given));
        }
        // No row comes after a whole key.
        if after.is_some_and(Vec::is_empty) {
            out.extend_from_slice(b"[]");
            return Ok(Page { rows: 0, next: None });
        }
        let mut statement = self.file.prepare(match after {
            Some(_) => table.resume(prefix.len()),
            None => table.select(prefix.len()),
        })?;
        table.bind(&mut statement, prefix)?;
        for (value, index) in after.into_iter().flatten().zip(prefix.len() + 1..) {
            statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(stored(value)))?;
        }
        json::all_or_nothing(out, |out| {
            out.push(b'[');
            let page = fill(&table, prefix.len(), statement.raw_query(), limits, out)?;
            out.push(b']');
            Ok(page)
        })
    }
}

fn fill(
    table: &Table,
    prefix: usize,
    mut rows: Rows<'_>,
    limits: PageLimits,
    out: &mut Vec<u8>,
) -> Result<Page, ReadError> {
    let start = out.len();
    let mut count = 0;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if last.is_some() {
            return Ok(Page { rows: count, next: last });
        }
        let row = Row::new(table, row);
        if count > 0 {
            out.push(b',');
        }
        json::push_row(out, row)?;
        count += 1;
        let bytes = out.len() - start;
        if count >= limits.rows || bytes >= limits.bytes {
            last = place(row, prefix);
            if last.is_none() && count > 1 && bytes >= limits.bytes {
                return Err(ReadError::TooManyBytes { max: limits.bytes });
            }
        }
    }
    Ok(Page { rows: count, next: None })
}

/// The row's place; `None` if its key has a value of another program that compares with nothing:
/// NULL, or a text that is not UTF-8.
fn place(row: Row<'_>, prefix: usize) -> Option<PagePlace> {
    let value = |index: &usize| match row.stored(*index) {
        Stored::Null => None,
        Stored::Integer(integer) => Some(Value::Integer(integer)),
        Stored::Real(real) => Some(Value::Real(real)),
        Stored::Text(bytes) => std::str::from_utf8(bytes).ok().map(Value::from),
        Stored::Blob(bytes) => Some(Value::from(bytes)),
    };
    row.table().key()[prefix..].iter().map(value).collect()
}

/// The value as SQLite has stored it. [`Table::bind`] would make bytes of a text.
fn stored(value: &Value) -> Stored<'_> {
    match value {
        Value::Null => Stored::Null,
        Value::Integer(integer) => Stored::Integer(*integer),
        Value::Real(real) => Stored::Real(*real),
        Value::Text(text) => Stored::Text(text.as_bytes()),
        Value::Blob(bytes) => Stored::Blob(bytes),
    }
}
