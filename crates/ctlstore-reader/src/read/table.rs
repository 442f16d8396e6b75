//! The tables of the LDB: their columns and keys, read from the LDB itself and kept until SQLite's
//! schema version changes. Entry point: [`Tables`].

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef as Stored};
use rusqlite::{Connection, Statement};

use ctlstore_core::schema::{Field, FieldName, FieldType, TableRef, TableSchema};
use ctlstore_core::sql::quoted;

use super::error::ReadError;
use super::key::Key;
use super::value::ValueRef;

/// This is read in the transaction that reads the rows, so it can't be older than they are.
const SCHEMA_VERSION: &str = "PRAGMA schema_version";
/// A query of the schema makes SQLite load a schema that another process has changed.
/// `table_info` alone would answer from the connection's memory.
const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid";

/// How many tables are remembered. If there are more, all are forgotten and read again.
const MAX_TABLES: usize = 1_000;

pub(super) struct Column {
    pub(super) name: String,
    declared: String,
    /// `"name":`, the beginning of the column's member in a row's JSON.
    pub(super) member: Vec<u8>,
    /// Whether it is declared BLOB or VARBINARY. JSON then has its value as base64, and a text in a
    /// key stands for its bytes.
    pub(super) is_bytes: bool,
}

impl Column {
    /// `None` if another program declared the column with a type that no field has.
    pub(super) fn field_type(&self) -> Option<FieldType> {
        FieldType::from_column_type(&self.declared)
    }
}

/// One table, with the SQL that reads its rows.
pub(super) struct Table {
    pub(super) table: TableRef,
    /// In the table's column order.
    pub(super) columns: Vec<Column>,
    /// Indexes into `columns`, in key order.
    key: Vec<usize>,
    /// The SELECT of all columns in key order, by the number of leading key columns that are given.
    selects: Vec<String>,
    /// The same for the rows after a given key.
    resumes: Vec<String>,
}

impl Table {
    pub(super) fn key_columns(&self) -> usize {
        self.key.len()
    }

    /// Indexes of the key columns among all columns, in key order.
    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|index| self.columns[*index].name.as_str())
    }

    /// The SELECT of the rows with `keys` given leading key columns.
    pub(super) fn select(&self, keys: usize) -> &str {
        &self.selects[keys]
    }

    /// The SELECT of such rows after a key. Its parameters are `keys` values of the prefix, then all
    /// other key values.
    pub(super) fn resume(&self, keys: usize) -> &str {
        &self.resumes[keys]
    }

    /// Binds `key` to the first parameters.
    ///
    /// # Errors
    /// SQLite's, if `key` has more values than the statement has parameters.
    pub(super) fn bind<K: Key + ?Sized>(&self, statement: &mut Statement<'_>, key: &K) -> rusqlite::Result<()> {
        for i in 0..key.parts() {
            let is_bytes = self.columns[self.key[i]].is_bytes;
            let value = match key.part(i) {
                ValueRef::Null => Stored::Null,
                ValueRef::Integer(integer) => Stored::Integer(integer),
                ValueRef::Real(real) => Stored::Real(real),
                ValueRef::Text(text) if is_bytes => Stored::Blob(text.as_bytes()),
                ValueRef::Text(text) => Stored::Text(text.as_bytes()),
                ValueRef::Blob(bytes) => Stored::Blob(bytes),
            };
            statement.raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(value))?;
        }
        Ok(())
    }

    /// The table's definition.
    ///
    /// # Errors
    /// [`ReadError::OddTable`] if another program made it with a type or name that ctlstore has not.
    pub(super) fn schema(&self) -> Result<TableSchema, ReadError> {
        let odd = |reason: String| ReadError::OddTable { table: self.table.clone(), reason };
        let name = |name: &str| FieldName::new(name).map_err(|error| odd(error.to_string()));
        let field = |column: &Column| -> Result<Field, ReadError> {
            let unknown = || odd(format!("column {:?} has the type {:?}", column.name, column.declared));
            let field_type = column.field_type().ok_or_else(unknown)?;
            Ok(Field { name: name(&column.name)?, field_type })
        };
        let fields = self.columns.iter().map(field).collect::<Result<_, _>>()?;
        let key = self.key_names().map(name).collect::<Result<Vec<_>, _>>()?;
        TableSchema::new(self.table.clone(), fields, &key).map_err(|error| odd(error.to_string()))
    }

    pub(super) fn arity_error(&self, got: usize) -> ReadError {
        ReadError::KeyArity { table: self.table.clone(), wanted: self.key.len(), got }
    }
}

