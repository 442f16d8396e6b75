//! Makes entries from the statement itself. A canonical upsert or delete names the key of the
//! one row that it changes. If SQLite stores and compares that key exactly as it is written,
//! nothing needs to ask SQLite which row it was. The hook does the rest: see `capture`. Entry
//! point: [`StatementEntries::enter`].

use rusqlite::Connection;

use ctlstore_core::sql::RowStatement;

use super::changes::ChangedRows;
use super::entry::{Affinity, TableKey};

/// Whether the statements of a table name its rows. It must be an ordinary table, without a
/// trigger and without a collation other than bytes. It must have no other unique index, because
/// a row could replace a second one through it. A temporary table could hide any other table.
const IS_ORDINARY: &str = "\
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql NOT LIKE '%collate%')
   AND EXISTS (SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND name = ?1 AND type = 'table'
               AND NOT wr AND NOT strict)
   AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE)
   AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE \"unique\" AND origin <> 'pk')
   AND NOT EXISTS (SELECT 1 FROM temp.sqlite_schema)";

/// The most shapes of statements that are remembered, as many as are kept prepared.
const SHAPES: usize = 256;

/// The shapes of statements that were seen, with the keys that they name.
#[derive(Debug, Default)]
pub struct StatementEntries {
    /// The shape that was used last comes first.
    shapes: Vec<StatementShape>,
    /// The bytes of the value that is being written.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct StatementShape {
    is_upsert: bool,
    table: String,
    columns: String,
    /// `None` if the hook has to find the row.
    key: Option<StatementKey>,
}

/// The table's key, and the places of its values in the statement.
#[derive(Debug)]
struct StatementKey {
    table: TableKey,
    /// In the order of the key columns.
    values: Vec<KeyLocation>,
}

#[derive(Debug)]
struct KeyLocation {
    /// The index among the statement's values.
    index: usize,
    affinity: Affinity,
}

impl StatementEntries {
    /// Enters the row that `row` names into `changes`. False, with nothing entered, if the hook
    /// has to find the row.
    pub fn enter(
        &mut self,
        connection: &Connection,
        is_upsert: bool,
        row: &RowStatement<'_>,
        changes: &mut ChangedRows,
    ) -> rusqlite::Result<bool> {
        let fits = |shape: &StatementShape| {
            shape.is_upsert == is_upsert && shape.table == row.table && shape.columns == row.columns
        };
        match self.shapes.iter().position(fits) {
            Some(0) => {}
            Some(at) => self.shapes[..=at].rotate_right(1),
            None => {
                let key = StatementKey::of(connection, is_upsert, row)?;
                self.shapes.truncate(SHAPES - 1);
                let table = row.table.to_owned();
                let columns = row.columns.clone().into_owned();
                self.shapes.insert(0, StatementShape { is_upsert, table, columns, key });
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

    /// Forgets all shapes, because tables may have changed.
    pub fn forget(&mut self) {
        self.shapes.clear();
    }
}

impl StatementKey {
    fn of(connection: &Connection, is_upsert: bool, row: &RowStatement<'_>) -> rusqlite::Result<Option<Self>> {
        let is_ordinary = connection.prepare_cached(IS_ORDINARY)?.query_row([row.table], |row| row.get(0))?;
        let table = if is_ordinary { TableKey::load(connection, row.table)? } else { None };
        let Some(table) = table else { return Ok(None) };
        let named: Vec<_> = row.columns().collect();
        let value = |(name, affinity)| {
            let mut found = named.iter().enumerate().filter(|(_, column)| **column == name);
            let (index, _) = found.next()?;
            // Of a column that is named twice, nothing tells which value counts.
            found.next().is_none().then_some(KeyLocation { index, affinity })
        };
        let values: Option<Vec<_>> = table.columns().map(value).collect();
        // A delete by more or fewer columns than the key changes other rows, or not this one.
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
