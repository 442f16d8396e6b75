//! Records the ledger's definition of each table in an SQLite ctldb, and reads it. Entry points: [`record`], in a
//! transaction that writes, and [`read`], in any. The module compares no table with its definition.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::ctldb::definition::{DEFINITIONS_SEQ, Definition, IS_SCHEMA_CHANGE, RECORD_MARK, Recorded, changed_table};
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LOW_WATER_SEQ;
use crate::ctldb::own_tables::LedgerTable;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;

use super::physical::{read_physical, table_names};

const META: &str = "SELECT CAST(value AS INTEGER) FROM ctlstore_meta WHERE name = ?";
const SET_META: &str = "REPLACE INTO ctlstore_meta (name, value) VALUES (?, ?)";
const LAST: &str = "SELECT COALESCE(MAX(seq), 0) FROM {ledger}";
const BEGINS: &str = "SELECT statement LIKE 'CREATE TABLE %' FROM {ledger} ORDER BY seq LIMIT 1";
const CHANGES: &str = "SELECT seq, statement FROM {ledger} WHERE seq > ? AND {is_schema_change} ORDER BY seq";
const RECORDED: &str = "SELECT ledger_seq, statement FROM ctlstore_table_definition WHERE table_name = ?";
const NAMES: &str = "SELECT table_name FROM ctlstore_table_definition";
const UPSERT: &str = "REPLACE INTO ctlstore_table_definition (table_name, ledger_seq, statement) VALUES (?, ?, ?)";
const FORGET_DROPPED: &str = "DELETE FROM ctlstore_table_definition WHERE statement = '' AND ledger_seq <= ?";
const HAS_MARK: &str = "SELECT 1 FROM ctlstore_table_definition WHERE table_name = ''";
const HAS_RECORD: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ctlstore_table_definition'";

/// The ledger's definition of a table.
pub(super) fn read(db: &Connection, ledger: &LedgerTable, table: &TableRef) -> Result<Definition, CtldbError> {
    let changes = changes(db, ledger, recorded_up_to(db)?.unwrap_or_default())?;
    let rows = changes.iter().map(|(seq, statement)| (*seq, statement.as_str()));
    Ok(Definition::of(table, recorded(db, &table.sql_name())?.as_ref(), rows))
}

/// The names of all tables in the ledger's schema statements.
pub(super) fn names(db: &Connection, ledger: &LedgerTable) -> Result<Vec<String>, CtldbError> {
    let mut names: Vec<String> = Vec::new();
    if has_record(db)? {
        let mut statement = db.prepare_cached(NAMES)?;
        for name in statement.query_map([], |row| row.get(0))? {
            names.push(name?);
        }
    }
    let changes = changes(db, ledger, recorded_up_to(db)?.unwrap_or_default())?;
    names.extend(changes.iter().filter_map(|(_, statement)| changed_table(statement)).map(str::to_owned));
    Ok(names)
}

/// Records all definitions that the ledger has and that are not recorded yet.
pub(super) fn record(db: &Connection, ledger: &LedgerTable) -> Result<(), CtldbError> {
    let last = Seq(db.query_row(&ledger.fill(LAST), [], |row| row.get(0))?);
    let recorded_up_to = recorded_up_to(db)?;
    if recorded_up_to.is_some_and(|seq| seq >= last) {
        return Ok(());
    }
    if recorded_up_to.is_none() && !is_whole(db, ledger)? {
        adopt(db, last)?;
    } else {
        let rows = changes(db, ledger, recorded_up_to.unwrap_or_default())?;
        let mut changes: BTreeMap<&str, Vec<(Seq, &str)>> = BTreeMap::new();
        for (seq, statement) in &rows {
            if let Some(table) = changed_table(statement) {
                changes.entry(table).or_default().push((*seq, statement));
            }
        }
        for (name, changes) in changes {
            // A table with another form of name is no data table.
            let Ok(table) = TableRef::from_sql_name(name) else { continue };
            let known = recorded(db, name)?;
            let last = changes.last().map_or(Seq::ZERO, |(seq, _)| *seq);
            if known.as_ref().is_none_or(|known| known.seq < last) {
                put(db, &table, last, &Definition::of(&table, known.as_ref(), changes))?;
            }
        }
    }
    db.execute(FORGET_DROPPED, [last.0])?;
    db.execute(&format!("REPLACE INTO ctlstore_table_definition {RECORD_MARK}"), [])?;
    db.execute(SET_META, (DEFINITIONS_SEQ, last.to_string()))?;
    Ok(())
}

/// The number of seqs by which the record lags the ledger.
pub(super) fn rows_not_recorded(db: &Connection, ledger: &LedgerTable) -> Result<i64, CtldbError> {
    let last: i64 = db.query_row(&ledger.fill(LAST), [], |row| row.get(0))?;
    Ok(last - recorded_up_to(db)?.unwrap_or_default().0)
}

/// Records a definition as of the ledger row `seq`.
pub(super) fn put(db: &Connection, table: &TableRef, seq: Seq, definition: &Definition) -> Result<(), CtldbError> {
    db.prepare_cached(UPSERT)?.execute(params![table.sql_name(), seq.0, definition.to_record()])?;
    Ok(())
}

/// Records the tables as the file has them, if the ledger has lost or never had the statements that made them. From
/// then on these count as the ledger's definitions.
fn adopt(db: &Connection, last: Seq) -> Result<(), CtldbError> {
    for name in table_names(db)? {
        let Ok(table) = TableRef::from_sql_name(&name) else { continue };
        let Some(physical) = read_physical(db, &name)? else { continue };
        let Ok(schema) = physical.definition(&table) else { continue };
        if physical.obstacles.is_empty() {
            put(db, &table, last, &Definition::Table(schema))?;
        }
    }
    Ok(())
}

/// Whether the ledger still has all schema statements.
fn is_whole(db: &Connection, ledger: &LedgerTable) -> Result<bool, CtldbError> {
    let low_water: Option<i64> = db.query_row(META, [LOW_WATER_SEQ], |row| row.get(0)).optional()?;
    let begins: Option<bool> = db.query_row(&ledger.fill(BEGINS), [], |row| row.get(0)).optional()?;
    Ok(low_water.is_none() && begins == Some(true))
}

/// Whether there is a record. A ctldb that no executive of this version has opened has none.
pub(super) fn has_record(db: &Connection) -> Result<bool, CtldbError> {
    Ok(db.prepare_cached(HAS_RECORD)?.exists([])?)
}

fn recorded_up_to(db: &Connection) -> Result<Option<Seq>, CtldbError> {
    if !has_record(db)? || !db.prepare_cached(HAS_MARK)?.exists([])? {
        return Ok(None);
    }
    Ok(db.prepare_cached(META)?.query_row([DEFINITIONS_SEQ], |row| row.get(0)).optional()?.map(Seq))
}

fn recorded(db: &Connection, name: &str) -> Result<Option<Recorded>, CtldbError> {
    if !has_record(db)? {
        return Ok(None);
    }
    let mut statement = db.prepare_cached(RECORDED)?;
    let recorded = statement.query_row([name], |row| Ok(Recorded { seq: Seq(row.get(0)?), statement: row.get(1)? }));
    Ok(recorded.optional()?)
}

fn changes(db: &Connection, ledger: &LedgerTable, from: Seq) -> Result<Vec<(Seq, String)>, CtldbError> {
    let sql = ledger.fill(CHANGES).replace("{is_schema_change}", IS_SCHEMA_CHANGE);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([from.0], |row| Ok((Seq(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
