//! Finds what differs between two LDBs of one ledger: the present one, and one that was fetched to bring it forward.
//!
//! Entry point: [`Comparison::open`]. Tables are compared by key, within one read transaction of both files, and one row
//! is in memory at a time. This module changes nothing. Its callers decide what follows from a difference.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, file_uri};
use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::quoted;

/// A sort goes to the disk and not to memory. None is needed for tables that the ledger makes.
const SETTINGS: &str = "PRAGMA temp_store = FILE; BEGIN";
const ATTACH: &str = "ATTACH DATABASE ? AS fetched";
const TABLES: &str = "\
SELECT name, max(fetched), min(fetched) FROM (
    SELECT name, 0 AS fetched FROM main.sqlite_schema WHERE type = 'table'
    UNION ALL SELECT name, 1 FROM fetched.sqlite_schema WHERE type = 'table')
WHERE instr(name, '___') > 1 AND substr(name, 1, 5) <> '_ldb_' GROUP BY name ORDER BY name";
const COLUMNS: &str = "SELECT cid, name, type, pk FROM pragma_table_info(?, ?) ORDER BY cid";

/// SQLite's own instructions between two looks at the abort flag: well below a millisecond.
pub(crate) const ABORT_CHECK: i32 = 10_000;

/// One of the two LDBs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Present,
    Fetched,
}

/// Which of the two LDBs have a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Both,
    OnlyPresent,
    OnlyFetched,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its number in the table.
    pub(crate) id: i32,
    pub(crate) name: String,
    /// The type that it is declared with.
    pub(crate) declared: String,
    /// Its place in the key from 1 on, or 0.
    pub(crate) key: i64,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowChange {
    /// Only the present LDB has it.
    Deleted,
    /// Both have it, with other values.
    Changed,
    /// Both have it, and its key is equal by the column's rules but not the same value.
    Renamed,
    /// Only the fetched LDB has it.
    Added,
}

/// A row that differs.
pub(crate) struct ChangedRow<'r> {
    pub(crate) change: RowChange,
    row: &'r Row<'r>,
    columns: usize,
}

impl ChangedRow<'_> {
    /// The value that the fetched LDB has in the column at `index`, NULL in a row that it lacks.
    pub(crate) fn value(&self, index: usize) -> rusqlite::Result<ValueRef<'_>> {
        self.row.get_ref(index)
    }

    /// The value of the key's column at `index`, counted in the table's column order.
    pub(crate) fn key(&self, index: usize) -> rusqlite::Result<ValueRef<'_>> {
        self.row.get_ref(self.columns + index)
    }
}

/// Both LDBs on one connection, as they were when it was opened.
#[derive(Debug)]
pub(crate) struct Comparison {
    connection: Connection,
}

