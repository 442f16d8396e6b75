//! The definition of a table: its fields in order, their types, and the key fields. Entry point:
//! [`TableSchema`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{FieldName, TableRef};

/// The types of fields, with the names that the executive's API has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text of at most 191 characters.
    String,
    /// A signed 64-bit integer.
    Integer,
    /// A finite 64-bit float.
    Decimal,
    /// Text of at most 512 KiB.
    Text,
    /// Bytes, at most 512 KiB.
    Binary,
    /// At most 255 bytes.
    ByteString,
}

impl FieldType {
    pub const ALL: [FieldType; 6] =
        [Self::String, Self::Integer, Self::Decimal, Self::Text, Self::Binary, Self::ByteString];

    /// The type with this name in the executive's API; `None` for any other word.
    pub fn from_api_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.api_name() == name)
    }

    pub const fn api_name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::ByteString => "bytestring",
        }
    }

    pub(crate) const fn can_be_key(self) -> bool {
        matches!(self, Self::String | Self::Integer | Self::ByteString)
    }

    /// Whether values of this type are bytes rather than text or numbers.
    pub const fn is_bytes(self) -> bool {
        matches!(self, Self::Binary | Self::ByteString)
    }

    /// The column type in the ledger and in every LDB.
    pub const fn ldb_type(self) -> &'static str {
        match self {
            Self::String => "VARCHAR(191)",
            Self::Integer => "INTEGER",
            Self::Decimal => "REAL",
            Self::Text => "TEXT",
            Self::Binary => "BLOB",
            Self::ByteString => "BLOB(255)",
        }
    }

    /// The column type in a MySQL ctldb, without its collation.
    pub const fn mysql_type(self) -> &'static str {
        match self {
            Self::String => "VARCHAR(191)",
            Self::Integer => "BIGINT",
            Self::Decimal => "DOUBLE",
            Self::Text => "MEDIUMTEXT",
            Self::Binary => "MEDIUMBLOB",
            Self::ByteString => "VARBINARY(255)",
        }
    }

    /// The field type of a column type, in any letter case, in a ctldb of either kind or in an
    /// LDB; `None` for a column type that no field has.
    pub fn from_column_type(declared: &str) -> Option<Self> {
        let declared = declared.trim().to_ascii_lowercase();
        let (base, length) = match declared.split_once('(') {
            Some((base, rest)) => (base.trim(), rest.split(')').next()),
            None => (declared.split(' ').next().unwrap_or_default(), None),
        };
        Some(match base {
            "varchar" | "char" | "character" => Self::String,
            "text" | "mediumtext" | "longtext" => Self::Text,
            "integer" | "int" | "smallint" | "mediumint" | "bigint" => Self::Integer,
            "real" | "float" | "double" => Self::Decimal,
            "varbinary" => Self::ByteString,
            "blob" if length == Some("255") => Self::ByteString,
            "blob" | "mediumblob" | "longblob" => Self::Binary,
            _ => return None,
        })
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.api_name())
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: FieldName,
    pub field_type: FieldType,
}

/// Why a table's definition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("table {0} has no fields")]
    NoFields(TableRef),
    #[error("table {0} has no key field")]
    NoKey(TableRef),
    #[error("field {0} is named twice")]
    DuplicateField(FieldName),
    #[error("key field {0} is named twice")]
    DuplicateKey(FieldName),
    #[error("key field {0} is not one of the table's fields")]
    UnknownKey(FieldName),
    #[error("field {0} of type {1} can't be a key; string, integer and bytestring can")]
    KeyType(FieldName, FieldType),
}

/// A checked definition of a table. It has at least one field and one key field, no name twice,
/// and only key fields whose types can be keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    table: TableRef,
    fields: Vec<Field>,
    /// Indexes into `fields`, in key order.
    key: Vec<usize>,
}

