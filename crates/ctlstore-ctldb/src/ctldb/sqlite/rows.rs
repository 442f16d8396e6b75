//! Rows of the data tables: changing them, and finding a stored key.

use std::fmt::Write;

use rusqlite::{Connection, params_from_iter};

use crate::ctldb::{CtldbError, RowChange};
use ctlstore_core::schema::{Field, TableSchema, Value};
use ctlstore_core::sql::quoted;

use super::values::{self, Bound};

pub(super) fn apply(db: &Connection, changes: &[RowChange]) -> Result<(), CtldbError> {
    for change in changes {
        let (sql, values) = match change {
            RowChange::Upsert { table, values } => (upsert(&table.schema), values),
            RowChange::Delete { table, key } => (format!("DELETE FROM {}", where_key(&table.schema)), key),
        };
        db.prepare_cached(&sql)?.execute(params_from_iter(values.iter().map(Bound)))?;
    }
    Ok(())
}

/// The key of the row that `key` finds, in column order.
pub(super) fn stored_key(
    db: &Connection,
    table: &TableSchema,
    key: &[Value],
) -> Result<Option<Vec<Value>>, CtldbError> {
    let columns: Vec<String> = key_columns(table).map(|f| quoted(f.name.as_str())).collect();
    let mut statement = db.prepare_cached(&format!("SELECT {} FROM {}", columns.join(","), where_key(table)))?;
    let mut rows = statement.query(params_from_iter(key.iter().map(Bound)))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..columns.len()).map(|i| values::read(row.get_ref(i)?)).collect::<Result<_, _>>().map(Some)
}

fn key_columns(table: &TableSchema) -> impl Iterator<Item = &Field> {
    table.key_in_column_order().into_iter().map(|index| &table.fields()[index])
}

fn upsert(table: &TableSchema) -> String {
    let columns: Vec<String> = table.fields().iter().map(|f| quoted(f.name.as_str())).collect();
    let marks = vec!["?"; columns.len()].join(",");
    format!("REPLACE INTO {} ({}) VALUES ({marks})", table.table(), columns.join(","))
}

/// `table WHERE …` with a parameter for each key column, in column order.
fn where_key(table: &TableSchema) -> String {
    let mut sql = table.table().sql_name();
    for (i, field) in key_columns(table).enumerate() {
        let word = if i == 0 { "WHERE" } else { "AND" };
        // Writing to a string can't fail.
        let _ = write!(sql, " {word} {} = ?", quoted(field.name.as_str()));
    }
    sql
}