impl Comparison {
    /// Opens the LDB at `present`, and the one at `fetched`, which nobody writes. `abort` ends what runs.
    pub(crate) fn open(present: &Path, fetched: &Path, abort: &Abort) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let mut connection = Connection::open_with_flags(present, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute(ATTACH, [file_uri(fetched, IMMUTABLE)])?;
        let flag = abort.clone();
        connection.progress_handler(ABORT_CHECK, Some(move || flag.is_aborted()))?;
        connection.execute_batch(SETTINGS)?;
        let compared = Self { connection };
        // The first look decides which state it is.
        compared.seq(Side::Present)?;
        Ok(compared)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn seq(&self, side: Side) -> rusqlite::Result<Seq> {
        let sql = format!("SELECT seq FROM {}._ldb_seq WHERE id = 1", side.schema());
        let seq = self.connection.query_row(&sql, [], |row| row.get(0)).optional()?;
        Ok(seq.map_or(Seq::ZERO, Seq))
    }

    /// The ledger that the LDB follows. An LDB of the original names none.
    pub(crate) fn ledger_id(&self, side: Side) -> Option<String> {
        let sql = format!("SELECT value FROM {}._ldb_meta WHERE name = 'ledger_id'", side.schema());
        self.connection.query_row(&sql, [], |row| row.get(0)).ok()
    }

    /// When the last row that the fetched LDB has was written, as it is stored.
    pub(crate) fn last_update(&self) -> rusqlite::Result<Option<String>> {
        const SQL: &str = "SELECT CAST(timestamp AS TEXT) FROM fetched._ldb_last_update WHERE name = 'ledger'";
        self.connection.query_row(SQL, [], |row| row.get(0)).optional()
    }

    /// The tables of families that one of the two has, by name.
    pub(crate) fn tables(&self) -> rusqlite::Result<Vec<(String, Presence)>> {
        let mut statement = self.connection.prepare(TABLES)?;
        let tables = statement.query_map([], |row| {
            let presence = match (row.get(1)?, row.get(2)?) {
                (true, true) => Presence::OnlyFetched,
                (true, false) => Presence::Both,
                _ => Presence::OnlyPresent,
            };
            Ok((row.get(0)?, presence))
        })?;
        tables.collect()
    }

    pub(crate) fn columns(&self, side: Side, table: &str) -> rusqlite::Result<Vec<Column>> {
        let mut statement = self.connection.prepare_cached(COLUMNS)?;
        let columns = statement.query_map([table, side.schema()], |row| {
            Ok(Column { id: row.get(0)?, name: row.get(1)?, declared: row.get(2)?, key: row.get(3)? })
        })?;
        columns.collect()
    }

    /// The statement that makes the table.
    pub(crate) fn definition(&self, side: Side, table: &str) -> rusqlite::Result<String> {
        definition(&self.connection, side.schema(), table)
    }

    pub(crate) fn count(&self, side: Side, table: &str) -> rusqlite::Result<u64> {
        count(&self.connection, &format!("{}.{}", side.schema(), quoted(table)))
    }

    /// Calls `each` with every row in which a table that both have differs, until that says no. `columns` are those of
    /// the fetched table and have a key; `present` are those of the present one, which may lack some that have no key.
    pub(crate) fn differences<E: From<rusqlite::Error>>(
        &self,
        table: &str,
        (present, columns): (&[Column], &[Column]),
        mut each: impl FnMut(&ChangedRow<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let queries = Queries::new(table, present, columns);
        let goes_on = self.rows(&queries.changed, columns.len(), &mut each, |row, at| {
            Ok(match (row.get(at)?, row.get(at + 1)?) {
                (true, _) => RowChange::Deleted,
                (false, true) => RowChange::Renamed,
                _ => RowChange::Changed,
            })
        })?;
        if goes_on {
            self.rows(&queries.added, columns.len(), &mut each, |_, _| Ok(RowChange::Added))?;
        }
        Ok(())
    }

    /// Calls `each` with every row of a fetched table, until that says no.
    pub(crate) fn all_rows<E: From<rusqlite::Error>>(
        &self,
        table: &str,
        columns: &[Column],
        mut each: impl FnMut(&ChangedRow<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let sql = format!("{} FROM fetched.{} AS n{}", select(columns, "n"), quoted(table), in_key_order(columns));
        self.rows(&sql, columns.len(), &mut each, |_, _| Ok(RowChange::Added)).map(drop)
    }

    fn rows<E: From<rusqlite::Error>>(
        &self,
        sql: &str,
        columns: usize,
        each: &mut impl FnMut(&ChangedRow<'_>) -> Result<bool, E>,
        change: impl Fn(&Row<'_>, usize) -> rusqlite::Result<RowChange>,
    ) -> Result<bool, E> {
        let mut statement = self.connection.prepare(sql)?;
        // The values after columns and key tell how the row differs.
        let flags = statement.column_count().saturating_sub(2);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let change = change(row, flags)?;
            if !each(&ChangedRow { change, row, columns })? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Side {
    fn schema(self) -> &'static str {
        match self {
            Self::Present => "main",
            Self::Fetched => "fetched",
        }
    }
}

/// The statement that makes a table, as the schema has it.
pub(crate) fn definition(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<String> {
    let sql = format!("SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?");
    connection.query_row(&sql, [table], |row| row.get(0))
}

/// The rows of the table itself, not of an index on it; the table's name is quoted.
pub(crate) fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table} NOT INDEXED"), [], |row| row.get(0))?;
    Ok(rows.cast_unsigned())
}

/// The queries that find the rows in which one table differs.
struct Queries {
    /// Rows of the present LDB that are gone or changed, in the order of its file, so that each page is written once.
    changed: String,
    /// Rows that only the fetched one has, in the key's order, for the sake of the key's index.
    added: String,
}

impl Queries {
    fn new(table: &str, present: &[Column], columns: &[Column]) -> Self {
        let name = quoted(table);
        let keys: Vec<_> = columns.iter().filter(|column| column.key > 0).collect();
        let first = keys.first().map_or_else(String::new, |column| quoted(&column.name));
        let same: Vec<_> = keys.iter().map(|column| format!("o.{0} = n.{0}", quoted(&column.name))).collect();
        let (same, renamed) = (same.join(" AND "), any(keys.iter().map(|column| differs(column))));
        let is_there = |column: &Column| present.iter().any(|other| other.name == column.name);
        let other = any(columns.iter().map(|column| match is_there(column) {
            true => differs(column),
            // A column that was added since has no value in the present LDB.
            false => format!("n.{} IS NOT NULL", quoted(&column.name)),
        }));
        let changed = format!(
            "{}, n.{first} IS NULL, {renamed} FROM main.{name} AS o NOT INDEXED LEFT JOIN fetched.{name} AS n ON {same} \
             WHERE n.{first} IS NULL OR {other}",
            select(columns, "o")
        );
        let added = format!(
            "{} FROM fetched.{name} AS n LEFT JOIN main.{name} AS o ON {same} WHERE o.{first} IS NULL{}",
            select(columns, "n"),
            in_key_order(columns)
        );
        Self { changed, added }
    }
}

/// Selects all columns of the fetched row, and the key of the row that `key_of` names.
fn select(columns: &[Column], key_of: &str) -> String {
    let values = columns.iter().map(|column| format!("n.{}", quoted(&column.name)));
    let key = columns.iter().filter(|column| column.key > 0);
    let key = key.map(|column| format!("{key_of}.{}", quoted(&column.name)));
    format!("SELECT {}", values.chain(key).collect::<Vec<_>>().join(","))
}

fn in_key_order(columns: &[Column]) -> String {
    let mut keys: Vec<_> = columns.iter().filter(|column| column.key > 0).collect();
    keys.sort_by_key(|column| column.key);
    let names: Vec<_> = keys.iter().map(|column| format!("n.{}", quoted(&column.name))).collect();
    if names.is_empty() { String::new() } else { format!(" ORDER BY {}", names.join(",")) }
}

/// Whether a column's two values are not the very same: neither its collation nor 1 = 1.0 makes them so.
fn differs(column: &Column) -> String {
    let name = quoted(&column.name);
    let declared = column.declared.to_ascii_uppercase();
    let holds_text = !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|part| declared.contains(part));
    match holds_text {
        // No number is stored in such a column.
        true => format!("o.{name} IS NOT n.{name} COLLATE BINARY"),
        false => format!("(o.{name} IS NOT n.{name} COLLATE BINARY OR typeof(o.{name}) <> typeof(n.{name}))"),
    }
}

fn any(conditions: impl Iterator<Item = String>) -> String {
    format!("({})", conditions.collect::<Vec<_>>().join(" OR "))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Two databases with the table `fam___tab` of these definitions and rows.
    fn pair(directory: &Path, table: &str, rows: [&str; 2]) -> (PathBuf, PathBuf) {
        let make = |name: &str, rows: &str| {
            let path = directory.join(name);
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch("CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY, seq BIGINT)").unwrap();
            connection.execute_batch(&format!("CREATE TABLE fam___tab {table}; {rows}")).unwrap();
            path
        };
        (make("present", rows[0]), make("fetched", rows[1]))
    }

    fn found(table: &str, rows: [&str; 2]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (present, fetched) = pair(directory.path(), table, rows);
        let compared = Comparison::open(&present, &fetched, &Abort::default()).unwrap();
        let columns = compared.columns(Side::Fetched, "fam___tab").unwrap();
        let mut found = Vec::new();
        compared
            .differences::<rusqlite::Error>("fam___tab", (&columns, &columns), |row| {
                found.push(format!("{:?} {:?} {:?}", row.change, row.key(0)?, row.value(1)?));
                Ok(true)
            })
            .unwrap();
        found
    }

    #[test]
    fn rows_differ_by_their_very_values() {
        let insert = |values: &str| format!("INSERT INTO fam___tab VALUES {values}");
        let rows = |old: &str, new: &str| [insert(old), insert(new)];
        let found = |table: &str, rows: [String; 2]| found(table, [&rows[0], &rows[1]]);
        let table = "(k INTEGER, v BLOB, PRIMARY KEY(k))";
        let old = "(1,'a'),(2,'b'),(3,1),(4,NULL),(5,'x')";
        let new = "(2,'b'),(3,1.0),(4,NULL),(5,'X'),(6,'f')";
        let want = [
            "Deleted Integer(1) Null",
            "Changed Integer(3) Real(1.0)",
            "Changed Integer(5) Text([88])",
            "Added Integer(6) Text([102])",
        ];
        assert_eq!(found(table, rows(old, new)), want);
        let table = "(k TEXT COLLATE NOCASE, v TEXT COLLATE NOCASE, PRIMARY KEY(k))";
        let want = ["Renamed Text([97]) Text([120])", "Changed Text([98]) Text([88])"];
        assert_eq!(found(table, rows("('a','x'),('b','x')", "('A','x'),('b','X')")), want);
    }

    #[test]
    fn no_comparison_sorts_or_scans_twice() {
        for table in [
            "(a VARCHAR(191), b INTEGER, v TEXT, PRIMARY KEY(b, a))",
            "(a INTEGER, v TEXT, PRIMARY KEY(a))",
            "(a TEXT, v TEXT, PRIMARY KEY(a)) WITHOUT ROWID",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (present, fetched) = pair(directory.path(), table, ["", ""]);
            let compared = Comparison::open(&present, &fetched, &Abort::default()).unwrap();
            let columns = compared.columns(Side::Fetched, "fam___tab").unwrap();
            let Queries { changed, added } = Queries::new("fam___tab", &columns, &columns);
            for query in [changed, added] {
                let mut plan = compared.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
                let steps: Vec<String> =
                    plan.query_map([], |row| row.get("detail")).unwrap().collect::<rusqlite::Result<_>>().unwrap();
                assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
                assert_eq!(steps.iter().filter(|step| step.starts_with("SCAN")).count(), 1, "{steps:?}");
            }
        }
    }
}
