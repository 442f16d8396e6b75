//! Reads an LDB file for the commands, through the library that programs use. Entry point: [`read`]. A
//! command reads in one read transaction, so all that it prints belongs to one seq. During the
//! transaction the applier's checkpoints can't shrink the WAL, so commands begin it late and end it
//! early.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use ctlstore_core::schema::{FamilyName, Field, TableRef, TableSchema};
use ctlstore_ldb::{LdbError, refuse_other_database};
use ctlstore_reader::{KeyPart, ReadError, ReadTransaction, Reader, Row, ValueRef};

use super::failure::{Exit, Failure};

/// Runs `work` in one read transaction of the LDB at `path`.
pub fn read<T>(path: &Path, work: impl FnOnce(&ReadTransaction<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let shown = path.display();
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            let message = format!(
                "no ldb at {shown}; name another by --ldb or CTLSTORE_LDB (a node keeps it in its data directory)"
            );
            return Err(Failure::absent(message).into());
        }
        Err(error) => {
            let message = format!("ldb {shown}: {error}; it is readable by its owner and group");
            return Err(Failure::new(Exit::Failed, message).into());
        }
    }
    if path.is_dir() {
        let message = format!("{shown} is a directory; the ldb is a file in it, such as ldb.db");
        return Err(Failure::usage(message).into());
    }
    // Even a reader makes files beside a database, so another program's database is not opened.
    match refuse_other_database(path) {
        Ok(()) => {}
        // The advice for a node, to move the file away, would be wrong here.
        Err(LdbError::NotAnLdb { what, .. }) => {
            let message = format!("{shown} is not an ldb but {what}; name an ldb by --ldb");
            return Err(Failure::new(Exit::Failed, message).into());
        }
        Err(error) => return Err(Failure::new(Exit::Failed, error.to_string()).into()),
    }
    let outcome = Reader::open(path).and_then(|reader| reader.read_transaction(|ldb| Ok(work(ldb))));
    let message = match outcome {
        Ok(done) => return done,
        Err(ReadError::NotThereYet { .. }) => format!("{shown} is no ldb, or an empty one"),
        Err(ReadError::Sqlite(error)) => format!("ldb {shown} can't be read: {error}"),
        Err(error) => error.to_string(),
    };
    Err(Failure::new(Exit::Failed, message).into())
}

/// All tables by name, or those of one family.
pub fn tables(ldb: &ReadTransaction<'_>, family: Option<&FamilyName>) -> anyhow::Result<Vec<TableSchema>> {
    let all = ldb.tables()?.into_iter();
    let wanted = all.filter(|table| family.is_none_or(|family| table.family == *family));
    wanted.map(|table| Ok(ldb.schema(table.family.as_str(), table.table.as_str())?)).collect()
}

/// The families that have tables, by name.
pub fn families(ldb: &ReadTransaction<'_>) -> anyhow::Result<BTreeSet<String>> {
    Ok(ldb.tables()?.iter().map(|table| table.family.to_string()).collect())
}

/// The table's definition. The error for an unknown table lists those that exist.
pub fn known(ldb: &ReadTransaction<'_>, table: &TableRef) -> anyhow::Result<TableSchema> {
    let family = &table.family;
    match ldb.schema(family.as_str(), table.table.as_str()) {
        Err(ReadError::UnknownTable(_)) => {}
        schema => return Ok(schema?),
    }
    let tables = ldb.tables()?.into_iter().filter(|other| other.family == *family);
    let tables: Vec<String> = tables.map(|other| other.table.to_string()).collect();
    let there = match tables.len() {
        0 => format!("which has the families {}", Vec::from_iter(families(ldb)?).join(", ")),
        _ => format!("which has {} of family {family}", tables.join(", ")),
    };
    Err(Failure::absent(format!("no table {table} in the ldb, {there}")).into())
}

/// Hands at most `limit` rows whose key begins with `prefix` to `each`, in key order. Gives their
/// number.
pub fn rows(
    ldb: &ReadTransaction<'_>,
    schema: &TableSchema,
    prefix: &[KeyText],
    limit: Option<u64>,
    mut each: impl FnMut(Row<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let TableRef { family, table } = schema.table();
    let mut count = 0;
    let mut outcome = Ok(());
    ldb.scan_with(family.as_str(), table.as_str(), prefix, |row| {
        if limit.is_some_and(|limit| count >= limit) {
            return Ok(ControlFlow::Break(()));
        }
        outcome = each(row);
        count += 1;
        Ok(if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    outcome.map(|()| count)
}

/// A key column's value from the command line: `0x…` is bytes, anything else is text. A column of
/// another type converts the text to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyText {
    Text(String),
    Bytes(Vec<u8>),
}

impl KeyText {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("0x") {
            // Other text may begin with 0x too.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                hex::decode(digits).map(Self::Bytes).map_err(|_| format!("{text:?} has an odd number of hex digits"))
            }
            _ => Ok(Self::Text(text.to_owned())),
        }
    }
}

impl KeyPart for KeyText {
    fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Text(text) => ValueRef::Text(text),
        }
    }
}

/// A row as a JSON object in column order, with bytes as base64 and every digit of its numbers.
pub fn json_row(schema: &TableSchema, row: Row<'_>) -> anyhow::Result<String> {
    let mut out = String::from("{");
    for (i, (field, (name, value))) in schema.fields().iter().zip(row.columns()).enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&format!("{name:?}:"));
        out.push_str(&json_value(field, value)?);
    }
    out.push('}');
    Ok(out)
}

fn json_value(field: &Field, value: ValueRef<'_>) -> anyhow::Result<String> {
    Ok(match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(float) if float.is_finite() => format!("{float:?}").trim_end_matches(".0").to_owned(),
        ValueRef::Real(_) => anyhow::bail!("field {} holds an infinite number, which json can't say", field.name),
        ValueRef::Text(text) => serde_json::to_string(text)?,
        ValueRef::Blob(bytes) if field.field_type.is_bytes() => format!("\"{}\"", STANDARD.encode(bytes)),
        // Only other programs write text that is not UTF-8.
        ValueRef::Blob(bytes) => serde_json::to_string(&String::from_utf8_lossy(bytes))?,
    })
}

/// A value for people, with bytes as `0x…`.
pub fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(float) => float.to_string(),
        ValueRef::Text(text) => text.to_owned(),
        ValueRef::Blob(bytes) => format!("0x{}", hex::encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_bytes_and_anything_else_is_text() {
        assert_eq!(KeyText::parse("0x00fF"), Ok(KeyText::Bytes(vec![0, 255])));
        assert_eq!(KeyText::parse("0x"), Ok(KeyText::Bytes(vec![])));
        assert_eq!(KeyText::parse("0xyz"), Ok(KeyText::Text("0xyz".to_owned())));
        assert!(KeyText::parse("0xabc").is_err());
        assert_eq!(KeyText::parse("17"), Ok(KeyText::Text("17".to_owned())));
    }
}
