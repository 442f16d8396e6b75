//! Writes how an entry names a row: its table and its key, in the table's column order. Entry
//! point: [`TableKey`].

use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use ctlstore_core::schema::FieldType;
use ctlstore_core::sql::{Literal, quoted};

const KEY_COLUMNS: &str = "SELECT cid, name, type FROM pragma_table_info(?) WHERE pk > 0 ORDER BY cid";
const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND instr(name, '___') > 1 ORDER BY rowid DESC LIMIT 64";

/// Between family and table in a table's SQL name.
pub const SEPARATOR: &str = "___";

/// The type affinity of a column, as far as keys depend on it. SQLite converts values by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    /// REAL or NUMERIC, which may store another value than the one that is written.
    Other,
}

impl Affinity {
    /// Follows SQLite's rules for the declared type.
    pub fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let says = |part| declared.contains(part);
        if says("INT") {
            Self::Integer
        } else if says("CHAR") || says("CLOB") || says("TEXT") {
            Self::Text
        } else if says("BLOB") {
            Self::Blob
        } else {
            Self::Other
        }
    }

    /// Whether such a column stores `literal` as it is written, and no other value equals it there.
    pub fn keeps(self, literal: &Literal<'_>) -> bool {
        match literal {
            // The float of the same value stays a float, and SQLite takes both as equal.
            Literal::Integer(i64::MIN) => false,
            Literal::Integer(_) | Literal::Boolean(_) => self == Self::Integer,
            Literal::Text(_) => self == Self::Text,
            Literal::Blob(_) => self == Self::Blob,
            Literal::Null | Literal::Real(_) => false,
        }
    }
}

/// The entry of an LDB that has no row to name. Only its number matters.
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
    /// `None` for a table whose rows can't be named: it has no key, or its name does not
    /// consist of a family and a table.
    pub fn load(connection: &Connection, table: &str) -> rusqlite::Result<Option<Self>> {
        let Some((family, name)) = table.split_once(SEPARATOR) else { return Ok(None) };
        let mut statement = connection.prepare_cached(KEY_COLUMNS)?;
        let columns = statement
            .query_map([table], |row| Ok(KeyColumn::new(row.get(0)?, row.get(1)?, &row.get::<_, String>(2)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let start = format!("\"family\":{},\"table\":{},\"key\":[", json(family), json(name));
        Ok((!columns.is_empty()).then(|| Self { start: start.into_bytes(), columns }))
    }

    /// The key's columns in the table's order, with their affinities.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Affinity)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.affinity))
    }

    /// Appends the entry of a row. `value_at` gives its values by column position.
    pub fn push<'v>(&self, out: &mut Vec<u8>, value_at: impl Fn(i32) -> ValueRef<'v>) {
        self.push_each(out, |out, column| push_value(out, value_at(column.index), column.is_bytes));
    }

    /// Appends the entry of the row with the key `values`, in the order of the key columns.
    /// Blobs are decoded into `bytes`.
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

    /// The entry of one row of `table`, whose key this is; `None` if the table is empty.
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

/// The entry of one row of `table`; `None` if there is no such table, or no row.
pub fn of_one_row(connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    match TableKey::load(connection, table)? {
        Some(key) => key.of_one_row(connection, table),
        None => Ok(None),
    }
}

/// The entry of any row of the LDB.
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

/// Writes a value as its column's declared type says, because followers go by that type. Byte
/// columns are base64. Bytes in any other column are text if they can be.
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
    // Most keys need no escape, and are copied as they are.
    let is_plain = |b: u8| (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\');
    // The loop has no early end, so that the compiler can check many bytes at a time.
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
