//! Names in the history of changes what differs between two LDBs. A snapshot brings rows that no ledger row has brought;
//! with this, clients of the feed need not start over.
//!
//! Entry points: [`enter`], if the fetched LDB takes the place of the present one, and [`NamedRows`], if the present one
//! is brought forward. `crate::difference` finds the differences.
//!
//! [`enter`] leaves the group without its commit mark: setting the link to the new file is what commits it. The next
//! opening of the history knows the seq of the LDB that is there then, and marks the group or cuts it off.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use crate::changelog::entry::TableKey;
use crate::difference::{ChangedRow, Column, Comparison, Presence, RowChange, Side};
use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;

use super::line::{Op, TableChange};
use super::writer::History;

/// Rows of one table that are named; beyond, the table is to be read again.
const MAX_ROWS_PER_TABLE: usize = 50_000;

/// Why two LDBs could not be compared. Clients are told to start over then.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("two ldbs can't be compared: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Enters what the LDB at `new`, which nobody writes, has in another way than the one at `old`, before the former takes
/// the latter's place.
///
/// If `new` is not so far, clients are told to start over: it comes of a ledger that was restored from a backup, and the
/// seqs that follow may be those of other rows. Nothing is entered if `new` is of another ledger: what that means is
/// found when it is opened.
pub(crate) fn enter(history: &mut History, old: &Path, new: &Path) -> Result<(), DiffError> {
    let compared = Comparison::open(old, new, &Abort::default())?;
    let from = compared.seq(Side::Present)?;
    let to = compared.seq(Side::Fetched)?;
    let follows = compared.ledger_id(Side::Present);
    let other = compared.ledger_id(Side::Fetched);
    if follows.is_none() || follows != other {
        return Ok(());
    }
    history.begin();
    if to < from {
        history.went_back(to);
        history.prepare(from, to);
        return Ok(());
    }
    for (table, presence) in compared.tables()? {
        enter_table(history, &compared, (&table, presence), to)?;
    }
    history.prepare(from, to);
    Ok(())
}

fn enter_table(
    history: &mut History,
    compared: &Comparison,
    (table, presence): (&str, Presence),
    to: Seq,
) -> Result<()> {
    if presence == Presence::OnlyPresent {
        history.table(TableChange::Dropped, names_of(table), to);
        return Ok(());
    }
    let columns = compared.columns(Side::Fetched, table)?;
    let mut named = NamedRows::new(compared.connection(), table, &columns)?;
    let mut add = |row: &ChangedRow<'_>| {
        named.add(row)?;
        Ok::<_, rusqlite::Error>(!named.is_too_many())
    };
    match presence {
        Presence::Both => {
            let present = compared.columns(Side::Present, table)?;
            if columns != present {
                history.table(TableChange::Altered, names_of(table), to);
                return Ok(());
            }
            if columns.iter().any(|column| column.key > 0) {
                compared.differences::<rusqlite::Error>(table, (&present, &columns), &mut add)?;
            }
        }
        _ => compared.all_rows::<rusqlite::Error>(table, &columns, &mut add)?,
    }
    named.enter(history, table, to);
    Ok(())
}

/// Family and table.
pub(crate) fn names_of(table: &str) -> (&str, &str) {
    table.split_once("___").unwrap_or(("", table))
}

/// The rows in which one table differs, as entries of the history. Bounded: too many rows become the table's name.
#[derive(Debug)]
pub(crate) struct NamedRows {
    /// `None` for a table whose rows can't be named.
    key: Option<TableKey>,
    /// The numbers of the key's columns.
    ids: Vec<i32>,
    deleted: Vec<Vec<u8>>,
    upserted: Vec<Vec<u8>>,
    is_too_many: bool,
}

impl NamedRows {
    pub(crate) fn new(connection: &Connection, table: &str, columns: &[Column]) -> Result<Self> {
        let key = TableKey::load(connection, table)?;
        let ids = columns.iter().filter(|column| column.key > 0).map(|column| column.id).collect();
        let is_too_many = key.is_none();
        Ok(Self { key, ids, deleted: Vec::new(), upserted: Vec::new(), is_too_many })
    }

    /// Whether the table is named and not its rows, so that the rest need not be looked at.
    pub(crate) fn is_too_many(&self) -> bool {
        self.is_too_many
    }

    pub(crate) fn add(&mut self, row: &ChangedRow<'_>) -> Result<()> {
        let Some(key) = self.key.as_ref().filter(|_| !self.is_too_many) else { return Ok(()) };
        if self.deleted.len() + self.upserted.len() == MAX_ROWS_PER_TABLE {
            self.is_too_many = true;
            (self.deleted, self.upserted) = (Vec::new(), Vec::new());
            return Ok(());
        }
        let mut values = Vec::with_capacity(self.ids.len());
        for index in 0..self.ids.len() {
            values.push(row.key(index)?);
        }
        let value_of = |id| self.ids.iter().position(|known| *known == id).map_or(ValueRef::Null, |at| values[at]);
        let mut entry = Vec::new();
        key.push(&mut entry, value_of);
        match row.change {
            RowChange::Deleted => self.deleted.push(entry),
            _ => self.upserted.push(entry),
        }
        Ok(())
    }

    /// Enters the rows, those that are gone first.
    pub(crate) fn enter(self, history: &mut History, table: &str, to: Seq) {
        if self.is_too_many {
            return history.table(TableChange::Many, names_of(table), to);
        }
        self.deleted.iter().for_each(|entry| history.row(Some(Op::Delete), entry, to));
        self.upserted.iter().for_each(|entry| history.row(Some(Op::Upsert), entry, to));
    }
}
