//! Writes row changes and ledger rows as SQL, in statements of bounded size. Entry points:
//! [`statements`], [`ledger_rows`], [`mark_writers`] and [`select_key`]. The module sends nothing.
//!
//! Literals stand in the SQL. Strings with `'` doubled and bytes as hex are exact under our session's
//! modes. Floats have an exponent, so that the server reads them as DOUBLE: a DECIMAL would be another
//! number in the last decimals.

use std::fmt::Write;

use mysql_async::Value as Stored;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{RowChange, StoredTable, WriterMark};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{Field, FieldType, FieldValue, TableSchema};
use ctlstore_core::sql::{push_blob, push_literal, push_text, quoted};

/// `text` as a literal.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_text(&mut out, text);
    out
}

/// `bytes` as a literal.
pub(super) fn blob(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 3);
    push_blob(&mut out, bytes);
    out
}

fn push_value(out: &mut String, value: &FieldValue) {
    match value {
        // For the ledger's `-0` an LDB stores 0. Adding 0 does the same here, and changes no other number.
        // Writing to a string can't fail.
        FieldValue::Real(float) => drop(write!(out, "{:e}", *float + 0.0)),
        other => push_literal(out, other),
    }
}

/// The statements for `changes`, in order. Upserts of one table in a row are one statement, as long as it
/// stays below `limit` bytes.
pub(super) fn statements(changes: &[RowChange], limit: usize) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    // The table of the last statement, if that is an upsert.
    let mut open: Option<&TableSchema> = None;
    for change in changes {
        match change {
            RowChange::Upsert { table, values } => {
                let row = row(values);
                match statements.last_mut() {
                    Some(last) if open == Some(&table.schema) && last.len() + row.len() < limit => {
                        last.push(',');
                        last.push_str(&row);
                    }
                    _ => statements.push(format!("{} {row}", upsert_head(&table.schema))),
                }
                open = Some(&table.schema);
            }
            RowChange::Delete { table, key } => {
                statements.push(format!("DELETE FROM {}", where_key(&table.schema, key)));
                open = None;
            }
        }
    }
    statements
}

fn upsert_head(table: &TableSchema) -> String {
    let columns: Vec<String> = table.fields().iter().map(|f| quoted(f.name.as_str())).collect();
    format!("REPLACE INTO {} ({}) VALUES", table.table(), columns.join(","))
}

fn row(values: &[FieldValue]) -> String {
    let mut out = String::from("(");
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_value(&mut out, value);
    }
    out.push(')');
    out
}

/// INSERTs of ledger rows with the seqs from `first` on, each below `limit` bytes.
pub(super) fn ledger_rows(ledger: &LedgerTable, first: Seq, statements: &[String], limit: usize) -> Vec<String> {
    let mut inserts: Vec<String> = Vec::new();
    for (seq, statement) in (first.0..).zip(statements) {
        match inserts.last_mut() {
            Some(last) if last.len() + statement.len() < limit => last.push(','),
            _ => inserts.push(ledger.fill("INSERT INTO {ledger} (seq, statement) VALUES ")),
        }
        if let Some(last) = inserts.last_mut() {
            let _ = write!(last, "({seq},");
            push_text(last, statement);
            last.push(')');
        }
    }
    inserts
}

/// Two statements that set the cookies of existing writers and add to their usage.
pub(super) fn mark_writers(bucket: i64, marks: &[WriterMark<'_>]) -> [String; 2] {
    let mut cookies = String::new();
    let mut names = String::new();
    let mut usage = String::new();
    for (i, WriterMark { writer, cookie, rows }) in marks.iter().enumerate() {
        let name = quote(writer.as_str());
        let separator = if i > 0 { "," } else { "" };
        let _ = write!(cookies, " WHEN {name} THEN {}", blob(cookie));
        let _ = write!(names, "{separator}{name}");
        let _ = write!(usage, "{separator}({name},{bucket},{rows})");
    }
    [
        format!(
            "UPDATE mutators SET cookie = CASE writer{cookies} ELSE cookie END, clock = clock + 1 \
             WHERE writer IN ({names})"
        ),
        format!(
            "INSERT INTO writer_usage (writer_name, bucket, amount) VALUES {usage} \
             ON DUPLICATE KEY UPDATE amount = amount + VALUES(amount)"
        ),
    ]
}

fn key_columns(table: &TableSchema) -> impl Iterator<Item = &Field> {
    table.key_in_column_order().into_iter().map(|index| &table.fields()[index])
}

/// `table WHERE …`; `key` in column order.
fn where_key(table: &TableSchema, key: &[FieldValue]) -> String {
    let mut sql = table.table().sql_name();
    for (i, (field, value)) in key_columns(table).zip(key).enumerate() {
        sql.push_str(if i == 0 { " WHERE " } else { " AND " });
        sql.push_str(&quoted(field.name.as_str()));
        sql.push_str(" = ");
        push_value(&mut sql, value);
    }
    sql
}

/// Selects the stored key that is equal to `key` by the server's collation.
pub(super) fn select_key(table: &StoredTable, key: &[FieldValue]) -> String {
    let columns: Vec<String> = key_columns(&table.schema).map(|f| quoted(f.name.as_str())).collect();
    format!("SELECT {} FROM {} LIMIT 1", columns.join(","), where_key(&table.schema, key))
}

/// A stored key, in column order.
pub(super) fn read_key(table: &StoredTable, row: mysql_async::Row) -> Result<Vec<FieldValue>, CtldbError> {
    key_columns(&table.schema).zip(row.unwrap()).map(|(field, stored)| read_key_value(field, stored)).collect()
}

fn read_key_value(field: &Field, stored: Stored) -> Result<FieldValue, CtldbError> {
    let bad = || CtldbError::Failed(format!("key field {} holds what it can't", field.name));
    let bytes = match stored {
        Stored::Bytes(bytes) => bytes,
        Stored::Int(integer) => return Ok(FieldValue::Integer(integer)),
        Stored::UInt(integer) => return i64::try_from(integer).map(FieldValue::Integer).map_err(|_| bad()),
        _ => return Err(bad()),
    };
    if field.field_type == FieldType::ByteString {
        return Ok(FieldValue::Blob(bytes));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    match field.field_type {
        FieldType::Integer => text.parse().map(FieldValue::Integer).map_err(|_| bad()),
        _ => Ok(FieldValue::Text(text)),
    }
}
