//! Pages of a table's rows as JSON, in key order, within a snapshot.

use rusqlite::Rows;
use rusqlite::types::{ToSqlOutput, ValueRef as Stored};

use ctlstore_core::schema::TableRef;

use super::error::ReadError;
use super::json;
use super::read_transaction::ReadTransaction;
use super::row::Row;
use super::table::Table;
use super::value::Value;

/// Where a page ends, besides at the last row that matches.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// At least 1.
    pub rows: u64,
    /// A page ends with the row that reaches so many bytes of JSON.
    pub bytes: usize,
}

/// How a page ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub rows: u64,
    /// Where the next one begins; `None` where no row matches behind this page.
    pub next: Option<After>,
}

/// A row's place among those with its prefix: its values in the key columns behind the
/// prefix, as SQLite has them.
pub type After = Vec<Value>;

impl ReadTransaction<'_> {
    /// Appends the rows whose key begins with `prefix` and comes behind `after`, as a JSON
    /// array in key order, until the page is full. It has one row where one matches.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::KeyArity`] unless `prefix` and `after` are
    /// as many values as there are key columns; [`ReadError::TooManyBytes`] where nulls
    /// in a key, at which no page can end, go on past the limit.
    pub fn page_json(
        &self,
        table: &TableRef,
        prefix: &[Value],
        after: Option<&After>,
        limits: PageLimits,
        out: &mut Vec<u8>,
    ) -> Result<Page, ReadError> {
        let table = self.table(table)?;
        let given = prefix.len() + after.map_or(0, Vec::len);
        if prefix.len() > table.key_columns() || (after.is_some() && given != table.key_columns()) {
            return Err(table.arity_error(given));
        }
        let start = out.len();
        out.push(b'[');
        let mut page = Page { rows: 0, next: None };
        // Behind a whole key there is nothing.
        if after.is_none_or(|after| !after.is_empty()) {
            let mut statement = self.file.prepare(match after {
                Some(_) => table.resume(prefix.len()),
                None => table.select(prefix.len()),
            })?;
            table.bind(&mut statement, prefix)?;
            for (value, index) in after.into_iter().flatten().zip(prefix.len() + 1..) {
                statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(stored(value)))?;
            }
            page =
                fill(&table, prefix.len(), statement.raw_query(), limits, out).inspect_err(|_| out.truncate(start))?;
        }
        out.push(b']');
        Ok(page)
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
    let (mut count, mut last) = (0, None);
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

/// `None` where what other programs can have put into a key compares with nothing, as
/// NULL does.
fn place(row: Row<'_>, prefix: usize) -> Option<After> {
    let value = |index: &usize| match row.stored(*index) {
        Stored::Null => None,
        Stored::Integer(integer) => Some(Value::Integer(integer)),
        Stored::Real(real) => Some(Value::Real(real)),
        Stored::Text(bytes) => std::str::from_utf8(bytes).ok().map(Value::from),
        Stored::Blob(bytes) => Some(Value::from(bytes)),
    };
    row.table().key()[prefix..].iter().map(value).collect()
}

/// As it lies in SQLite, where [`Table::bind`] would make bytes of a text.
fn stored(value: &Value) -> Stored<'_> {
    match value {
        Value::Null => Stored::Null,
        Value::Integer(integer) => Stored::Integer(*integer),
        Value::Real(real) => Stored::Real(*real),
        Value::Text(text) => Stored::Text(text.as_bytes()),
        Value::Blob(bytes) => Stored::Blob(bytes),
    }
}
