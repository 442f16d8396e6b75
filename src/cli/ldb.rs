//! An LDB file as the commands read it: whole tables with their types, all within
//! one read transaction, so that what is printed belongs to one seq.
//!
//! While it is open the applier's checkpoints can't shrink the WAL, so commands
//! open it late and let go of it early.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::config::DbConfig;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};
use crate::sql::quoted;

use super::failure::{Exit, Failure};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const IS_LDB: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_ldb_seq'";
const SEQ: &str = "SELECT seq FROM _ldb_seq WHERE id = 1";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND instr(name, '___') > 1 ORDER BY name";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid";

/// A read transaction on an LDB.
pub struct Ldb {
    connection: Connection,
}

impl Ldb {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            let message = format!(
                "no ldb at {}; name another by --ldb or CTLSTORE_LDB (a node keeps it in its data directory)",
                path.display()
            );
            return Err(Failure::absent(message).into());
        }
        if path.is_dir() {
            let message = format!("{} is a directory; the ldb is a file in it, such as ldb.db", path.display());
            return Err(Failure::usage(message).into());
        }
        let failed = |error: rusqlite::Error| {
            Failure::new(Exit::Failed, format!("ldb {} can't be read: {error}", path.display()))
        };
        let ldb = Self::begin(path).map_err(failed)?;
        if ldb.connection.prepare(IS_LDB).and_then(|mut s| s.exists([])).map_err(failed)? {
            return Ok(ldb);
        }
        Err(Failure::new(Exit::Failed, format!("{} is no ldb, or an empty one", path.display())).into())
    }

    fn begin(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("PRAGMA query_only = 1; BEGIN")?;
        Ok(Self { connection })
    }

    /// The last applied seq, 0 before the first.
    pub fn seq(&self) -> anyhow::Result<i64> {
        Ok(self.connection.query_row(SEQ, [], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// All tables, by name; those of one family where one is given.
    pub fn tables(&self, family: Option<&FamilyName>) -> anyhow::Result<Vec<TableSchema>> {
        let mut found = Vec::new();
        for table in self.names()?.iter().filter(|table| family.is_none_or(|family| table.family == *family)) {
            found.extend(self.schema(table)?);
        }
        Ok(found)
    }

    /// The families that have tables, by name.
    pub fn families(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.names()?.iter().map(|table| table.family.to_string()).collect())
    }

    /// Every table whose name the executive would take; others are none of ours.
    fn names(&self) -> anyhow::Result<Vec<TableRef>> {
        let mut statement = self.connection.prepare(TABLES)?;
        let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let parsed = names.iter().filter_map(|name| {
            let (family, table) = name.split_once("___")?;
            TableRef::parse(family, table).ok()
        });
        Ok(parsed.collect())
    }

    /// The table's definition, `None` when there is no such table.
    pub fn schema(&self, table: &TableRef) -> anyhow::Result<Option<TableSchema>> {
        let mut statement = self.connection.prepare_cached(COLUMNS)?;
        let mut rows = statement.query([table.sql_name()])?;
        let (mut fields, mut key) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let (name, declared, key_position): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let Some(field_type) = FieldType::from_column_type(&declared) else {
                let message = format!("table {table}: column {name:?} has the type {declared:?}, which no field has");
                return Err(Failure::new(Exit::Failed, message).into());
            };
            let name = FieldName::new(&name)?;
            if key_position > 0 {
                key.push((key_position, name.clone()));
            }
            fields.push(Field { name, field_type });
        }
        if fields.is_empty() {
            return Ok(None);
        }
        key.sort_unstable_by_key(|(position, _)| *position);
        let key: Vec<FieldName> = key.into_iter().map(|(_, name)| name).collect();
        Ok(Some(TableSchema::new(table.clone(), fields, &key)?))
    }

    /// As [`Ldb::schema`], where a table that is not there ends the command.
    pub fn known(&self, table: &TableRef) -> anyhow::Result<TableSchema> {
        if let Some(schema) = self.schema(table)? {
            return Ok(schema);
        }
        let family = &table.family;
        let tables = self.names()?.into_iter().filter(|other| other.family == *family);
        let tables: Vec<String> = tables.map(|other| other.table.to_string()).collect();
        let there = match tables.len() {
            0 => format!("which has the families {}", Vec::from_iter(self.families()?).join(", ")),
            _ => format!("which has {} of family {family}", tables.join(", ")),
        };
        Err(Failure::absent(format!("no table {table} in the ldb, {there}")).into())
    }

    /// Hands each row whose key begins with `prefix` to `each`, in key order, at most
    /// `limit` of them. Gives how many there were.
    pub fn rows(
        &self,
        schema: &TableSchema,
        prefix: &[Key],
        limit: Option<u64>,
        mut each: impl FnMut(&[ValueRef<'_>]) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let columns = schema.fields().len();
        let mut statement = self.connection.prepare(&select(schema, prefix.len()))?;
        for (i, (key, field)) in prefix.iter().zip(schema.key_fields()).enumerate() {
            statement.raw_bind_parameter(i + 1, key.value_for(field.field_type))?;
        }
        let limit_at = prefix.len() + 1;
        statement.raw_bind_parameter(limit_at, limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)))?;
        let mut rows = statement.raw_query();
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let values: Vec<ValueRef<'_>> = (0..columns).map(|i| row.get_ref(i)).collect::<Result<_, _>>()?;
            each(&values)?;
            count += 1;
        }
        Ok(count)
    }
}

