//! Finishes schema changes that an executive has begun and not finished, because it died or lost its
//! connection. Entry point: [`finish_intents`], which the transaction calls that finds the intents.
//! `ddl` begins schema changes.
//!
//! The server's schema shows whether the DDL took effect. If it did, the change gets its ledger row;
//! if not, nothing is left of it. The intent is deleted in either case.

use std::collections::HashMap;
use std::time::Instant;

use crate::ctldb::definition::Definition;
use crate::ctldb::dry_run;
use crate::ctldb::error::CtldbError;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;

use super::catalog;
use super::ddl::{self, Intent};
use super::definitions;
use super::pooled_connection::PooledConnection;
use super::rows;
use super::shared::Shared;

/// Whether the ledger already has a schema change's row, written by an executive that had the lock before.
const HAS_STATEMENT: &str = "SELECT COUNT(*) FROM {ledger} WHERE seq >= {from} AND statement = ";

/// A schema change that was finished here.
pub(super) struct FinishedChange {
    pub token: String,
    /// Whether the schema had changed. If not, the intent was dropped.
    pub effective: bool,
}

/// Finishes all intents in a transaction of its own on `connection`, which has the ledger lock.
pub(super) async fn finish_intents(
    shared: &Shared,
    mut connection: PooledConnection,
    mut last: Seq,
    deadline: Instant,
) -> Result<Vec<FinishedChange>, CtldbError> {
    shared.catalog.forget();
    let mut second = shared.connections.get(deadline).await?;
    ddl::take_named_lock(&mut second, deadline).await?;
    let mut finished = Vec::new();
    let mut writes = Vec::new();
    let mut definitions: HashMap<TableRef, Definition> = HashMap::new();
    // The second connection reads them: the first one sees the state of its first read.
    for intent in ddl::read_intents(&mut second, deadline).await? {
        let effective = ddl::has_effect(&mut second, shared.connections.database(), &intent.effect, deadline).await?;
        if effective && !has_statement(shared, &mut second, intent.seq, &intent.statement, deadline).await? {
            match runs_on_ldbs(shared, &mut second, &definitions, &intent, deadline).await? {
                Ok((table, definition)) => {
                    last = last.next();
                    let statement = std::slice::from_ref(&intent.statement);
                    writes.extend(rows::ledger_rows(&shared.ledger, last, statement, 0));
                    writes.push(definitions::upsert(&table, last, &definition));
                    definitions.insert(table, definition);
                }
                // Without its ledger row the table counts as changed by hand.
                Err(reason) => {
                    let table = intent.table();
                    tracing::warn!(role = "executive", table, reason, "dropped a schema change that no ldb can apply");
                }
            }
        }
        writes.push(intent.delete());
        finished.push(FinishedChange { token: intent.token, effective });
    }
    writes.push("COMMIT".to_owned());
    for sql in writes {
        connection.query(&sql, deadline).await?;
    }
    connection.give_back();
    shared.counts.intents_finished.add(finished.len() as u64);
    ddl::drop_named_lock(&mut second, deadline).await?;
    second.give_back();
    Ok(finished)
}

/// The definition that an unfinished schema change gives its table in every LDB. `changed` has the definitions
/// that earlier intents have changed. The inner error is the reason why no LDB can apply the change.
async fn runs_on_ldbs(
    shared: &Shared,
    connection: &mut PooledConnection,
    changed: &HashMap<TableRef, Definition>,
    intent: &Intent,
    deadline: Instant,
) -> Result<Result<(TableRef, Definition), String>, CtldbError> {
    let table = match TableRef::from_sql_name(intent.table()) {
        Ok(table) => table,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let before = match changed.get(&table) {
        Some(definition) => definition.clone(),
        None => catalog::read_definition(connection, &shared.ledger, &table, deadline).await?,
    };
    let before = match before {
        Definition::Table(schema) => Some(schema),
        Definition::Absent => None,
        Definition::Unreadable(reason) => return Ok(Err(reason)),
    };
    let after = dry_run::run(&table, before.as_ref(), &intent.statement);
    Ok(after.map(|schema| (table, schema.map_or(Definition::Absent, Definition::Table))))
}

async fn has_statement(
    shared: &Shared,
    connection: &mut PooledConnection,
    from: Seq,
    statement: &str,
    deadline: Instant,
) -> Result<bool, CtldbError> {
    let sql = shared.ledger.fill(HAS_STATEMENT).replace("{from}", &from.to_string());
    // The column's collation may ignore case. No two schema statements differ only by case.
    Ok(connection.row::<i64>(&(sql + &rows::quote(statement)), deadline).await? > 0)
}
