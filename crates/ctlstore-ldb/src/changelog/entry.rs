//! How an entry names a row: its table and its key, in the table's column order.

use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use ctlstore_core::schema::FieldType;
use ctlstore_core::sql::{Literal, quoted};

use super::statement_entries::Affinity;

const KEY_COLUMNS: &str = "SELECT cid, name, type FROM pragma_table_info(?) WHERE pk > 0 ORDER BY cid";
const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND instr(name, '___') > 1 ORDER BY rowid DESC LIMIT 64";
const TRIGGERS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger'";

/// Between family and table in a table's SQL name.
pub const SEPARATOR: &str = "___";

/// An entry for an LDB that has no row to name. What counts is its number.
const NO_ROW: &[u8] = br#""family":"","table":"","key":[]"#;

/// How the rows of one table are named.
#[derive(Debug)]
pub struct TableKey {
    /// `"family":…,"table":…,"key":[`
    start: Vec<u8>,
    columns: Vec<KeyColumn>,
}

#[derive(Debug)]
struct KeyColumn {
    /// Its position in the table, from 0.
    index: i32,
    name: String,
    /// `{"name":…,"type":…,"value":`
    start: Vec<u8>,
    is_bytes: bool,
    affinity: Affinity,
}

impl TableKey {
    /// `None` for a table whose rows can't be named: it has no key, or its name is
    /// not made of a family and a table.
    pub fn load(connection: &Connection, table: &str) -> rusqlite::Result<Option<Self>> {
        let Some((family, name)) = table.split_once(SEPARATOR) else { return Ok(None) };
        let mut statement = connection.prepare_cached(KEY_COLUMNS)?;
        let columns = statement
            .query_map([table], |row| Ok(KeyColumn::new(row.get(0)?, row.get(1)?, &row.get::<_, String>(2)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let start = format!("\"family\":{},\"table\":{},\"key\":[", json(family), json(name));
        Ok((!columns.is_empty()).then(|| Self { start: start.into_bytes(), columns }))
    }

    /// The key's columns in the table's order, with what they make of values.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Affinity)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.affinity))
    }

    /// Appends the entry of the row whose values `value_at` gives by column position.
    pub fn push<'v>(&self, out: &mut Vec<u8>, value_at: impl Fn(i32) -> ValueRef<'v>) {
        self.push_each(out, |out, column| push_value(out, value_at(column.index), column.is_bytes));
    }

    /// Appends the entry of the row whose key `values` are, by key column. The bytes of
    /// blobs pass through `bytes`.
    pub fn push_literals<'v>(
        &self,
        out: &mut Vec<u8>,
        mut values: impl Iterator<Item = &'v Literal<'v>>,
        bytes: &mut Vec<u8>,
    ) {
        self.push_each(out, |out, column| {
            let value = match values.next() {
                Some(Literal::Text(text)) if !column.is_bytes => return push_text(out, text),
                Some(Literal::Integer(integer)) => ValueRef::Integer(*integer),
                Some(Literal::Boolean(boolean)) => ValueRef::Integer((*boolean).into()),
                Some(Literal::Real(float)) => ValueRef::Real(*float),
                Some(Literal::Text(text)) => ValueRef::Text(text.as_bytes()),
                Some(Literal::Blob(hex)) => {
                    hex.decode_into(bytes);
                    ValueRef::Blob(bytes)
                }
                Some(Literal::Null) | None => ValueRef::Null,
            };
            push_value(out, value, column.is_bytes);
        });
    }

    fn push_each(&self, out: &mut Vec<u8>, mut push: impl FnMut(&mut Vec<u8>, &KeyColumn)) {
        out.extend_from_slice(&self.start);
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&column.start);
            push(out, column);
            out.push(b'}');
        }
        out.push(b']');
    }

    /// The entry of one row of `table`, whose key this is; `None` when it is empty.
    fn of_one_row(&self, connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!("SELECT {} FROM {} LIMIT 1", names.join(","), quoted(table));
        let mut statement = connection.prepare(&sql)?;
        statement
            .query_row([], |row| {
                let mut entry = Vec::new();
                let value_at = |index| {
                    let at = self.columns.iter().position(|column| column.index == index);
                    at.and_then(|at| row.get_ref(at).ok()).unwrap_or(ValueRef::Null)
                };
                self.push(&mut entry, value_at);
                Ok(entry)
            })
            .optional()
    }
}

impl KeyColumn {
    fn new(index: i32, name: String, declared: &str) -> Self {
        let start = format!("{{\"name\":{},\"type\":{},\"value\":", json(&name), json(declared));
        let is_bytes = FieldType::from_column_type(declared).is_some_and(FieldType::is_bytes);
        Self { index, name, start: start.into_bytes(), is_bytes, affinity: Affinity::of(declared) }
    }
}

/// The entry of one row of `table`; `None` when there is no such table, or no row.
pub fn of_one_row(connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    match TableKey::load(connection, table)? {
        Some(key) => key.of_one_row(connection, table),
        None => Ok(None),
    }
}

/// Whether a statement may change rows of tables that it does not name.
pub fn has_triggers(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached(TRIGGERS)?.exists([])
}

/// The entry of some row of the LDB.
pub fn of_any_row(connection: &Connection) -> rusqlite::Result<Vec<u8>> {
    let mut statement = connection.prepare(TABLES)?;
    let tables = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    for table in tables {
        if let Some(entry) = of_one_row(connection, &table)? {
            return Ok(entry);
        }
    }
    Ok(NO_ROW.to_vec())
}

/// The declared type decides, as it is what followers go by: byte columns are
/// base64, and bytes in any other column are text where they can be.
fn push_value(out: &mut Vec<u8>, value: ValueRef<'_>, is_bytes: bool) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(integer) => out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        ValueRef::Real(float) => out.extend_from_slice(json(&float).as_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !is_bytes => push_text(out, text),
            // Writing to memory does not fail.
            _ => drop(write!(out, "\"{}\"", Base64Display::new(bytes, &STANDARD))),
        },
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // The usual key needs no escape, and is copied as it is.
    let is_plain = |b: u8| (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\');
    // Without an early end, which would keep the compiler from taking many at a time.
    if text.bytes().fold(true, |all, b| all & is_plain(b)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(json(text).as_bytes());
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_the_key_in_column_order_with_declared_types() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE fam___tab (\"b\" BLOB(255), \"a\" VARCHAR(191), \"v\" TEXT, \"n\" INTEGER, \
                 PRIMARY KEY(\"n\",\"a\",\"b\")); INSERT INTO fam___tab VALUES(x'00ff', 'é\"\\', 'v', -7)",
            )
            .unwrap();
        let entry = of_any_row(&connection).unwrap();
        assert_eq!(
            String::from_utf8(entry).unwrap(),
            "\"family\":\"fam\",\"table\":\"tab\",\"key\":[\
             {\"name\":\"b\",\"type\":\"BLOB(255)\",\"value\":\"AP8=\"},\
             {\"name\":\"a\",\"type\":\"VARCHAR(191)\",\"value\":\"é\\\"\\\\\"},\
             {\"name\":\"n\",\"type\":\"INTEGER\",\"value\":-7}]"
        );
    }

    #[test]
    fn an_ldb_without_rows_still_has_an_entry() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE fam___tab (\"a\" INTEGER, PRIMARY KEY(\"a\"))").unwrap();
        assert_eq!(of_any_row(&connection).unwrap(), NO_ROW);
        assert_eq!(of_one_row(&connection, "fam___missing").unwrap(), None);
    }
}