fn select(schema: &TableSchema, keys: usize) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|f| quoted(f.name.as_str())).collect();
    let key: Vec<String> = schema.key_fields().map(|f| quoted(f.name.as_str())).collect();
    let matches: Vec<String> = key[..keys].iter().enumerate().map(|(i, name)| format!("{name} = ?{}", i + 1)).collect();
    let such = if matches.is_empty() { String::new() } else { format!(" WHERE {}", matches.join(" AND ")) };
    let (columns, order) = (columns.join(","), key.join(","));
    format!("SELECT {columns} FROM {}{such} ORDER BY {order} LIMIT ?{}", schema.table(), keys + 1)
}

/// A key column's value from the command line: `0x…` is bytes, all else is text,
/// which the column's type makes a number where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Text(String),
    Bytes(Vec<u8>),
}

impl Key {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("0x") {
            // What is no hex is text that happens to begin like it.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                hex::decode(digits).map(Self::Bytes).map_err(|_| format!("{text:?} has an odd number of hex digits"))
            }
            _ => Ok(Self::Text(text.to_owned())),
        }
    }

    fn value_for(&self, field_type: FieldType) -> Value {
        match self {
            Self::Bytes(bytes) => Value::Blob(bytes.clone()),
            Self::Text(text) if field_type.is_bytes() => Value::Blob(text.clone().into_bytes()),
            Self::Text(text) => Value::Text(text.clone()),
        }
    }
}

/// A row as a JSON object in column order, blobs as base64, no digit lost.
pub fn json_row(schema: &TableSchema, values: &[ValueRef<'_>]) -> anyhow::Result<String> {
    let mut out = String::from("{");
    for (i, (field, value)) in schema.fields().iter().zip(values).enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&format!("{:?}:", field.name.as_str()));
        out.push_str(&json_value(field, *value)?);
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
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if field.field_type.is_bytes() => {
            format!("\"{}\"", STANDARD.encode(bytes))
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => serde_json::to_string(&String::from_utf8_lossy(bytes))?,
    })
}

/// A value for people: bytes as `0x…`.
pub fn shown(field: &Field, value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(float) => float.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if field.field_type.is_bytes() => {
            format!("0x{}", hex::encode(bytes))
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_bytes_and_all_else_text() {
        assert_eq!(Key::parse("0x00fF"), Ok(Key::Bytes(vec![0, 255])));
        assert_eq!(Key::parse("0x"), Ok(Key::Bytes(vec![])));
        assert_eq!(Key::parse("0xyz"), Ok(Key::Text("0xyz".to_owned())));
        assert!(Key::parse("0xabc").is_err());
        assert_eq!(Key::parse("17"), Ok(Key::Text("17".to_owned())));
    }
}
