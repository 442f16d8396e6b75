//! What a table of the LDB looks like, learned from the LDB itself and kept until
//! SQLite's schema version moves.

use std::collections::HashMap;
use std::sync::Arc;

use crate::schema::TableRef;
use crate::sql::quoted;

use super::error::ReadError;
use super::file::LdbFile;

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
    /// `"name":`, as it stands in a row's JSON.
    pub(super) member: Vec<u8>,
    /// Declared BLOB or VARBINARY: its bytes are base64 in JSON, and text given for it is its bytes.
    pub(super) is_bytes: bool,
}

pub(super) struct Table {
    pub(super) table: TableRef,
    /// In the table's column order.
    pub(super) columns: Vec<Column>,
    /// Indexes into `columns`, in key order.
    key: Vec<usize>,
    /// By how many leading key columns are given: the SELECT of all columns in key order.
    selects: Vec<String>,
}

impl Table {
    pub(super) fn key_columns(&self) -> usize {
        self.key.len()
    }

    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|&index| self.columns[index].name.as_str())
    }

    pub(super) fn key_column_is_bytes(&self, index: usize) -> bool {
        self.columns[self.key[index]].is_bytes
    }

    pub(super) fn select(&self, keys: usize) -> &str {
        &self.selects[keys]
    }

    pub(super) fn arity_error(&self, got: usize) -> ReadError {
        ReadError::KeyArity { table: self.table.clone(), wanted: self.key.len(), got }
    }
}

/// The tables learned so far, all at one schema version.
#[derive(Default)]
pub(super) struct Tables {
    version: i64,
    known: HashMap<TableRef, Arc<Table>>,
}

impl Tables {
    pub(super) fn get(&mut self, file: &LdbFile, table: &TableRef) -> Result<Arc<Table>, ReadError> {
        let version = file.prepare(SCHEMA_VERSION)?.query_row([], |row| row.get(0))?;
        if version != self.version || self.known.len() >= MAX_TABLES {
            self.known.clear();
            self.version = version;
        }
        if let Some(known) = self.known.get(table) {
            return Ok(Arc::clone(known));
        }
        let learned = Arc::new(learn(file, table)?);
        self.known.insert(table.clone(), Arc::clone(&learned));
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
        columns.push(column(name, &declared));
    }
    key.sort_unstable();
    let key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
    let selects = (0..=key.len()).map(|keys| select(&sql_name, &columns, &key, keys)).collect();
    Ok(Table { table: table.clone(), columns, key, selects })
}

fn column(name: String, declared: &str) -> Column {
    let declared = declared.trim_start().to_ascii_uppercase();
    // A string always serializes.
    let member = format!("{}:", serde_json::Value::from(name.as_str())).into_bytes();
    Column { is_bytes: declared.starts_with("BLOB") || declared.starts_with("VARBINARY"), name, member }
}

fn select(sql_name: &str, columns: &[Column], key: &[usize], keys: usize) -> String {
    let quoted = |index: &usize| quote(&columns[*index].name);
    let list: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM {}", list.join(","), quote(sql_name));
    for (i, index) in key[..keys].iter().enumerate() {
        let word = if i == 0 { "WHERE" } else { "AND" };
        sql.push_str(&format!(" {word} {} = ?{}", quoted(index), i + 1));
    }
    if keys < key.len() {
        let order: Vec<String> = key[keys..].iter().map(quoted).collect();
        sql.push_str(&format!(" ORDER BY {}", order.join(",")));
    }
    sql
}

/// Columns made by others may be named in any way.
fn quote(name: &str) -> String {
    quoted(&name.replace('"', "\"\""))
}
