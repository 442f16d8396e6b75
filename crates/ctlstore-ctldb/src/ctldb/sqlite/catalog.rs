//! The data tables' definitions: what the ledger says and whether the file still has it so. Kept while SQLite's
//! schema stays the same.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::ctldb::definition::{Column, Physical, compare, extra_columns_fault};
use crate::ctldb::{ColumnCollation, CtldbError, LedgerTable, StoredTable, TableFault};
use ctlstore_core::schema::{FamilyName, FieldType, TableRef};

use super::definitions;

const SCHEMA_VERSION: &str = "PRAGMA schema_version";
const KIND: &str = "SELECT type FROM sqlite_schema WHERE name = ? AND type IN ('table', 'view')";
const COLUMNS: &str = "SELECT name, type, pk, \"notnull\" = 0 OR dflt_value IS NOT NULL, hidden \
                       FROM pragma_table_xinfo(?) ORDER BY cid";
const UNIQUE_INDEXES: &str = "SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND origin <> 'pk'";
const TRIGGERS: &str = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?";
const NAMES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND instr(name, '___') > 1";

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

    /// A table that was changed by hand is an error that says how.
    pub fn table(
        &mut self,
        db: &Connection,
        ledger: &LedgerTable,
        table: &TableRef,
    ) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        if let Some(stored) = self.tables.get(table) {
            return Ok(Some(stored.clone()));
        }
        let changed = |reason| CtldbError::ChangedByHand { table: table.clone(), reason };
        let Some(stored) = read(db, ledger, table)?.map_err(changed)? else { return Ok(None) };
        let stored = Arc::new(stored);
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        self.tables.insert(table.clone(), stored.clone());
        Ok(Some(stored))
    }

    pub fn tables_of(
        &mut self,
        db: &Connection,
        ledger: &LedgerTable,
        family: &FamilyName,
    ) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
        let mut tables = Vec::new();
        for table in known(db, ledger, |table| &table.family == family)? {
            match self.table(db, ledger, &table) {
                Err(CtldbError::ChangedByHand { .. }) => {}
                stored => tables.extend(stored?),
            }
        }
        Ok(tables)
    }
}

/// Reads a table as the ledger says it is, and holds it against the one that is there.
fn read(
    db: &Connection,
    ledger: &LedgerTable,
    table: &TableRef,
) -> Result<Result<Option<StoredTable>, String>, CtldbError> {
    let definition = definitions::read(db, ledger, table)?;
    let physical = read_physical(db, &table.sql_name())?;
    // Every column compares bytewise unless its declaration says otherwise, which ours never do.
    let stored = |(schema, extra_columns)| StoredTable { schema, extra_columns, collation: ColumnCollation::Exact };
    let holds = |field_type: FieldType, declared: &str| declared.eq_ignore_ascii_case(field_type.ldb_type());
    Ok(compare(definition, physical.as_ref(), holds).map(|table| table.map(stored)))
}

/// A table or view as the file has it.
pub(super) fn read_physical(db: &Connection, name: &str) -> Result<Option<Physical>, CtldbError> {
    let kind: Option<String> = db.prepare_cached(KIND)?.query_row([name], |row| row.get(0)).optional()?;
    let Some(kind) = kind else { return Ok(None) };
    let mut physical = Physical::default();
    if kind != "table" {
        physical.obstacles.push(format!("the ctldb has a {kind} of its name"));
    }
    let mut key: Vec<(i64, String)> = Vec::new();
    let mut statement = db.prepare_cached(COLUMNS)?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (name, declared, part): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (is_optional, hidden): (bool, i64) = (row.get(3)?, row.get(4)?);
        // 1 is hidden, 2 and 3 are generated.
        let is_generated = hidden > 1;
        if part > 0 {
            key.push((part, name.clone()));
        }
        let is_optional = is_optional || is_generated;
        physical.columns.push(Column { name, declared, is_optional, is_generated, collation: None });
    }
    key.sort_unstable();
    physical.key = key.into_iter().map(|(_, name)| name).collect();
    let mut statement = db.prepare_cached(UNIQUE_INDEXES)?;
    for index in statement.query_map([name], |row| row.get::<_, String>(0))? {
        physical.obstacles.push(format!("it has the unique index {}, which the ledger has not", index?));
    }
    let mut statement = db.prepare_cached(TRIGGERS)?;
    for trigger in statement.query_map([name], |row| row.get::<_, String>(0))? {
        physical.obstacles.push(format!("it has the trigger {}", trigger?));
    }
    Ok(Some(physical))
}

/// The names of all tables and views that a family may have.
pub(super) fn names(db: &Connection) -> Result<Vec<String>, CtldbError> {
    let mut statement = db.prepare_cached(NAMES)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// What speaks against writing to the tables that are wanted.
pub(super) fn faults(
    db: &Connection,
    ledger: &LedgerTable,
    wanted: impl Fn(&TableRef) -> bool,
) -> Result<Vec<TableFault>, CtldbError> {
    let mut faults = Vec::new();
    for table in known(db, ledger, wanted)? {
        if let Err(reason) = read(db, ledger, &table)? {
            faults.push(definitions::read(db, ledger, &table)?.fault(&table, reason));
        }
    }
    Ok(faults)
}

/// What was changed by hand about all tables.
pub(super) fn all_faults(db: &Connection, ledger: &LedgerTable) -> Result<Vec<TableFault>, CtldbError> {
    if !definitions::has_record(db)? {
        // No executive of this version has been here: what there is will be taken as it is.
        return Ok(Vec::new());
    }
    let mut all = faults(db, ledger, |_| true)?;
    for table in known(db, ledger, |_| true)? {
        if let Ok(Some(stored)) = read(db, ledger, &table)? {
            all.extend(extra_columns_fault(&table, &stored.extra_columns));
        }
    }
    Ok(all)
}

/// The tables that the file or the ledger has, by name.
fn known(
    db: &Connection,
    ledger: &LedgerTable,
    wanted: impl Fn(&TableRef) -> bool,
) -> Result<Vec<TableRef>, CtldbError> {
    let mut names = names(db)?;
    names.extend(definitions::names(db, ledger)?);
    // What is not named as ours are is not ours.
    let tables = names.iter().filter_map(|name| TableRef::from_sql_name(name).ok()).filter(wanted);
    let mut tables: Vec<TableRef> = tables.collect();
    tables.sort_by_key(TableRef::sql_name);
    tables.dedup();
    Ok(tables)
}
