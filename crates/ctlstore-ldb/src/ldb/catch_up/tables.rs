//! Writes the tables in which two LDBs differ, and names in the history what it changes. Entry point:
//! [`TableWriter::write_all`], within a transaction that its caller begins and ends.
//!
//! A table that both LDBs have with the same definition gets the rows that differ. A table that got columns gets those
//! columns first. Any other table is made anew.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement};

use crate::changelog::history::{History, NamedRows, TableChange, names_of};
use crate::difference::{self, ChangedRow, Column, Comparison, Presence, RowChange, Side};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::quoted;

use super::progress::{CatchUpProgress, Stop};

/// Through another unique index a row could stand in the way of one that is written before it.
const HAS_OTHER_UNIQUE: &str = "SELECT 1 FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND origin <> 'pk'";

/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 1_024;

pub(super) struct TableWriter<'a> {
    writer: &'a Connection,
    compared: &'a Comparison,
    history: Option<&'a mut History>,
    /// The seq that changes are named with.
    to: Seq,
    progress: &'a dyn Fn(CatchUpProgress),
    /// Fails if what is left of the disk belongs to others.
    check_room: &'a dyn Fn() -> Result<(), Stop>,
    done: CatchUpProgress,
}

/// One table at work.
struct Table<'t> {
    name: &'t str,
    presence: Presence,
    /// Those of the fetched table and of the present one.
    columns: Vec<Column>,
    present: Vec<Column>,
}

impl Table<'_> {
    fn has_key(&self) -> bool {
        self.columns.iter().any(|column| column.key > 0)
    }

    /// Whether its columns are the same, so that its rows can be compared.
    fn is_alike(&self) -> bool {
        self.presence == Presence::Both && self.columns == self.present
    }

    /// The columns that the present table lacks, if that is all in which their columns differ.
    fn added_columns(&self) -> Option<&[Column]> {
        self.columns.strip_prefix(self.present.as_slice()).filter(|added| added.iter().all(|column| column.key == 0))
    }
}

impl<'a> TableWriter<'a> {
    pub(super) fn new(
        writer: &'a Connection,
        compared: &'a Comparison,
        history: Option<&'a mut History>,
        to: Seq,
        progress: &'a dyn Fn(CatchUpProgress),
        check_room: &'a dyn Fn() -> Result<(), Stop>,
    ) -> Self {
        Self { writer, compared, history, to, progress, check_room, done: CatchUpProgress::default() }
    }

    pub(super) fn tables(&self) -> usize {
        self.done.tables
    }

    pub(super) fn rows(&self) -> u64 {
        self.done.rows
    }

    /// Brings all of `tables` to what the fetched LDB has.
    pub(super) fn write_all(&mut self, tables: &[(String, Presence)]) -> Result<(), Stop> {
        self.done.tables = tables.len();
        (self.progress)(self.done);
        // Before any table is made: names that differ by case alone are one name.
        for (name, _) in tables.iter().filter(|(_, presence)| *presence == Presence::OnlyPresent) {
            self.drop_table(name)?;
        }
        for (name, presence) in tables {
            match presence {
                Presence::OnlyPresent => self.name_table(TableChange::Dropped, name),
                _ => self.write(name, *presence)?,
            }
            self.done.tables_done += 1;
            (self.progress)(self.done);
        }
        Ok(())
    }

    fn write(&mut self, name: &str, presence: Presence) -> Result<(), Stop> {
        let columns = self.compared.columns(Side::Fetched, name)?;
        let present = match presence {
            Presence::Both => self.compared.columns(Side::Present, name)?,
            _ => Vec::new(),
        };
        let table = Table { name, presence, columns, present };
        let mut named = NamedRows::new(self.compared.connection(), name, &table.columns)?;
        if presence == Presence::Both && table.has_key() && self.has_definition_of(&table)? {
            self.write_differences(&table, &mut named)?;
        } else {
            self.write_anew(&table, &mut named)?;
        }
        self.check_count(name)?;
        if presence == Presence::Both && !table.is_alike() {
            self.name_table(TableChange::Altered, name);
        } else if let Some(history) = &mut self.history {
            named.enter(history, name, self.to);
        }
        Ok(())
    }

    /// Whether the present table is defined as the fetched one is, after columns were added that it lacks.
    fn has_definition_of(&self, table: &Table<'_>) -> Result<bool, Stop> {
        let wanted = self.compared.definition(Side::Fetched, table.name)?;
        let mut found = self.compared.definition(Side::Present, table.name)?;
        let added = table.added_columns().unwrap_or_default();
        if found != wanted && !added.is_empty() {
            for column in added {
                let table = quoted(table.name);
                let name = quoted(&column.name);
                self.writer.execute(&format!("ALTER TABLE main.{table} ADD COLUMN {name} {}", column.declared), [])?;
            }
            found = difference::definition(self.writer, "main", table.name)?;
        }
        Ok(found == wanted && !self.writer.prepare(HAS_OTHER_UNIQUE)?.exists([table.name])?)
    }

    fn write_differences(&mut self, table: &Table<'_>, named: &mut NamedRows) -> Result<(), Stop> {
        let mut rows = RowWriter::new(self.writer, table.name, &table.columns)?;
        let compared = self.compared;
        compared.differences(table.name, (&table.present, &table.columns), |row| {
            named.add(row)?;
            rows.write(row)?;
            self.wrote_row()?;
            Ok(true)
        })
    }

