//! Reads the data tables' definitions, and compares the ledger's definition with the table on the server. Entry
//! points: [`read_table`] and [`read_family`] read them, [`Catalog`] keeps them. The module changes no table.
//!
//! A definition is kept until the ledger shows a schema change: every executive, the original included, appends a
//! row for each. A change by hand is noticed when the definition is read again ([`Catalog::read_again`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ctldb::definition::{
    Column, DEFINITIONS_SEQ, Definition, IS_SCHEMA_CHANGE, Physical, Recorded, changed_table, compare,
    extra_columns_fault,
};
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{ColumnCollation, StoredTable, TableFault};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, FieldType, TableRef, TableSchema};

use super::error::SqlError;
use super::pooled_connection::{PooledConnection, read_row};
use super::rows::quote;

/// Sent as one batch, so that it is one round trip. `{tables}` is a condition on `table_name`.
const PHYSICAL: [&str; 5] = [
    "SELECT table_name, table_type, COALESCE(engine, '') FROM information_schema.tables \
     WHERE table_schema = {database} AND {tables}",
    "SELECT table_name, column_name, column_type, collation_name, is_nullable = 'YES' OR column_default IS NOT NULL, \
     extra FROM information_schema.columns WHERE table_schema = {database} AND {tables} \
     ORDER BY table_name, ordinal_position",
    "SELECT table_name, index_name, column_name, sub_part IS NOT NULL FROM information_schema.statistics \
     WHERE table_schema = {database} AND {tables} AND non_unique = 0 ORDER BY table_name, index_name, seq_in_index",
    "SELECT event_object_table, trigger_name FROM information_schema.triggers \
     WHERE event_object_schema = {database} AND {tables_of_triggers}",
    "SELECT table_name, constraint_name FROM information_schema.referential_constraints \
     WHERE constraint_schema = {database} AND {tables}",
];
const RECORDED: &str = "SELECT table_name, ledger_seq, statement FROM ctlstore_table_definition WHERE {tables}";
const NOT_RECORDED: &str = "SELECT seq, statement FROM {ledger} WHERE seq > \
                            (SELECT COALESCE(MAX(CAST(value AS SIGNED)), 0) FROM ctlstore_meta WHERE name = '{name}') \
                            AND {is_schema_change} ORDER BY seq";

/// The most definitions that are kept. With more tables, some definitions are read again.
const MAX_TABLES: usize = 4_096;

/// The most ledger rows that are searched for schema changes. After more rows it is cheaper to read the
/// definitions again.
pub(super) const ROWS_LOOKED_THROUGH: i64 = 2_000;

/// The longest time of the original's DROP TABLE from the table's end to its ledger row, which is one round trip.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// The known definitions. All sessions share them, and read and fill them only under the ledger lock.
#[derive(Clone, Default)]
pub(super) struct Catalog(Arc<Mutex<KnownTables>>);

#[derive(Default)]
struct KnownTables {
    /// The ledger row up to which the definitions are right.
    as_of: Option<Seq>,
    tables: HashMap<TableRef, Arc<StoredTable>>,
    /// Tables that the ledger has and the server has not, and since when that is known.
    missing: HashMap<TableRef, Instant>,
}

impl Catalog {
    fn lock(&self) -> MutexGuard<'_, KnownTables> {
        // Entries are inserted and removed whole, so a panic leaves nothing half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn as_of(&self) -> Option<Seq> {
        self.lock().as_of
    }

    /// Records that the ledger ends at `last`, and whether rows after `since` changed the schema. Another
    /// session may have caught up further in between.
    pub fn catch_up(&self, since: Option<Seq>, last: Seq, changed: bool) {
        let mut known = self.lock();
        let near = since.is_some_and(|seq| last.0 - seq.0 <= ROWS_LOOKED_THROUGH);
        if changed || !near || known.as_of.is_none_or(|seq| Some(seq) < since) {
            known.tables.clear();
        }
        known.as_of = Some(last);
    }

    /// Forgets everything. Called when the schema is about to change, or when the server contradicted a definition.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.as_of = None;
        known.tables.clear();
    }

    /// Has each definition read again. No ledger row shows a change by hand.
    pub fn read_again(&self) {
        self.lock().tables.clear();
    }

    /// Whether a table that the ledger has and the server has not may be one that the original is dropping: it was
    /// found so for the first time, or a moment ago.
    pub fn may_be_dropped(&self, table: &TableRef) -> bool {
        let mut known = self.lock();
        if known.missing.len() >= MAX_TABLES {
            known.missing.clear();
        }
        known.missing.entry(table.clone()).or_insert_with(Instant::now).elapsed() < DROP_GRACE
    }

    pub fn get(&self, table: &TableRef) -> Option<Arc<StoredTable>> {
        self.lock().tables.get(table).cloned()
    }

    pub fn keep(&self, stored: &Arc<StoredTable>) {
        let mut known = self.lock();
        if known.tables.len() >= MAX_TABLES {
            known.tables.clear();
        }
        known.missing.remove(stored.schema.table());
        known.tables.insert(stored.schema.table().clone(), stored.clone());
    }
}

