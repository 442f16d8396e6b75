//! Records the ledger's definition of each table, on a server of the MySQL family. Entry points: [`record_all`], in
//! transactions of its own, and [`record`], one step under a ledger lock that the caller holds. The module compares
//! no table with its definition.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::ctldb::definition::{DEFINITIONS_SEQ, Definition, IS_SCHEMA_CHANGE, RECORD_MARK, Recorded, changed_table};
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables;
use crate::ctldb::own_tables::LedgerTable;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;

use super::catalog;
use super::error::SqlError;
use super::pooled_connection::PooledConnection;
use super::rows::quote;

/// Leaves the lock's clock as it is: nothing is written that the precondition of another transaction names.
const LOCK: &str = "START TRANSACTION; SELECT COUNT(*) FROM locks WHERE id = 'ledger' FOR UPDATE";
/// The recorded seq, the low-water mark, the ledger's last seq, and whether its first row makes a table.
const STATE: &str = "SELECT (SELECT CAST(value AS SIGNED) FROM ctlstore_meta WHERE name = '{name}' \
                     AND EXISTS (SELECT 1 FROM ctlstore_table_definition WHERE table_name = '')), \
                     (SELECT CAST(value AS SIGNED) FROM ctlstore_meta WHERE name = 'low_water_seq'), \
                     COALESCE((SELECT MAX(seq) FROM {ledger}), 0), \
                     COALESCE((SELECT statement LIKE 'CREATE TABLE %' FROM {ledger} ORDER BY seq LIMIT 1), 0)";
const CHANGES: &str = "SELECT seq, statement FROM {ledger} WHERE seq > {from} AND seq <= {to} AND {is_schema_change} \
                       ORDER BY seq";
const RECORDED: &str = "SELECT table_name, ledger_seq, statement FROM ctlstore_table_definition WHERE table_name IN ";
const SET_SEQ: &str = "INSERT INTO ctlstore_meta (name, value) VALUES ('{name}', '{seq}') \
                       ON DUPLICATE KEY UPDATE value = '{seq}'";
const FORGET_DROPPED: &str = "DELETE FROM ctlstore_table_definition WHERE statement = '' AND ledger_seq <= ";

/// The seqs that one step searches, so that it holds the ledger lock for a fraction of a second.
const STEP: i64 = 100_000;
/// The rows that may stay unrecorded. So few are searched quickly.
const MAX_NOT_RECORDED: i64 = 10_000;

/// The state of the record.
struct State {
    recorded: Option<Seq>,
    last: Seq,
    /// Whether the ledger still has all schema statements.
    is_whole: bool,
}

/// Records all definitions that the ledger has, in short transactions. Does so for few new rows only `at_start`.
pub(super) async fn record_all(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    at_start: bool,
    deadline: Instant,
) -> Result<(), CtldbError> {
    loop {
        let State { recorded, last, .. } = state(connection, ledger, deadline).await?;
        let most = if at_start { 0 } else { MAX_NOT_RECORDED };
        if recorded.is_some_and(|seq| last.0 - seq.0 <= most) {
            return Ok(());
        }
        if connection.row::<i64>(LOCK, deadline).await? != 1 {
            connection.query("ROLLBACK", deadline).await?;
            return Err(own_tables::no_lock_row());
        }
        record(connection, database, ledger, deadline).await?;
        connection.query("COMMIT", deadline).await?;
    }
}

