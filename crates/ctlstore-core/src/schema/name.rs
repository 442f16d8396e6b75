//! Names of families, tables, fields and writers, each checked when it is made, so that no other
//! module meets a bad one. Entry point for a table's full name: [`TableRef`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::header_text::{HeaderTextError, check_header_text};

/// MySQL's limit for a table's name, and so for `family___table`.
const MAX_SQL_TABLE_CHARS: usize = 64;

/// The separator of family and table in a table's SQL name.
const SEPARATOR: &str = "___";

/// SQLite reserves table names with this prefix, so no LDB can have such a table.
const SQLITE_PREFIX: &str = "sqlite_";

/// Names of columns that InnoDB and its full-text search reserve.
const INNODB_COLUMNS: [&str; 5] = ["db_row_id", "db_trx_id", "db_roll_ptr", "db_row_hash_1", "fts_doc_id"];

/// Why a name was refused. The text says which kind of name it was, and repeats the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{kind} {name:?} must have {min} to {max} {unit}")]
    Length { kind: &'static str, name: String, min: usize, max: usize, unit: &'static str },
    #[error("{kind} {name:?} must start with a letter")]
    Start { kind: &'static str, name: String },
    #[error("{kind} {name:?} may hold only letters, digits and underscores")]
    Character { kind: &'static str, name: String },
    #[error("{kind} {name:?} must not contain two underscores in a row")]
    DoubleUnderscore { kind: &'static str, name: String },
    #[error("{kind} {name:?} must not end in an underscore")]
    TrailingUnderscore { kind: &'static str, name: String },
    #[error("{kind} {name:?} is reserved: sqlite keeps names that begin with sqlite_ for itself")]
    ReservedBySqlite { kind: &'static str, name: String },
    #[error("{kind} {name:?} {reason}")]
    HeaderText { kind: &'static str, name: String, reason: HeaderTextError },
    #[error("table name {name:?} is longer than 64 characters")]
    SqlNameTooLong { name: String },
    #[error("{name:?} is not a table name of the form family___table")]
    NotATable { name: String },
}

/// The longest piece of a bad name that an error repeats, in characters.
const SHOWN_CHARS: usize = 80;

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}

fn check(kind: &'static str, raw: &str, min: usize, max: usize) -> Result<String, NameError> {
    // The length comes first, so that no long text is lower-cased or scanned.
    if raw.len() < min || raw.len() > max {
        return Err(NameError::Length { kind, name: shown(raw), min, max, unit: "characters" });
    }
    let name = raw.to_ascii_lowercase();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(NameError::Start { kind, name });
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(NameError::Character { kind, name });
    }
    Ok(name)
}

fn check_single_underscores(kind: &'static str, name: String) -> Result<String, NameError> {
    if name.contains("__") {
        return Err(NameError::DoubleUnderscore { kind, name });
    }
    if name.ends_with('_') {
        return Err(NameError::TrailingUnderscore { kind, name });
    }
    Ok(name)
}

/// Whether SQLite refuses a table of this name, in any letter case.
fn is_reserved_table_name(name: &str) -> bool {
    name.get(..SQLITE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(SQLITE_PREFIX))
}

/// Checks a family's name, with which the SQL names of its tables begin.
fn check_not_reserved(kind: &'static str, name: String) -> Result<String, NameError> {
    if is_reserved_table_name(&format!("{name}{SEPARATOR}")) {
        return Err(NameError::ReservedBySqlite { kind, name });
    }
    Ok(name)
}

fn check_writer(raw: &str) -> Result<String, NameError> {
    if raw.len() < 3 || raw.len() > 50 {
        return Err(NameError::Length { kind: "writer", name: shown(raw), min: 3, max: 50, unit: "bytes" });
    }
    match check_header_text(raw.as_bytes()) {
        Ok(name) => Ok(name.to_owned()),
        Err(reason) => Err(NameError::HeaderText { kind: "writer", name: shown(raw), reason }),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn new(raw: &str) -> Result<Self, NameError> {
                let parse: fn(&str) -> Result<String, NameError> = $parse;
                parse(raw).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(raw: &str) -> Result<Self, NameError> {
                Self::new(raw)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(raw: String) -> Result<Self, NameError> {
                Self::new(&raw)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// A namespace of tables: 3 to 30 of `a-z 0-9 _`, with a letter first, without `__`, without
    /// a `_` at its end, and neither `sqlite` nor `sqlite_…`. It is lower-cased when it is made.
    FamilyName,
    |raw| {
        let name = check("family", raw, 3, 30).and_then(|name| check_single_underscores("family", name));
        name.and_then(|name| check_not_reserved("family", name))
    }
);
name_type!(
    /// A table's name within its family: 3 to 50 characters, else as [`FamilyName`]. Names that
    /// begin with `sqlite_` are allowed.
    TableName,
    |raw| check("table", raw, 3, 50).and_then(|name| check_single_underscores("table", name))
);
name_type!(
    /// A column's name: 1 to 64 of `a-z 0-9 _`, with a letter first. It is lower-cased when it is made.
    FieldName,
    |raw| check("field", raw, 1, 64)
);
name_type!(
    /// The name of a client of the executive: 3 to 50 bytes that a header can carry. It is kept unchanged.
    WriterName,
    check_writer
);

impl FieldName {
    /// Whether InnoDB reserves the name, so that no new field may have it.
    pub fn is_reserved_by_innodb(&self) -> bool {
        INNODB_COLUMNS.contains(&self.as_str())
    }
}

/// A table by its full name. Its SQL name is `family___table`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRef {
    pub family: FamilyName,
    pub table: TableName,
}

impl TableRef {
    /// # Errors
    /// If `family___table` is longer than MySQL allows (64 characters).
    pub fn new(family: FamilyName, table: TableName) -> Result<Self, NameError> {
        let this = Self { family, table };
        if this.family.0.len() + SEPARATOR.len() + this.table.0.len() > MAX_SQL_TABLE_CHARS {
            return Err(NameError::SqlNameTooLong { name: this.sql_name() });
        }
        Ok(this)
    }

    /// Checks two names that come from outside.
    pub fn parse(family: &str, table: &str) -> Result<Self, NameError> {
        Self::new(FamilyName::new(family)?, TableName::new(table)?)
    }

    /// `family___table`.
    pub fn sql_name(&self) -> String {
        format!("{}{SEPARATOR}{}", self.family, self.table)
    }

    /// The inverse of [`TableRef::sql_name`].
    ///
    /// # Errors
    /// For a name that no table of a family has.
    pub fn from_sql_name(name: &str) -> Result<Self, NameError> {
        let not_a_table = || NameError::NotATable { name: shown(name) };
        let (family, table) = name.split_once(SEPARATOR).ok_or_else(not_a_table)?;
        let this = Self::parse(family, table)?;
        if this.sql_name() == name { Ok(this) } else { Err(not_a_table()) }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}", self.family, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_checked() {
        assert_eq!(FamilyName::new("FAM2").unwrap().as_str(), "fam2");
        for bad in ["ab", "1abc", "my__fam", "my-fam", "fam_", "", "fäm", &"a".repeat(31)] {
            assert!(FamilyName::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(FamilyName::new(&"a".repeat(30)).is_ok());
        assert!(TableName::new(&"t".repeat(50)).is_ok());
        assert!(FieldName::new("a__b_").is_ok());
        assert!(FieldName::new("_a").is_err());
        assert!(WriterName::new("wé").is_ok());
        assert!(WriterName::new("w").is_err());
        for bad in ["wri\nter", "writer ", " writer", "wri\tter"] {
            assert!(WriterName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn names_that_a_database_keeps_for_itself_are_told_apart() {
        for bad in ["sqlite", "SQLite", "sqlite_stat", "Sqlite_x"] {
            assert!(matches!(FamilyName::new(bad), Err(NameError::ReservedBySqlite { .. })), "{bad:?}");
        }
        assert!(FamilyName::new("sqlite3").is_ok());
        assert!(FamilyName::new("my_sqlite").is_ok());
        assert!(TableRef::from_sql_name("sqlite___stat").is_err());
        assert!(FieldName::new("DB_ROW_ID").unwrap().is_reserved_by_innodb());
        assert!(!FieldName::new("row_id").unwrap().is_reserved_by_innodb());
    }

    #[test]
    fn sql_names_round_trip_and_fit_mysql() {
        let table = TableRef::parse("my_fam", "tab_1").unwrap();
        assert_eq!(table.sql_name(), "my_fam___tab_1");
        assert_eq!(TableRef::from_sql_name("my_fam___tab_1").unwrap(), table);
        assert!(TableRef::from_sql_name("_ldb_seq").is_err());
        assert!(TableRef::from_sql_name("Fam___tab").is_err());
        assert!(TableRef::parse(&"a".repeat(30), &"b".repeat(31)).is_ok());
        assert!(TableRef::parse(&"a".repeat(30), &"b".repeat(32)).is_err());
    }
}