impl TableSchema {
    pub fn new(table: TableRef, fields: Vec<Field>, key_fields: &[FieldName]) -> Result<Self, TableError> {
        if fields.is_empty() {
            return Err(TableError::NoFields(table));
        }
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|f| f.name == field.name) {
                return Err(TableError::DuplicateField(field.name.clone()));
            }
        }
        if key_fields.is_empty() {
            return Err(TableError::NoKey(table));
        }
        let mut key = Vec::with_capacity(key_fields.len());
        for name in key_fields {
            let index =
                fields.iter().position(|f| &f.name == name).ok_or_else(|| TableError::UnknownKey(name.clone()))?;
            if key.contains(&index) {
                return Err(TableError::DuplicateKey(name.clone()));
            }
            if !fields[index].field_type.can_be_key() {
                return Err(TableError::KeyType(name.clone(), fields[index].field_type));
            }
            key.push(index);
        }
        Ok(Self { table, fields, key })
    }

    pub fn table(&self) -> &TableRef {
        &self.table
    }

    /// All fields, in the table's column order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The key fields, in key order, which can differ from the column order.
    pub fn key_fields(&self) -> impl ExactSizeIterator<Item = &Field> {
        self.key.iter().map(|&i| &self.fields[i])
    }

    /// Indexes of the key fields within [`TableSchema::fields`], ascending. Deletes and the
    /// changelog name the key fields in this order.
    pub fn key_in_column_order(&self) -> Vec<usize> {
        let mut key = self.key.clone();
        key.sort_unstable();
        key
    }

    pub fn is_key(&self, index: usize) -> bool {
        self.key.contains(&index)
    }

    pub fn position(&self, name: &FieldName) -> Option<usize> {
        self.fields.iter().position(|f| &f.name == name)
    }

    /// The same table with one more field at its end.
    pub fn with_field(&self, field: Field) -> Result<Self, TableError> {
        if self.position(&field.name).is_some() {
            return Err(TableError::DuplicateField(field.name));
        }
        let mut wider = self.clone();
        wider.fields.push(field);
        Ok(wider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, field_type: FieldType) -> Field {
        Field { name: FieldName::new(name).unwrap(), field_type }
    }

    fn key(names: &[&str]) -> Vec<FieldName> {
        names.iter().map(|n| FieldName::new(n).unwrap()).collect()
    }

    #[test]
    fn definitions_that_no_database_could_hold_are_refused() {
        let table = || TableRef::parse("fam", "tab").unwrap();
        let fields = || vec![field("a", FieldType::String), field("b", FieldType::Text)];
        assert!(TableSchema::new(table(), fields(), &key(&["a"])).is_ok());
        assert!(matches!(TableSchema::new(table(), vec![], &key(&["a"])), Err(TableError::NoFields(_))));
        assert!(matches!(TableSchema::new(table(), fields(), &[]), Err(TableError::NoKey(_))));
        assert!(matches!(TableSchema::new(table(), fields(), &key(&["c"])), Err(TableError::UnknownKey(_))));
        assert!(matches!(TableSchema::new(table(), fields(), &key(&["b"])), Err(TableError::KeyType(..))));
        assert!(matches!(TableSchema::new(table(), fields(), &key(&["a", "a"])), Err(TableError::DuplicateKey(_))));
        let twice = vec![field("a", FieldType::String), field("a", FieldType::String)];
        assert!(matches!(TableSchema::new(table(), twice, &key(&["a"])), Err(TableError::DuplicateField(_))));
    }

    #[test]
    fn column_types_are_read_back_in_any_case() {
        for field_type in FieldType::ALL {
            assert_eq!(FieldType::from_column_type(field_type.ldb_type()), Some(field_type));
            assert_eq!(FieldType::from_column_type(field_type.mysql_type()), Some(field_type));
        }
        assert_eq!(FieldType::from_column_type("BIGINT(20)"), Some(FieldType::Integer));
        assert_eq!(FieldType::from_column_type("Character"), Some(FieldType::String));
        assert_eq!(FieldType::from_column_type("longblob"), Some(FieldType::Binary));
        assert_eq!(FieldType::from_column_type("json"), None);
    }
}
