//! Entries from the statement itself. A canonical upsert or delete names the key of
//! the one row that it changes; where SQLite stores and compares that key exactly as
//! it is written, nobody needs to ask SQLite which row it was. Everything else is
//! the hook's: see `capture`.

use rusqlite::Connection;

use ctlstore_core::sql::{Literal, RowStatement};

use super::changes::ChangedRows;
use super::entry::TableKey;

/// Whether rows of a table are named by its statements: an ordinary table that has no
/// other unique index, through which a row could replace a second one, no trigger and
/// no collation but bytes. A temporary table could stand before any other.
const IS_ORDINARY: &str = "\
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql NOT LIKE '%collate%')
   AND EXISTS (SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND name = ?1 AND type = 'table'
               AND NOT wr AND NOT strict)
   AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE)
   AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE \"unique\" AND origin <> 'pk')
   AND NOT EXISTS (SELECT 1 FROM temp.sqlite_schema)";

/// Shapes of statements remembered, which are as many as are kept prepared.
const SHAPES: usize = 256;

/// What is known of statements by their shape.
#[derive(Debug, Default)]
pub struct StatementEntries {
    /// The one used last comes first.
    shapes: Vec<Shape>,
    /// The bytes of the value that is being written.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Shape {
    is_upsert: bool,
    table: String,
    columns: String,
    /// `None` where the hook has to tell.
    key: Option<Key>,
}

/// The table's key, and where a statement has its values.
#[derive(Debug)]
struct Key {
    table: TableKey,
    /// By key column.
    values: Vec<KeyValue>,
}

#[derive(Debug)]
struct KeyValue {
    /// Which of the statement's values it is.
    index: usize,
    affinity: Affinity,
}

/// What a column turns values into, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    /// REAL or NUMERIC: what is stored may be another value than what is written.
    Other,
}

impl Affinity {
    /// By SQLite's rules for the declared type.
    pub fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let says = |part| declared.contains(part);
        if says("INT") {
            Self::Integer
        } else if says("CHAR") || says("CLOB") || says("TEXT") {
            Self::Text
        } else if says("BLOB") {
            Self::Blob
        } else {
            Self::Other
        }
    }

    /// Whether `literal` is stored in such a column as it is, and equal to nothing else there.
    fn keeps(self, literal: &Literal<'_>) -> bool {
        match literal {
            // The float of this value, which is no integer to SQLite, equals it.
            Literal::Integer(i64::MIN) => false,
            Literal::Integer(_) | Literal::Boolean(_) => self == Self::Integer,
            Literal::Text(_) => self == Self::Text,
            Literal::Blob(_) => self == Self::Blob,
            Literal::Null | Literal::Real(_) => false,
        }
    }
}

impl StatementEntries {
    /// Enters the row that `row` names into `changes`. False, and nothing entered, where
    /// the hook has to tell.
    pub fn enter(
        &mut self,
        connection: &Connection,
        is_upsert: bool,
        row: &RowStatement<'_>,
        changes: &mut ChangedRows,
    ) -> rusqlite::Result<bool> {
        let fits =
            |shape: &Shape| shape.is_upsert == is_upsert && shape.table == row.table && shape.columns == row.columns;
        match self.shapes.iter().position(fits) {
            Some(0) => {}
            Some(at) => self.shapes[..=at].rotate_right(1),
            None => {
                let key = Key::of(connection, is_upsert, row)?;
                self.shapes.truncate(SHAPES - 1);
                let (table, columns) = (row.table.to_owned(), row.columns.clone().into_owned());
                self.shapes.insert(0, Shape { is_upsert, table, columns, key });
            }
        }
        let Some(key) = &self.shapes[0].key else { return Ok(false) };
        let is_kept = key.values.iter().all(|value| value.affinity.keeps(&row.values[value.index]));
        if is_kept {
            let values = key.values.iter().map(|value| &row.values[value.index]);
            changes.push(|out| key.table.push_literals(out, values, &mut self.bytes));
        }
        Ok(is_kept)
    }

    /// Tables may have changed.
    pub fn forget(&mut self) {
        self.shapes.clear();
    }
}