const HAS_RECORD: &str = "SELECT COUNT(*) FROM information_schema.tables \
                          WHERE table_schema = DATABASE() AND table_name = 'ctlstore_table_definition'";

/// Reads one table's definition, `None` if neither the ledger nor the server has the table.
pub(super) async fn read_table(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    table: &TableRef,
    deadline: Instant,
) -> Result<Option<Arc<StoredTable>>, CtldbError> {
    let filter = format!("table_name = {}", quote(&table.sql_name()));
    let mut found = read(connection, database, ledger, &filter, deadline).await?;
    found.compare(table).map_err(|reason| CtldbError::ChangedByHand { table: table.clone(), reason })
}

/// Reads the definitions of a family's tables, by name, and the faults of those that can't be written to.
pub(super) async fn read_family(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    family: &FamilyName,
    deadline: Instant,
) -> Result<(Vec<Arc<StoredTable>>, Vec<TableFault>), CtldbError> {
    let prefix = format!("{family}___");
    let filter = format!("LEFT(table_name, {}) = {}", prefix.len(), quote(&prefix));
    let mut found = read(connection, database, ledger, &filter, deadline).await?;
    Ok(found.compare_all(|table| &table.family == family))
}

/// Reads what was changed by hand in the tables of all families.
pub(super) async fn read_faults(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    deadline: Instant,
) -> Result<Vec<TableFault>, CtldbError> {
    if connection.row::<i64>(HAS_RECORD, deadline).await? == 0 {
        // No executive of this version has been here. The first one will accept the tables as they are.
        return Ok(Vec::new());
    }
    let mut found = read(connection, database, ledger, ALL_TABLES, deadline).await?;
    let (sound, mut faults) = found.compare_all(|_| true);
    faults.extend(sound.iter().filter_map(|stored| extra_columns_fault(stored.schema.table(), &stored.extra_columns)));
    Ok(faults)
}

/// Reads the ledger's definition of a table, and does not look at the table itself.
pub(super) async fn read_definition(
    connection: &mut PooledConnection,
    ledger: &LedgerTable,
    table: &TableRef,
    deadline: Instant,
) -> Result<Definition, CtldbError> {
    let filter = format!("table_name = {}", quote(&table.sql_name()));
    let sets = connection.query(&said_by_ledger(ledger, &filter), deadline).await?;
    let mut found = ReadTables::default();
    found.take_ledger(&mut sets.into_iter())?;
    Ok(found.definition(table))
}

/// The condition for the tables of all families.
const ALL_TABLES: &str = "LOCATE('___', table_name) > 1";

/// Reads the tables of all families as the server has them, by the server's names.
pub(super) async fn read_physical(
    connection: &mut PooledConnection,
    database: &str,
    deadline: Instant,
) -> Result<HashMap<String, Physical>, CtldbError> {
    let sets = connection.query(&on_server(database, ALL_TABLES), deadline).await?;
    Ok(take_physical(&mut sets.into_iter())?)
}

async fn read(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    filter: &str,
    deadline: Instant,
) -> Result<ReadTables, CtldbError> {
    let sql = format!("{};{}", on_server(database, filter), said_by_ledger(ledger, filter));
    let mut sets = connection.query(&sql, deadline).await?.into_iter();
    let mut found = ReadTables { physical: take_physical(&mut sets)?, ..ReadTables::default() };
    found.take_ledger(&mut sets)?;
    Ok(found)
}

fn on_server(database: &str, filter: &str) -> String {
    let of_triggers = filter.replace("table_name", "event_object_table");
    let fill = |sql: &str| sql.replace("{tables_of_triggers}", &of_triggers).replace("{tables}", filter);
    PHYSICAL.map(|sql| fill(sql).replace("{database}", &quote(database))).join(";")
}