/// Records one step, in a transaction that has the ledger lock. False if nothing was left to record.
pub(super) async fn record(
    connection: &mut PooledConnection,
    database: &str,
    ledger: &LedgerTable,
    deadline: Instant,
) -> Result<bool, CtldbError> {
    let State { recorded, last, is_whole } = state(connection, ledger, deadline).await?;
    if recorded.is_none() && !is_whole {
        adopt(connection, database, last, deadline).await?;
        set_seq(connection, last, deadline).await?;
        return Ok(true);
    }
    let from = recorded.unwrap_or(Seq::ZERO);
    if recorded.is_some() && from >= last {
        return Ok(false);
    }
    let to = Seq(last.0.min(from.0.saturating_add(STEP)));
    let sql = ledger.fill(CHANGES).replace("{is_schema_change}", IS_SCHEMA_CHANGE);
    let sql = sql.replace("{from}", &from.to_string()).replace("{to}", &to.to_string());
    let rows: Vec<(i64, String)> = connection.rows(&sql, deadline).await?;
    let mut changes: BTreeMap<String, Vec<(Seq, &str)>> = BTreeMap::new();
    for (seq, statement) in &rows {
        if let Some(table) = changed_table(statement) {
            changes.entry(table.to_owned()).or_default().push((Seq(*seq), statement));
        }
    }
    let known = recorded_of(connection, changes.keys(), deadline).await?;
    for (name, changes) in changes {
        // A table with another form of name is no data table.
        let Ok(table) = TableRef::from_sql_name(&name) else { continue };
        let known = known.get(&name);
        let Some(seq) = changes.last().map(|(seq, _)| *seq).filter(|seq| known.is_none_or(|k| k.seq < *seq)) else {
            continue;
        };
        let definition = Definition::of(&table, known, changes);
        connection.query(&upsert(&table, seq, &definition), deadline).await?;
    }
    connection.query(&format!("{FORGET_DROPPED}{to}"), deadline).await?;
    set_seq(connection, to, deadline).await?;
    Ok(true)
}

/// The statement that records a definition.
pub(super) fn upsert(table: &TableRef, seq: Seq, definition: &Definition) -> String {
    let name = quote(&table.sql_name());
    let statement = quote(&definition.to_record());
    format!(
        "REPLACE INTO ctlstore_table_definition (table_name, ledger_seq, statement) VALUES ({name}, {seq}, {statement})"
    )
}

/// Records the tables as the server has them, if the ledger has lost or never had the statements that made them.
/// From then on these count as the ledger's definitions.
async fn adopt(
    connection: &mut PooledConnection,
    database: &str,
    last: Seq,
    deadline: Instant,
) -> Result<(), CtldbError> {
    for (name, physical) in catalog::read_physical(connection, database, deadline).await? {
        let Ok(table) = TableRef::from_sql_name(&name) else { continue };
        let Ok(schema) = physical.definition(&table) else { continue };
        if physical.obstacles.is_empty() {
            connection.query(&upsert(&table, last, &Definition::Table(schema)), deadline).await?;
        }
    }
    Ok(())
}

async fn state(connection: &mut PooledConnection, ledger: &LedgerTable, deadline: Instant) -> Result<State, SqlError> {
    let sql = ledger.fill(STATE).replace("{name}", DEFINITIONS_SEQ);
    let (recorded, low_water, last, begins): (Option<i64>, Option<i64>, i64, bool) =
        connection.row(&sql, deadline).await?;
    Ok(State { recorded: recorded.map(Seq), last: Seq(last), is_whole: begins && low_water.is_none() })
}

async fn recorded_of(
    connection: &mut PooledConnection,
    tables: impl Iterator<Item = &String>,
    deadline: Instant,
) -> Result<HashMap<String, Recorded>, SqlError> {
    let tables: Vec<String> = tables.map(|table| quote(table)).collect();
    if tables.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, i64, String)> =
        connection.rows(&format!("{RECORDED}({})", tables.join(",")), deadline).await?;
    Ok(rows.into_iter().map(|(name, seq, statement)| (name, Recorded { seq: Seq(seq), statement })).collect())
}

async fn set_seq(connection: &mut PooledConnection, seq: Seq, deadline: Instant) -> Result<(), SqlError> {
    let set = SET_SEQ.replace("{name}", DEFINITIONS_SEQ).replace("{seq}", &seq.to_string());
    connection.query(&format!("REPLACE INTO ctlstore_table_definition {RECORD_MARK}; {set}"), deadline).await.map(drop)
}