impl Key {
    fn of(connection: &Connection, is_upsert: bool, row: &RowStatement<'_>) -> rusqlite::Result<Option<Self>> {
        let is_ordinary = connection.prepare_cached(IS_ORDINARY)?.query_row([row.table], |row| row.get(0))?;
        let table = if is_ordinary { TableKey::load(connection, row.table)? } else { None };
        let Some(table) = table else { return Ok(None) };
        let named: Vec<_> = row.columns().collect();
        let value = |(name, affinity)| {
            let mut found = named.iter().enumerate().filter(|(_, column)| **column == name);
            let (index, _) = found.next()?;
            // A column that is named twice has one of the two values.
            found.next().is_none().then_some(KeyValue { index, affinity })
        };
        let values: Option<Vec<_>> = table.columns().map(value).collect();
        // A delete by more or less than the key changes other rows, or not this one.
        let is_whole = |values: &Vec<_>| named.len() == row.values.len() && (is_upsert || values.len() == named.len());
        Ok(values.filter(is_whole).map(|values| Self { table, values }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctlstore_core::sql::{Statement, parse};

    const TABLE: &str =
        r#"CREATE TABLE fam___tab ("s" VARCHAR(191), "i" INTEGER, "b" BLOB(255), "r" REAL, PRIMARY KEY("i","s"))"#;

    fn is_named(schema: &str, text: &str) -> bool {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(schema).unwrap();
        let (is_upsert, row) = match parse(text) {
            Statement::Upsert(row) => (true, row),
            Statement::Delete(row) => (false, row),
            other => panic!("{text} is {other:?}"),
        };
        StatementEntries::default().enter(&connection, is_upsert, &row, &mut ChangedRows::default()).unwrap()
    }

    #[test]
    fn a_key_that_is_stored_as_it_is_written_names_its_row() {
        for text in [
            r#"REPLACE INTO fam___tab ("s","i","b","r") VALUES('it''s',-7,NULL,1)"#,
            r#"REPLACE INTO fam___tab ("i","s") VALUES(true,'')"#,
            r#"DELETE FROM fam___tab WHERE "s" = 'x' AND "i" = 9223372036854775807"#,
        ] {
            assert!(is_named(TABLE, text), "{text}");
        }
    }

    #[test]
    fn what_sqlite_may_take_for_another_key_is_left_to_the_hook() {
        for text in [
            r#"REPLACE INTO fam___tab ("s","i") VALUES('x','1')"#,
            r#"REPLACE INTO fam___tab ("s","i") VALUES('x',1.0)"#,
            r#"REPLACE INTO fam___tab ("s","i") VALUES('x',NULL)"#,
            r#"REPLACE INTO fam___tab ("s","i") VALUES('x',-9223372036854775808)"#,
            r#"REPLACE INTO fam___tab ("s","i") VALUES(1,1)"#,
            r#"REPLACE INTO fam___tab ("s","i") VALUES(x'00',1)"#,
            r#"REPLACE INTO fam___tab ("s","i","s") VALUES('x',1,'y')"#,
            r#"REPLACE INTO fam___tab ("S","i") VALUES('x',1)"#,
            r#"REPLACE INTO fam___tab ("s","r") VALUES('x',1)"#,
            r#"DELETE FROM fam___tab WHERE "s" = 'x'"#,
            r#"DELETE FROM fam___tab WHERE "s" = 'x' AND "i" = 1 AND "r" = 1"#,
        ] {
            assert!(!is_named(TABLE, text), "{text}");
        }
        let upsert = r#"REPLACE INTO fam___tab ("s","i") VALUES('x',1)"#;
        for more in [
            "CREATE UNIQUE INDEX u ON fam___tab (r)",
            "CREATE TRIGGER t AFTER INSERT ON FAM___TAB BEGIN SELECT 1; END",
            "CREATE TEMP TRIGGER t AFTER INSERT ON fam___tab BEGIN SELECT 1; END",
            "CREATE TEMP TABLE fam___tab (a)",
        ] {
            assert!(!is_named(&format!("{TABLE};{more}"), upsert), "{more}");
        }
        for other in [
            TABLE.replace("VARCHAR(191)", "VARCHAR(191) COLLATE NOCASE"),
            TABLE.replace("INTEGER", "NUMERIC"),
            format!("{TABLE} WITHOUT ROWID"),
        ] {
            assert!(!is_named(&other, upsert), "{other}");
        }
    }
}