fn said_by_ledger(ledger: &LedgerTable, filter: &str) -> String {
    let not_recorded = ledger.fill(NOT_RECORDED).replace("{name}", DEFINITIONS_SEQ);
    let not_recorded = not_recorded.replace("{is_schema_change}", IS_SCHEMA_CHANGE);
    format!("{};{not_recorded}", RECORDED.replace("{tables}", filter))
}

/// Tables as they were read from the server, from the record, and from ledger rows that are not recorded yet.
#[derive(Default)]
struct ReadTables {
    physical: HashMap<String, Physical>,
    recorded: HashMap<String, Recorded>,
    not_recorded: Vec<(Seq, String)>,
}

type Sets = std::vec::IntoIter<Vec<mysql_async::Row>>;

/// Takes the rows of the next result set.
fn rows<T: mysql_async::prelude::FromRow>(sets: &mut Sets) -> Result<Vec<T>, SqlError> {
    sets.next().unwrap_or_default().into_iter().map(read_row).collect()
}

fn take_physical(sets: &mut Sets) -> Result<HashMap<String, Physical>, SqlError> {
    let mut tables: HashMap<String, Physical> = HashMap::new();
    for (name, kind, engine) in rows::<(String, String, String)>(sets)? {
        let mut physical = Physical::default();
        if kind != "BASE TABLE" {
            physical.obstacles.push(format!("the ctldb has a {} of its name", kind.to_lowercase()));
        } else if !engine.eq_ignore_ascii_case("innodb") {
            physical.obstacles.push(format!("it is in {engine}, which has no transactions"));
        }
        tables.insert(name, physical);
    }
    type ColumnRow = (String, String, String, Option<String>, bool, String);
    for (table, name, declared, collation, may_be_left_out, extra) in rows::<ColumnRow>(sets)? {
        let extra = extra.to_ascii_uppercase().replace("DEFAULT_GENERATED", "");
        let is_generated = ["GENERATED", "VIRTUAL", "PERSISTENT"].iter().any(|word| extra.contains(word));
        let is_optional = may_be_left_out || is_generated || extra.contains("AUTO_INCREMENT");
        let column = Column { name, declared, is_optional, is_generated, collation };
        tables.entry(table).or_default().columns.push(column);
    }
    for (table, index, column, is_part) in rows::<(String, String, String, bool)>(sets)? {
        let physical = tables.entry(table).or_default();
        if index == "PRIMARY" {
            physical.key.push(column);
        } else {
            physical.obstacles.push(format!("it has the unique index {index}, which the ledger has not"));
        }
        if is_part {
            physical.obstacles.push(format!("index {index} compares only the beginning of its columns"));
        }
    }
    for (table, trigger) in rows::<(String, String)>(sets)? {
        tables.entry(table).or_default().obstacles.push(format!("it has the trigger {trigger}"));
    }
    for (table, constraint) in rows::<(String, String)>(sets)? {
        tables.entry(table).or_default().obstacles.push(format!("it has the foreign key {constraint}"));
    }
    Ok(tables)
}

impl ReadTables {
    fn take_ledger(&mut self, sets: &mut Sets) -> Result<(), SqlError> {
        for (table, seq, statement) in rows::<(String, i64, String)>(sets)? {
            self.recorded.insert(table, Recorded { seq: Seq(seq), statement });
        }
        let not_recorded = rows::<(i64, String)>(sets)?.into_iter();
        self.not_recorded = not_recorded.map(|(seq, statement)| (Seq(seq), statement)).collect();
        Ok(())
    }

    fn definition(&self, table: &TableRef) -> Definition {
        let rows = self.not_recorded.iter().map(|(seq, statement)| (*seq, statement.as_str()));
        Definition::of(table, self.recorded.get(&table.sql_name()), rows)
    }