    /// Drops the table, if it is there, and makes it as the fetched LDB has it.
    fn write_anew(&mut self, table: &Table<'_>, named: &mut NamedRows) -> Result<(), Stop> {
        if table.is_alike() && table.has_key() {
            // All rows are written, but only these are others than before.
            self.compared.differences(table.name, (&table.present, &table.columns), |row| {
                named.add(row)?;
                Ok::<_, Stop>(!named.is_too_many())
            })?;
        }
        if table.presence == Presence::Both {
            self.drop_table(table.name)?;
        }
        self.writer.execute(&self.compared.definition(Side::Fetched, table.name)?, [])?;
        let mut rows = RowWriter::new(self.writer, table.name, &table.columns)?;
        let compared = self.compared;
        let is_new = table.presence == Presence::OnlyFetched;
        compared.all_rows(table.name, &table.columns, |row| {
            if is_new {
                named.add(row)?;
            }
            rows.write(row)?;
            self.wrote_row()?;
            Ok(true)
        })
    }

    fn drop_table(&self, name: &str) -> Result<(), Stop> {
        self.writer.execute(&format!("DROP TABLE main.{}", quoted(name)), [])?;
        Ok(())
    }

    fn name_table(&mut self, change: TableChange, name: &str) {
        if let Some(history) = &mut self.history {
            history.table(change, names_of(name), self.to);
        }
    }

    fn wrote_row(&mut self) -> Result<(), Stop> {
        failpoint::hit("catch-up-amid-rows");
        self.done.rows += 1;
        if self.done.rows.is_multiple_of(REPORT_EVERY) {
            (self.progress)(self.done);
            (self.check_room)()?;
        }
        Ok(())
    }

    /// An index that lacks rows would have hidden them from the comparison.
    fn check_count(&self, name: &str) -> Result<(), Stop> {
        let found = difference::count(self.writer, &format!("main.{}", quoted(name)))?;
        let wanted = self.compared.count(Side::Fetched, name)?;
        if found == wanted {
            Ok(())
        } else {
            Err(Stop::Mismatch(format!("table {name} came to {found} rows and not to {wanted}")))
        }
    }
}

/// Writes rows of one table.
struct RowWriter<'w> {
    insert: Statement<'w>,
    delete: Option<Statement<'w>>,
    /// `None` for a table whose columns are all in its key.
    update: Option<Statement<'w>>,
    /// The columns outside of the key, by their place in the table.
    others: Vec<usize>,
    columns: usize,
    keys: usize,
}

impl<'w> RowWriter<'w> {
    fn new(writer: &'w Connection, table: &str, columns: &[Column]) -> Result<Self, Stop> {
        let (table, names) = (quoted(table), columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>());
        let placeholders = vec!["?"; names.len()].join(",");
        let insert =
            writer.prepare(&format!("INSERT INTO main.{table} ({}) VALUES ({placeholders})", names.join(",")))?;
        let part = |is_key: bool| {
            let columns = columns.iter().enumerate().filter(move |(_, column)| (column.key > 0) == is_key);
            columns.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let keys = part(true);
        let others = part(false);
        // `IS` also finds what has no value.
        let is_row = keys.iter().map(|at| format!("{} IS ?", names[*at])).collect::<Vec<_>>().join(" AND ");
        let set = others.iter().map(|at| format!("{} = ?", names[*at])).collect::<Vec<_>>().join(",");
        let prepare = |sql: String, is_wanted: bool| is_wanted.then(|| writer.prepare(&sql)).transpose();
        let has_key = !keys.is_empty();
        Ok(Self {
            insert,
            delete: prepare(format!("DELETE FROM main.{table} WHERE {is_row}"), has_key)?,
            update: prepare(format!("UPDATE main.{table} SET {set} WHERE {is_row}"), has_key && !others.is_empty())?,
            others,
            columns: columns.len(),
            keys: keys.len(),
        })
    }

    fn write(&mut self, row: &ChangedRow<'_>) -> Result<(), Stop> {
        match row.change {
            RowChange::Added => self.insert(row),
            RowChange::Deleted => self.delete(row),
            RowChange::Changed => self.update(row),
            RowChange::Renamed => self.delete(row).and_then(|()| self.insert(row)),
        }
    }

    fn insert(&mut self, row: &ChangedRow<'_>) -> Result<(), Stop> {
        for index in 0..self.columns {
            bind(&mut self.insert, index, row.value(index)?)?;
        }
        self.insert.raw_execute()?;
        Ok(())
    }

    fn delete(&mut self, row: &ChangedRow<'_>) -> Result<(), Stop> {
        let Some(delete) = &mut self.delete else { return Err(no_key()) };
        for index in 0..self.keys {
            bind(delete, index, row.key(index)?)?;
        }
        delete.raw_execute()?;
        Ok(())
    }

    fn update(&mut self, row: &ChangedRow<'_>) -> Result<(), Stop> {
        let Some(update) = &mut self.update else { return Err(no_key()) };
        for (index, column) in self.others.iter().enumerate() {
            bind(update, index, row.value(*column)?)?;
        }
        for index in 0..self.keys {
            bind(update, self.others.len() + index, row.key(index)?)?;
        }
        match update.raw_execute()? {
            1 => Ok(()),
            rows => Err(Stop::Mismatch(format!("a key stands for {rows} rows"))),
        }
    }
}

fn no_key() -> Stop {
    Stop::Mismatch("a table without a key was compared by key".to_owned())
}

/// Binds a value as it is stored; `index` counts from 0.
fn bind(statement: &mut Statement<'_>, index: usize, value: ValueRef<'_>) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(index + 1, ToSqlOutput::Borrowed(value))
}
