//! What a table of the LDB looks like, learned from the LDB itself and kept until
//! SQLite's schema version moves.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef as Stored};

use ctlstore_core::schema::{Field, FieldName, FieldType, TableRef, TableSchema};
use ctlstore_core::sql::quoted;

use super::error::ReadError;
use super::file::LdbFile;
use super::key::Key;
use super::value::ValueRef;

/// Read in the transaction that reads the rows, so it can't be older than they are.
const SCHEMA_VERSION: &str = "PRAGMA schema_version";
/// A plain query of the schema: unlike `table_info`, which answers from what the
/// connection remembers, it makes SQLite load a schema that another process changed.
const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid";

/// Tables remembered at once; beyond it all are learned anew.
const MAX_TABLES: usize = 1_000;

pub(super) struct Column {
    pub(super) name: String,
    declared: String,
    /// `"name":`, as it stands in a row's JSON.
    pub(super) member: Vec<u8>,
    /// Declared BLOB or VARBINARY: its bytes are base64 in JSON, and text given for it is its bytes.
    pub(super) is_bytes: bool,
}

impl Column {
    /// `None` where another program declared it by what no field has.
    pub(super) fn field_type(&self) -> Option<FieldType> {
        FieldType::from_column_type(&self.declared)
    }
}

pub(super) struct Table {
    pub(super) table: TableRef,
    /// In the table's column order.
    pub(super) columns: Vec<Column>,
    /// Indexes into `columns`, in key order.
    key: Vec<usize>,
    /// By how many leading key columns are given: the SELECT of all columns in key order.
    selects: Vec<String>,
    /// The same, of the rows whose key comes after the one that is given.
    resumes: Vec<String>,
}

impl Table {
    pub(super) fn key_columns(&self) -> usize {
        self.key.len()
    }

    /// The key columns' indexes among all columns, in key order.
    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|index| self.columns[*index].name.as_str())
    }

    pub(super) fn select(&self, keys: usize) -> &str {
        &self.selects[keys]
    }

    /// To be bound with `keys` values of the prefix and then all other key values.
    pub(super) fn resume(&self, keys: usize) -> &str {
        &self.resumes[keys]
    }

    /// Binds `key` to the first parameters.
    ///
    /// # Errors
    /// Of SQLite, which has room for as many parameters as there are key columns.
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

    /// # Errors
    /// [`ReadError::OddTable`] where another program made what no table of ours has.
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

/// The tables learned so far, all at one schema version, by the names that they were
/// asked for by: family, then table.
#[derive(Default)]
pub(super) struct Tables {
    version: i64,
    known: HashMap<String, HashMap<String, Arc<Table>>>,
    count: usize,
    /// The last one asked for. Programs read from few tables, and to compare two names
    /// costs a twentieth of hashing them.
    recent: Option<Arc<Table>>,
}

impl Tables {
    /// The table as it was when it was last looked at.
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

    /// Forgets all tables when the schema has moved since they were learned.
    pub(super) fn check(&mut self, file: &LdbFile) -> Result<(), ReadError> {
        let version = file.prepare(SCHEMA_VERSION)?.query_row([], |row| row.get(0))?;
        if version != self.version || self.count >= MAX_TABLES {
            *self = Self { version, ..Self::default() };
        }
        Ok(())
    }

    pub(super) fn learn(&mut self, file: &LdbFile, family: &str, table: &str) -> Result<Arc<Table>, ReadError> {
        let learned = Arc::new(learn(file, &TableRef::parse(family, table)?)?);
        self.known.entry(family.to_owned()).or_default().insert(table.to_owned(), Arc::clone(&learned));
        self.count += 1;
        Ok(learned)
    }
}

fn learn(file: &LdbFile, table: &TableRef) -> Result<Table, ReadError> {
    let sql_name = table.sql_name();
    if !file.prepare(EXISTS)?.exists([&sql_name])? {
        return Err(ReadError::UnknownTable(table.clone()));
    }
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut statement = file.prepare(COLUMNS)?;
    let mut rows = statement.query([&sql_name])?;
    while let Some(row) = rows.next()? {
        let (name, declared, key_position): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
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

/// Whether a column declared so holds bytes rather than text.
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