    /// The table to write to, `None` if there is none. An error says why it can't be written to.
    fn compare(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, String> {
        let definition = self.definition(table);
        let physical = self.physical.get(&table.sql_name());
        let Some((schema, extra_columns)) = compare(definition, physical, holds)? else { return Ok(None) };
        let collation = physical.map_or(ColumnCollation::Exact, |physical| collation(&schema, physical));
        Ok(Some(Arc::new(StoredTable { schema, extra_columns, collation })))
    }

    /// The wanted tables by name: those that can be written to, and the faults of the others.
    fn compare_all(&mut self, wanted: impl Fn(&TableRef) -> bool) -> (Vec<Arc<StoredTable>>, Vec<TableFault>) {
        let by_rows = self.not_recorded.iter().filter_map(|(_, statement)| changed_table(statement));
        let names = self.physical.keys().chain(self.recorded.keys()).map(String::as_str).chain(by_rows);
        // A table with another form of name is no data table.
        let tables = names.filter_map(|name| TableRef::from_sql_name(name).ok()).filter(wanted);
        let mut tables: Vec<TableRef> = tables.collect();
        tables.sort_by_key(TableRef::sql_name);
        tables.dedup();
        let mut sound = Vec::new();
        let mut faults = Vec::new();
        for table in tables {
            match self.compare(&table) {
                Ok(stored) => sound.extend(stored),
                Err(reason) => faults.push(self.definition(&table).fault(&table, reason)),
            }
        }
        (sound, faults)
    }
}

/// Whether a column of the server keeps every value of a field's type, or refuses it in strict mode. CHAR drops
/// spaces, BINARY adds zeroes, FLOAT and DOUBLE(m,d) round, and DATE and similar types change values.
fn holds(field_type: FieldType, declared: &str) -> bool {
    let declared = declared.to_ascii_lowercase();
    let base = declared.split(['(', ' ']).next().unwrap_or_default();
    let fitting: &[&str] = match field_type {
        FieldType::String | FieldType::Text => &["varchar", "tinytext", "text", "mediumtext", "longtext"],
        FieldType::Integer => &["tinyint", "smallint", "mediumint", "int", "integer", "bigint"],
        FieldType::Decimal => &["double", "real"],
        FieldType::Binary | FieldType::ByteString => &["varbinary", "tinyblob", "blob", "mediumblob", "longblob"],
    };
    let is_rounded = field_type == FieldType::Decimal && declared.contains('(');
    fitting.contains(&base) && !is_rounded
}

/// The worst collation among the string columns of the key.
fn collation(schema: &TableSchema, physical: &Physical) -> ColumnCollation {
    let key = schema.key_fields().filter_map(|field| physical.column(field.name.as_str()));
    key.fold(ColumnCollation::Exact, |known, column| worse(known, column.collation.as_deref()))
}

/// The worse of `known` and a key column's collation.
fn worse(known: ColumnCollation, column: Option<&str>) -> ColumnCollation {
    match (known, column.map(exactness)) {
        (ColumnCollation::Merging, _) | (_, Some(ColumnCollation::Merging)) => ColumnCollation::Merging,
        (ColumnCollation::Padded, _) | (_, Some(ColumnCollation::Padded)) => ColumnCollation::Padded,
        _ => ColumnCollation::Exact,
    }
}

/// How a collation of the server compares. Its name shows it.
pub(super) fn exactness(collation: &str) -> ColumnCollation {
    match collation {
        "binary" | "utf8mb4_nopad_bin" | "utf8mb4_0900_bin" => ColumnCollation::Exact,
        other if other.ends_with("_nopad_bin") => ColumnCollation::Exact,
        other if other.ends_with("_bin") => ColumnCollation::Padded,
        _ => ColumnCollation::Merging,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_a_type_when_it_keeps_or_refuses_every_value() {
        use FieldType::{Binary, ByteString, Decimal, Integer, String, Text};
        for (field_type, declared) in [
            (String, "varchar(5)"),
            (Text, "mediumtext"),
            (Integer, "int(10) unsigned"),
            (Integer, "bigint(20)"),
            (Decimal, "double"),
            (Decimal, "double unsigned"),
            (Binary, "varbinary(7)"),
            (ByteString, "varbinary(255)"),
        ] {
            assert!(holds(field_type, declared), "{field_type} in {declared}");
        }
        for (field_type, declared) in [
            (String, "char(191)"),
            (Text, "json"),
            (Text, "enum('a')"),
            (Text, "int(11)"),
            (Integer, "double"),
            (Integer, "varchar(20)"),
            (Integer, "timestamp"),
            (Decimal, "float"),
            (Decimal, "double(10,2)"),
            (Decimal, "decimal(65,30)"),
            (Binary, "binary(16)"),
            (Binary, "mediumtext"),
        ] {
            assert!(!holds(field_type, declared), "{field_type} in {declared}");
        }
    }
}
