//! The data tables' definitions, read from SQLite's schema and kept while it stays
//! the same.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::ctldb::{ColumnCollation, CtldbError, StoredTable};
use ctlstore_core::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};

const SCHEMA_VERSION: &str = "PRAGMA schema_version";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid";
const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length(?1)) = ?1 ORDER BY name";

/// Definitions kept; a database with more tables reads some of them again.
const MAX_TABLES: usize = 4_096;

/// Valid as of `version`, SQLite's counter of schema changes.
#[derive(Default)]
pub(super) struct Catalog {
    version: Option<i64>,
    tables: HashMap<TableRef, Arc<StoredTable>>,
}

impl Catalog {
    /// Called in each transaction before anything is asked.
    pub fn begin(&mut self, db: &Connection) -> Result<(), CtldbError> {
        let version = db.prepare_cached(SCHEMA_VERSION)?.query_row([], |row| row.get(0))?;
        if self.version != Some(version) {
            self.tables.clear();
            self.version = Some(version);
        }
        Ok(())
    }

    /// The schema was changed in this transaction, which may yet be rolled back: the
    /// next one starts anew.
    pub fn forget(&mut self) {
        self.tables.clear();
        self.version = None;
    }

    pub fn table(&mut self, db: &Connection, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        if let Some(stored) = self.tables.get(table) {
            return Ok(Some(stored.clone()));
        }
        let Some(schema) = read(db, table)? else { return Ok(None) };
        // Every column compares bytewise unless its declaration says otherwise, which ours never do.
        let stored = Arc::new(StoredTable { schema, collation: ColumnCollation::Exact });
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        self.tables.insert(table.clone(), stored.clone());
        Ok(Some(stored))
    }

    pub fn tables_of(&mut self, db: &Connection, family: &FamilyName) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
        let mut statement = db.prepare_cached(TABLES)?;
        let names = statement.query_map([format!("{family}___")], |row| row.get::<_, String>(0))?;
        let mut tables = Vec::new();
        for name in names {
            // What is not named as ours are is not ours.
            let Ok(table) = TableRef::from_sql_name(&name?) else { continue };
            if &table.family == family
                && let Some(stored) = self.table(db, &table)?
            {
                tables.push(stored);
            }
        }
        Ok(tables)
    }
}

fn read(db: &Connection, table: &TableRef) -> Result<Option<TableSchema>, CtldbError> {
    let mut statement = db.prepare_cached(COLUMNS)?;
    let mut rows = statement.query([table.sql_name()])?;
    let bad = |reason: String| CtldbError::Schema(format!("table {table}: {reason}"));
    let mut fields = Vec::new();
    let mut key = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, declared, key_part): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let name = FieldName::new(&name).map_err(|e| bad(e.to_string()))?;
        let field_type = FieldType::from_column_type(&declared)
            .ok_or_else(|| bad(format!("column {name} has the unknown type {declared}")))?;
        if key_part > 0 {
            key.push((key_part, name.clone()));
        }
        fields.push(Field { name, field_type });
    }
    if fields.is_empty() {
        return Ok(None);
    }
    key.sort_unstable();
    let key: Vec<FieldName> = key.into_iter().map(|(_, name)| name).collect();
    TableSchema::new(table.clone(), fields, &key).map(Some).map_err(|e| bad(e.to_string()))
}
