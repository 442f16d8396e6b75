//! Runs the ledger's schema statements on an in-memory SQLite that has the table as it is. So the ledger never gets a
//! statement that an LDB can't apply. Entry points: [`run`] and [`check`]. The module touches no ctldb and no file.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::ctldb::error::CtldbError;
use crate::ctldb::session::{SchemaChange, StoredTable};
use ctlstore_core::schema::{Field, FieldName, FieldType, TableRef, TableSchema};
use ctlstore_core::sql::{self, quoted};

const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid";

/// The table as `statement` leaves it, `None` if it drops the table. An error is SQLite's reason why an LDB can't run
/// the statement, or can't write rows to the table.
pub(super) fn run(
    table: &TableRef,
    before: Option<&TableSchema>,
    statement: &str,
) -> Result<Option<TableSchema>, String> {
    let db = open().map_err(|error| reason(&error))?;
    if let Some(before) = before {
        db.execute(&sql::create_table(before), []).map_err(|error| reason(&error))?;
    }
    db.execute(statement, []).map_err(|error| reason(&error))?;
    let after = read_definition(&db, table)?;
    if let Some(after) = &after {
        row_statements(&db, after).map_err(|error| reason(&error))?;
    }
    Ok(after)
}

/// The table as `change` leaves it. Refuses a change whose statement would leave an LDB with another table.
pub(super) fn check(
    change: &SchemaChange,
    before: Option<&StoredTable>,
    statement: &str,
) -> Result<Option<TableSchema>, CtldbError> {
    let refused = |reason: String| CtldbError::Refused(format!("no ldb could hold {}: {reason}", change.table()));
    let before = before.map(|stored| &stored.schema);
    let wanted = match (change, before) {
        (SchemaChange::CreateTable(schema), _) => Some(schema.clone()),
        (SchemaChange::AddColumn(_, field), Some(before)) => {
            Some(before.with_field(field.clone()).map_err(|error| refused(error.to_string()))?)
        }
        (SchemaChange::AddColumn(..), None) => return Err(refused("there is no such table".to_owned())),
        (SchemaChange::DropTable(_), _) => None,
    };
    let after = run(change.table(), before, statement).map_err(refused)?;
    if after == wanted { Ok(after) } else { Err(refused("it would become another table".to_owned())) }
}

fn open() -> rusqlite::Result<Connection> {
    let db = Connection::open_in_memory()?;
    // As in an LDB: double quotes never make a string.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(db)
}

/// Prepares the two forms of row statements. Fails if the table has more columns or keys than SQLite accepts there.
fn row_statements(db: &Connection, table: &TableSchema) -> rusqlite::Result<()> {
    let name = table.table();
    let columns: Vec<String> = table.fields().iter().map(|field| quoted(field.name.as_str())).collect();
    let values = vec!["?"; columns.len()].join(",");
    db.prepare(&format!("REPLACE INTO {name} ({}) VALUES({values})", columns.join(",")))?;
    let key: Vec<String> = table.key_in_column_order().iter().map(|&at| format!("{} = ?", columns[at])).collect();
    db.prepare(&format!("DELETE FROM {name} WHERE {}", key.join(" AND ")))?;
    Ok(())
}

/// Reads a table's definition from an SQLite database.
pub(super) fn read_definition(db: &Connection, table: &TableRef) -> Result<Option<TableSchema>, String> {
    let mut columns: Vec<(String, String, i64)> = Vec::new();
    let mut read = || -> rusqlite::Result<()> {
        let mut statement = db.prepare_cached(COLUMNS)?;
        let rows = statement.query_map([table.sql_name()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.into_iter().try_for_each(|row| row.map(|row| columns.push(row)))
    };
    read().map_err(|error| reason(&error))?;
    if columns.is_empty() {
        return Ok(None);
    }
    let key = columns.iter().filter(|(_, _, part)| *part > 0).map(|(name, _, part)| (*part, name.clone()));
    let mut key: Vec<(i64, String)> = key.collect();
    key.sort_unstable();
    let columns = columns.iter().map(|(name, declared, _)| (name.as_str(), declared.as_str()));
    define(table, columns, key.iter().map(|(_, name)| name.as_str())).map(Some)
}

/// Makes a table's definition from its columns with their declared types, and from its key's column names.
pub(super) fn define<'a>(
    table: &TableRef,
    columns: impl Iterator<Item = (&'a str, &'a str)>,
    key: impl Iterator<Item = &'a str>,
) -> Result<TableSchema, String> {
    let field = |(name, declared): (&str, &str)| {
        let field_type = FieldType::from_column_type(declared)
            .ok_or_else(|| format!("column {name} has the type {declared}, which no field has"))?;
        Ok(Field { name: FieldName::new(name).map_err(|error| error.to_string())?, field_type })
    };
    let fields = columns.map(field).collect::<Result<Vec<_>, String>>()?;
    let key = key.map(FieldName::new).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    TableSchema::new(table.clone(), fields, &key).map_err(|error| error.to_string())
}

/// SQLite's own message, without the SQL that rusqlite adds.
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(fields: &[(&str, FieldType)]) -> TableSchema {
        let fields = fields
            .iter()
            .map(|(name, field_type)| Field { name: FieldName::new(name).unwrap(), field_type: *field_type });
        let fields: Vec<Field> = fields.collect();
        let key = [fields[0].name.clone()];
        TableSchema::new(TableRef::parse("fam", "tab").unwrap(), fields, &key).unwrap()
    }

    #[test]
    fn what_an_ldb_can_run_leaves_the_table_that_it_says() {
        let before = table(&[("a", FieldType::String), ("rowid", FieldType::Decimal)]);
        let name = before.table().clone();
        assert_eq!(run(&name, None, &sql::create_table(&before)).unwrap(), Some(before.clone()));
        let field = Field { name: FieldName::new("c").unwrap(), field_type: FieldType::ByteString };
        let after = run(&name, Some(&before), &sql::add_column(&name, &field)).unwrap();
        assert_eq!(after, Some(before.with_field(field).unwrap()));
        assert_eq!(run(&name, Some(&before), &sql::drop_table(&name)).unwrap(), None);
    }

    #[test]
    fn what_an_ldb_can_not_run_is_refused_with_the_reason_of_sqlite() {
        let before = table(&[("a", FieldType::String), ("b", FieldType::Integer)]);
        let name = before.table();
        let refused = |before, statement: &str| run(name, before, statement).unwrap_err();
        assert!(refused(Some(&before), &sql::create_table(&before)).contains("already exists"));
        let again = sql::add_column(name, &before.fields()[1]);
        assert!(refused(Some(&before), &again).contains("duplicate column name"));
        assert!(refused(None, &again).contains("no such table"));
        assert!(refused(None, r#"CREATE TABLE sqlite___stat ("a" INTEGER, PRIMARY KEY("a"));"#).contains("reserved"));
        let names: Vec<String> = (0..1_200).map(|n| format!("f{n}")).collect();
        let fields: Vec<(&str, FieldType)> = names.iter().map(|n| (n.as_str(), FieldType::Integer)).collect();
        let wide = table(&fields);
        assert!(run(name, None, &sql::create_table(&wide)).is_ok());
        let keys: Vec<FieldName> = wide.fields().iter().map(|field| field.name.clone()).collect();
        let all_keys = TableSchema::new(name.clone(), wide.fields().to_vec(), &keys).unwrap();
        assert!(refused(None, &sql::create_table(&all_keys)).contains("too large"));
    }
}
