//! The data tables' definitions, read from `information_schema`, and kept by the
//! executive for as long as the ledger shows no schema change: whoever changes a
//! table, the original included, appends a row that says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ctldb::{ColumnCollation, CtldbError, StoredTable};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};

use super::link::Link;
use super::rows::text;

const COLUMNS: &str = "SELECT table_name, column_name, column_type, collation_name \
                       FROM information_schema.columns WHERE table_schema = {database} AND {tables} \
                       ORDER BY table_name, ordinal_position";
const KEYS: &str = "SELECT table_name, column_name FROM information_schema.statistics \
                    WHERE table_schema = {database} AND {tables} AND index_name = 'PRIMARY' \
                    ORDER BY table_name, seq_in_index";

/// Definitions kept; a database with more tables reads some of them again.
const MAX_TABLES: usize = 4_096;

/// Ledger rows that are looked through for schema changes. After more of them than
/// this, reading the definitions again is the cheaper way.
pub(super) const ROWS_LOOKED_THROUGH: i64 = 2_000;

/// Shared by all sessions; asked and filled only under the ledger lock.
#[derive(Clone, Default)]
pub(super) struct Catalog(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The ledger row up to which the definitions are known to hold.
    as_of: Option<Seq>,
    tables: HashMap<TableRef, Arc<StoredTable>>,
}

impl Catalog {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Entries are only ever inserted or removed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn as_of(&self) -> Option<Seq> {
        self.lock().as_of
    }

    /// Says that the ledger ends at `last`, and whether rows after `since` changed the
    /// schema. Another session may have caught up further in between.
    pub fn catch_up(&self, since: Option<Seq>, last: Seq, changed: bool) {
        let mut known = self.lock();
        let near = since.is_some_and(|seq| last.0 - seq.0 <= ROWS_LOOKED_THROUGH);
        if changed || !near || known.as_of.is_none_or(|seq| Some(seq) < since) {
            known.tables.clear();
        }
        known.as_of = Some(last);
    }

    /// Forgets everything: the schema is about to change, or something did not fit it.
    pub fn forget(&self) {
        *self.lock() = Known::default();
    }

    pub fn get(&self, table: &TableRef) -> Option<Arc<StoredTable>> {
        self.lock().tables.get(table).cloned()
    }

    pub fn keep(&self, stored: &Arc<StoredTable>) {
        let mut known = self.lock();
        if known.tables.len() >= MAX_TABLES {
            known.tables.clear();
        }
        known.tables.insert(stored.schema.table().clone(), stored.clone());
    }
}

/// Reads one table's definition.
pub(super) async fn read_table(
    link: &mut Link,
    database: &str,
    table: &TableRef,
    deadline: Instant,
) -> Result<Option<Arc<StoredTable>>, CtldbError> {
    let filter = format!("table_name = {}", text(&table.sql_name()));
    let found = read(link, database, &filter, deadline).await?;
    // The server may compare names in any letter case.
    Ok(found.into_iter().find(|stored| stored.schema.table() == table))
}

/// Reads the definitions of all tables of a family, by name.
pub(super) async fn read_family(
    link: &mut Link,
    database: &str,
    family: &FamilyName,
    deadline: Instant,
) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
    let prefix = format!("{family}___");
    let filter = format!("LEFT(table_name, {}) = {}", prefix.len(), text(&prefix));
    let mut found = read(link, database, &filter, deadline).await?;
    found.retain(|stored| &stored.schema.table().family == family);
    found.sort_by_key(|stored| stored.schema.table().sql_name());
    Ok(found)
}

type ColumnRow = (String, String, String, Option<String>);

async fn read(
    link: &mut Link,
    database: &str,
    filter: &str,
    deadline: Instant,
) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
    let fill = |sql: &str| sql.replace("{database}", &text(database)).replace("{tables}", filter);
    let columns: Vec<ColumnRow> = link.rows(&fill(COLUMNS), deadline).await?;
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for (table, column) in link.rows::<(String, String)>(&fill(KEYS), deadline).await? {
        keys.entry(table).or_default().push(column);
    }
    let mut tables = Vec::new();
    for columns in columns.chunk_by(|a, b| a.0 == b.0) {
        // What is not named as ours are is not ours.
        let Ok(table) = TableRef::from_sql_name(&columns[0].0) else { continue };
        // Every table of ours has a key: this one was dropped between the two looks.
        let Some(key) = keys.remove(&columns[0].0) else { continue };
        tables.push(Arc::new(define(table, columns, &key)?));
    }
    Ok(tables)
}

fn define(table: TableRef, columns: &[ColumnRow], key: &[String]) -> Result<StoredTable, CtldbError> {
    let bad = |reason: String| CtldbError::Schema(format!("table {table}: {reason}"));
    let mut fields = Vec::new();
    let mut collation = ColumnCollation::Exact;
    for (_, name, declared, column_collation) in columns {
        let field_type = FieldType::from_column_type(declared)
            .ok_or_else(|| bad(format!("column {name} has the unknown type {declared}")))?;
        if key.contains(name) {
            collation = worse(collation, column_collation.as_deref());
        }
        fields.push(Field { name: FieldName::new(name).map_err(|e| bad(e.to_string()))?, field_type });
    }
    let key: Result<Vec<_>, _> = key.iter().map(|name| FieldName::new(name)).collect();
    let key = key.map_err(|e| bad(e.to_string()))?;
    let schema = TableSchema::new(table.clone(), fields, &key).map_err(|e| bad(e.to_string()))?;
    Ok(StoredTable { schema, collation })
}

/// The worse of what is known so far and a key column's collation.
fn worse(known: ColumnCollation, column: Option<&str>) -> ColumnCollation {
    match (known, column.map(exactness)) {
        (ColumnCollation::Merging, _) | (_, Some(ColumnCollation::Merging)) => ColumnCollation::Merging,
        (ColumnCollation::Padded, _) | (_, Some(ColumnCollation::Padded)) => ColumnCollation::Padded,
        _ => ColumnCollation::Exact,
    }
}

/// How a collation of the server compares, told by its name.
pub(super) fn exactness(collation: &str) -> ColumnCollation {
    match collation {
        "binary" | "utf8mb4_nopad_bin" | "utf8mb4_0900_bin" => ColumnCollation::Exact,
        other if other.ends_with("_nopad_bin") => ColumnCollation::Exact,
        other if other.ends_with("_bin") => ColumnCollation::Padded,
        _ => ColumnCollation::Merging,
    }
}
