//! Changes rows of the data tables, and finds a stored key. Entry points: [`apply`] and [`stored_key`].
//! Values are stored as the ledger's literals would be: the ctldb and every LDB hold the same.

use std::fmt::Write;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::ctldb::error::CtldbError;
use crate::ctldb::session::RowChange;
use ctlstore_core::schema::{Field, FieldValue, TableSchema};
use ctlstore_core::sql::quoted;

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

/// The stored key of the row that `key` finds, in column order.
pub(super) fn stored_key(
    db: &Connection,
    table: &TableSchema,
    key: &[FieldValue],
) -> Result<Option<Vec<FieldValue>>, CtldbError> {
    let columns: Vec<String> = key_columns(table).map(|f| quoted(f.name.as_str())).collect();
    let mut statement = db.prepare_cached(&format!("SELECT {} FROM {}", columns.join(","), where_key(table)))?;
    let mut rows = statement.query(params_from_iter(key.iter().map(Bound)))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..columns.len()).map(|i| read_value(row.get_ref(i)?)).collect::<Result<_, _>>().map(Some)
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

/// A value to bind.
struct Bound<'a>(&'a FieldValue);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            FieldValue::Null => ValueRef::Null,
            FieldValue::Integer(integer) => ValueRef::Integer(*integer),
            FieldValue::Boolean(boolean) => ValueRef::Integer(i64::from(*boolean)),
            // The literal `-0` is the integer 0; adding 0 turns -0.0 into it and changes nothing else.
            FieldValue::Real(float) => ValueRef::Real(*float + 0.0),
            // The ledger spells text with a NUL as the hex of its bytes.
            FieldValue::Text(text) if text.contains('\0') => ValueRef::Blob(text.as_bytes()),
            FieldValue::Text(text) => ValueRef::Text(text.as_bytes()),
            FieldValue::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A stored value.
fn read_value(stored: ValueRef<'_>) -> Result<FieldValue, CtldbError> {
    Ok(match stored {
        ValueRef::Null => FieldValue::Null,
        ValueRef::Integer(integer) => FieldValue::Integer(integer),
        ValueRef::Real(float) => FieldValue::Real(float),
        ValueRef::Text(text) => FieldValue::Text(
            String::from_utf8(text.to_vec()).map_err(|_| CtldbError::Failed("stored text is not utf-8".to_owned()))?,
        ),
        ValueRef::Blob(bytes) => FieldValue::Blob(bytes.to_vec()),
    })
}
