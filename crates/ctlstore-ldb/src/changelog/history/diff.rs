//! From one LDB file to another: when a snapshot takes the place of an LDB, the rows
//! in which the two differ are what has changed for those who follow. They are found
//! by comparing the files, table by table and by key.
//!
//! The group is left without its commit mark: setting the link to the new file is what
//! commits it. Whoever opens the history next, with the seq of the LDB that is there
//! then, marks it or cuts it off.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use crate::changelog::entry::TableKey;
use ctlstore_core::disk::{IMMUTABLE, file_uri};
use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::quoted;

use super::line::{Op, TableChange};
use super::writer::History;

/// Rows of one table that are named; beyond, the table is to be read again.
const MAX_ROWS_PER_TABLE: usize = 50_000;

const ATTACH: &str = "ATTACH DATABASE ? AS fresh";
const SEQ: &str = "SELECT seq FROM main._ldb_seq WHERE id = 1";
const FRESH_SEQ: &str = "SELECT seq FROM fresh._ldb_seq WHERE id = 1";
const LEDGER: &str = "SELECT value FROM main._ldb_meta WHERE name = 'ledger_id'";
const FRESH_LEDGER: &str = "SELECT value FROM fresh._ldb_meta WHERE name = 'ledger_id'";
const TABLES: &str = "\
SELECT name, max(fresh), min(fresh) FROM (
    SELECT name, 0 AS fresh FROM main.sqlite_schema WHERE type = 'table'
    UNION ALL SELECT name, 1 FROM fresh.sqlite_schema WHERE type = 'table')
WHERE instr(name, '___') > 1 AND substr(name, 1, 5) <> '_ldb_' GROUP BY name ORDER BY name";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info(?, ?) ORDER BY cid";

/// Why two LDBs could not be compared. Clients are told to start over then.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("two ldbs can't be compared: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// A column: name, declared type, and place in the key from 1 on, or 0.
type Column = (String, String, i64);

/// Enters what the LDB at `new`, which nobody writes, has in another way than the one
/// at `old` has, before the former takes the latter's place. Of one that is not so far
/// clients are told to start over: it comes of a ledger that was restored from a backup, in
/// which the seqs that follow may be those of other rows. Nothing is entered where `new` is
/// of another ledger: what that means is found when it is opened.
pub(crate) fn enter(history: &mut History, old: &Path, new: &Path) -> Result<(), DiffError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(old, flags)?;
    connection.execute(ATTACH, [file_uri(new, IMMUTABLE)])?;
    let seq = |sql| connection.query_row(sql, [], |row| row.get(0)).optional().map(|seq| Seq(seq.unwrap_or(0)));
    let (from, to) = (seq(SEQ)?, seq(FRESH_SEQ)?);
    // An LDB of the original has no such table, and names no ledger.
    let ledger = |sql| connection.query_row(sql, [], |row| row.get::<_, String>(0)).ok();
    let (follows, other) = (ledger(LEDGER), ledger(FRESH_LEDGER));
    if follows.is_none() || follows != other {
        return Ok(());
    }
    history.begin();
    if to < from {
        history.went_back(to);
        history.prepare(from, to);
        return Ok(());
    }
    let mut tables = connection.prepare(TABLES)?;
    let mut rows = tables.query([])?;
    while let Some(row) = rows.next()? {
        let (table, in_new, only_new): (String, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let compare = Compare { connection: &connection, table: &table, to };
        match (in_new, only_new) {
            (true, true) => compare.all_rows(history)?,
            (true, false) => compare.both(history)?,
            _ => history.table(TableChange::Dropped, compare.names(), to),
        }
    }
    history.prepare(from, to);
    Ok(())
}

struct Compare<'c> {
    connection: &'c Connection,
    table: &'c str,
    to: Seq,
}

impl Compare<'_> {
    /// Family and table.
    fn names(&self) -> (&str, &str) {
        self.table.split_once("___").unwrap_or(("", self.table))
    }

    fn columns(&self, schema: &str) -> rusqlite::Result<Vec<Column>> {
        let mut statement = self.connection.prepare_cached(COLUMNS)?;
        statement.query_map([self.table, schema], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    }

    fn all_rows(&self, history: &mut History) -> rusqlite::Result<()> {
        let columns = self.columns("fresh")?;
        let sql = format!("SELECT {} FROM fresh.{} AS n", list(&columns, "n"), quoted(self.table));
        self.enter(history, &columns, &[(Op::Upsert, sql)])
    }

    fn both(&self, history: &mut History) -> rusqlite::Result<()> {
        let columns = self.columns("fresh")?;
        if columns != self.columns("main")? {
            history.table(TableChange::Altered, self.names(), self.to);
            return Ok(());
        }
        let table = quoted(self.table);
        let key: Vec<_> = columns.iter().filter(|column| column.2 > 0).map(|column| quoted(&column.0)).collect();
        let Some(first) = key.first() else {
            history.table(TableChange::Many, self.names(), self.to);
            return Ok(());
        };
        let same: Vec<_> = key.iter().map(|name| format!("o.{name} = n.{name}")).collect();
        let same = same.join(" AND ");
        let differs: String = columns
            .iter()
            .map(|(name, ..)| quoted(name))
            .fold(String::new(), |sql, name| format!("{sql} OR o.{name} IS NOT n.{name}"));
        let changed = format!(
            "SELECT {} FROM fresh.{table} AS n LEFT JOIN main.{table} AS o ON {same} WHERE o.{first} IS NULL{differs}",
            list(&columns, "n")
        );
        let gone = format!(
            "SELECT {} FROM main.{table} AS o LEFT JOIN fresh.{table} AS n ON {same} WHERE n.{first} IS NULL",
            list(&columns, "o")
        );
        self.enter(history, &columns, &[(Op::Delete, gone), (Op::Upsert, changed)])
    }

    /// Enters the keys that the queries give, or, where they are too many, the table.
    fn enter(&self, history: &mut History, columns: &[Column], queries: &[(Op, String)]) -> rusqlite::Result<()> {
        let Some(key) = TableKey::load(self.connection, self.table)? else {
            history.table(TableChange::Many, self.names(), self.to);
            return Ok(());
        };
        let at: Vec<_> = (0..).zip(columns).filter(|(_, column)| column.2 > 0).map(|(index, _)| index).collect();
        let mut entries = Vec::new();
        for (op, sql) in queries {
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if entries.len() == MAX_ROWS_PER_TABLE {
                    history.table(TableChange::Many, self.names(), self.to);
                    return Ok(());
                }
                let mut entry = Vec::new();
                key.push(&mut entry, |index| value(row, &at, index));
                entries.push((*op, entry));
            }
        }
        for (op, entry) in &entries {
            history.row(Some(*op), entry, self.to);
        }
        Ok(())
    }
}

/// The value of the table's column `index`, where `row` has those of the columns `at`.
fn value<'r>(row: &'r Row<'_>, at: &[i32], index: i32) -> ValueRef<'r> {
    let position = at.iter().position(|column| *column == index);
    position.and_then(|position| row.get_ref(position).ok()).unwrap_or(ValueRef::Null)
}

/// The key columns, in column order.
fn list(columns: &[Column], alias: &str) -> String {
    let key = columns.iter().filter(|column| column.2 > 0);
    let names: Vec<_> = key.map(|(name, ..)| format!("{alias}.{}", quoted(name))).collect();
    if names.is_empty() { "NULL".to_owned() } else { names.join(",") }
}