/// The tables that were read so far, all at one schema version. They are found by the names that
/// the caller used: family, then table.
#[derive(Default)]
pub(super) struct Tables {
    version: i64,
    known: HashMap<String, HashMap<String, Arc<Table>>>,
    count: usize,
    /// The last table that was asked for. Programs read from few tables, and to compare two names
    /// costs a twentieth of what it costs to hash them.
    recent: Option<Arc<Table>>,
}

impl Tables {
    /// The table as it was when it was last read.
    pub(super) fn known(&mut self, family: &str, name: &str) -> Option<Arc<Table>> {
        let is_it =
            |recent: &&Arc<Table>| recent.table.table.as_str() == name && recent.table.family.as_str() == family;
        if let Some(recent) = self.recent.as_ref().filter(is_it) {
            return Some(Arc::clone(recent));
        }
        let table = self.known.get(family)?.get(name)?;
        self.recent = Some(Arc::clone(table));
        Some(Arc::clone(table))
    }

    /// Forgets all tables if the schema has changed since they were read.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<(), ReadError> {
        let version = connection.prepare_cached(SCHEMA_VERSION)?.query_row([], |row| row.get(0))?;
        if version != self.version || self.count >= MAX_TABLES {
            *self = Self { version, ..Self::default() };
        }
        Ok(())
    }

    /// Reads the table from the schema, and remembers it.
    pub(super) fn learn(
        &mut self,
        connection: &Connection,
        family: &str,
        table: &str,
    ) -> Result<Arc<Table>, ReadError> {
        let learned = Arc::new(learn(connection, &TableRef::parse(family, table)?)?);
        self.known.entry(family.to_owned()).or_default().insert(table.to_owned(), Arc::clone(&learned));
        self.count += 1;
        Ok(learned)
    }
}

fn learn(connection: &Connection, table: &TableRef) -> Result<Table, ReadError> {
    let sql_name = table.sql_name();
    if !connection.prepare_cached(EXISTS)?.exists([&sql_name])? {
        return Err(ReadError::UnknownTable(table.clone()));
    }
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut statement = connection.prepare_cached(COLUMNS)?;
    let mut rows = statement.query([&sql_name])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let declared: String = row.get(1)?;
        let key_position: i64 = row.get(2)?;
        if key_position > 0 {
            key.push((key_position, columns.len()));
        }
        columns.push(column(name, declared));
    }
    key.sort_unstable();
    let key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
    let selects = (0..=key.len()).map(|keys| select(&sql_name, &columns, &key, keys, false)).collect();
    let resumes = (0..key.len()).map(|keys| select(&sql_name, &columns, &key, keys, true)).collect();
    Ok(Table { table: table.clone(), columns, key, selects, resumes })
}

/// Whether a column with this declared type holds bytes and not text.
pub(super) fn is_bytes(declared: &str) -> bool {
    let upper = declared.trim_start().to_ascii_uppercase();
    upper.starts_with("BLOB") || upper.starts_with("VARBINARY")
}

fn column(name: String, declared: String) -> Column {
    let is_bytes = is_bytes(&declared);
    // A string always serializes.
    let member = format!("{}:", serde_json::Value::from(name.as_str())).into_bytes();
    Column { is_bytes, name, declared, member }
}

fn select(sql_name: &str, columns: &[Column], key: &[usize], keys: usize, resume: bool) -> String {
    let column = |index: &usize| quoted(&columns[*index].name);
    let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM {}", list.join(","), quoted(sql_name));
    for (i, index) in key[..keys].iter().enumerate() {
        let word = if i == 0 { "WHERE" } else { "AND" };
        sql.push_str(&format!(" {word} {} = ?{}", column(index), i + 1));
    }
    let rest: Vec<String> = key[keys..].iter().map(column).collect();
    if resume {
        let word = if keys == 0 { "WHERE" } else { "AND" };
        let after: Vec<String> = (keys..key.len()).map(|i| format!("?{}", i + 1)).collect();
        sql.push_str(&format!(" {word} ({}) > ({})", rest.join(","), after.join(",")));
    }
    if !rest.is_empty() {
        sql.push_str(&format!(" ORDER BY {}", rest.join(",")));
    }
    sql
}
