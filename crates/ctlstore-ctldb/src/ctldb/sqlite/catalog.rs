//! Reads the data tables' definitions, and compares the ledger's definition with the table in the file. Entry
//! points: [`Catalog`] keeps definitions while SQLite's schema stays the same, [`faults`] and [`all_faults`] find
//! changes by hand. The module changes no table.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::ctldb::definition::{compare, extra_columns_fault};
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{ColumnCollation, StoredTable, TableFault};
use ctlstore_core::schema::{FamilyName, FieldType, TableRef};

use super::definitions;
use super::physical::{read_physical, table_names};

const SCHEMA_VERSION: &str = "PRAGMA schema_version";

/// The most definitions that are kept. With more tables, some definitions are read again.
const MAX_TABLES: usize = 4_096;

/// The known definitions, valid as of `version`, SQLite's counter of schema changes.
#[derive(Default)]
pub(super) struct Catalog {
    version: Option<i64>,
    tables: HashMap<TableRef, Arc<StoredTable>>,
}

impl Catalog {
    /// Called in each transaction before the first read.
    pub fn begin(&mut self, db: &Connection) -> Result<(), CtldbError> {
        let version = db.prepare_cached(SCHEMA_VERSION)?.query_row([], |row| row.get(0))?;
        if self.version != Some(version) {
            self.tables.clear();
            self.version = Some(version);
        }
        Ok(())
    }

    /// Forgets everything, because this transaction changes the schema and may yet be rolled back.
    pub fn forget(&mut self) {
        self.tables.clear();
        self.version = None;
    }

    /// The table to write to. If it was changed by hand, an error says how.
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

/// Reads the ledger's definition of a table, and compares it with the table in the file. The inner error is the
/// reason why the table can't be written to.
fn read(
    db: &Connection,
    ledger: &LedgerTable,
    table: &TableRef,
) -> Result<Result<Option<StoredTable>, String>, CtldbError> {
    let definition = definitions::read(db, ledger, table)?;
    let physical = read_physical(db, &table.sql_name())?;
    // Every column compares bytewise: only a COLLATE in its declaration could change that, and we write none.
    let stored = |(schema, extra_columns)| StoredTable { schema, extra_columns, collation: ColumnCollation::Exact };
    let holds = |field_type: FieldType, declared: &str| declared.eq_ignore_ascii_case(field_type.ldb_type());
    Ok(compare(definition, physical.as_ref(), holds).map(|table| table.map(stored)))
}

/// The faults of those wanted tables that can't be written to.
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

/// The faults of all tables that were changed by hand.
pub(super) fn all_faults(db: &Connection, ledger: &LedgerTable) -> Result<Vec<TableFault>, CtldbError> {
    if !definitions::has_record(db)? {
        // No executive of this version has been here. The first one will accept the tables as they are.
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

/// The wanted tables among those that the file or the ledger has, by name.
fn known(
    db: &Connection,
    ledger: &LedgerTable,
    wanted: impl Fn(&TableRef) -> bool,
) -> Result<Vec<TableRef>, CtldbError> {
    let mut names = table_names(db)?;
    names.extend(definitions::names(db, ledger)?);
    // A table with another form of name is no data table.
    let tables = names.iter().filter_map(|name| TableRef::from_sql_name(name).ok()).filter(wanted);
    let mut tables: Vec<TableRef> = tables.collect();
    tables.sort_by_key(TableRef::sql_name);
    tables.dedup();
    Ok(tables)
}
