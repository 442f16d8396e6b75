//! Finishes schema changes that an executive has begun and not finished, because it died or lost its
//! connection. Entry point: [`finish_intents`], which the transaction calls that finds the intents.
//! `ddl` begins schema changes.
//!
//! The server's schema shows whether the DDL took effect, and the ledger whether the change has its row. The
//! missing one of the two is added. If both are missing, nothing is left of the change. The intent is
//! deleted in any case.

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

/// The ledger row of a schema change, if there is one: its executive wrote it first, or another one has finished the
/// change.
const ROW_OF: &str = "SELECT COALESCE(MIN(seq), 0) FROM {ledger} WHERE seq >= {from} AND statement = ";

/// A schema change that was finished here.
pub(super) struct FinishedChange {
    pub token: String,
    pub end: ChangeEnd,
}

/// How a schema change ended that was begun.
#[derive(Clone, Copy)]
pub(super) enum ChangeEnd {
    /// The schema is changed, and the ledger row has this seq.
    Done(Seq),
    /// The schema is as it was, and the ledger has no row.
    Undone,
    /// The schema is changed, but no LDB could apply the ledger row.
    WithoutRow,
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
        let row = row_of(shared, &mut second, &intent, deadline).await?;
        let end = match (effective, row) {
            (true, Some(seq)) => ChangeEnd::Done(seq),
            (true, None) => match runs_on_ldbs(shared, &mut second, &definitions, &intent, deadline).await? {
                Ok((table, definition)) => {
                    last = last.next();
                    let statement = std::slice::from_ref(&intent.statement);
                    writes.extend(rows::ledger_rows(&shared.ledger, last, statement, 0));
                    writes.push(definitions::upsert(&table, last, &definition));
                    definitions.insert(table, definition);
                    ChangeEnd::Done(last)
                }
                // Without its ledger row the table counts as changed by hand.
                Err(reason) => {
                    let table = intent.table();
                    tracing::warn!(role = "executive", table, reason, "dropped a schema change that no ldb can apply");
                    ChangeEnd::WithoutRow
                }
            },
            (false, Some(seq)) if is_owed(shared, &mut second, &intent, deadline).await? => {
                // The server lacks what the ledger has. The DDL may take long, and needs no ledger lock.
                connection.query("ROLLBACK", deadline).await?;
                connection.give_back();
                change_late(&mut second, &intent, deadline).await?;
                second.query(&intent.delete(), deadline).await?;
                shared.counts.intents_finished.add(1);
                ddl::drop_named_lock(&mut second, deadline).await?;
                second.give_back();
                return Ok(vec![FinishedChange { token: intent.token, end: ChangeEnd::Done(seq) }]);
            }
            (false, _) => ChangeEnd::Undone,
        };
        writes.push(intent.delete());
        finished.push(FinishedChange { token: intent.token, end });
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

/// Whether the ledger's definition of the table has the change. The table may have been dropped since.
async fn is_owed(
    shared: &Shared,
    connection: &mut PooledConnection,
    intent: &Intent,
    deadline: Instant,
) -> Result<bool, CtldbError> {
    let Ok(table) = TableRef::from_sql_name(intent.table()) else { return Ok(false) };
    let definition = catalog::read_definition(connection, &shared.ledger, &table, deadline).await?;
    Ok(intent.is_in(&definition))
}

/// Runs the DDL of a change whose ledger row is there.
async fn change_late(connection: &mut PooledConnection, intent: &Intent, deadline: Instant) -> Result<(), CtldbError> {
    match connection.query_until(&intent.ddl, deadline.max(Instant::now() + ddl::LEAST_TIME)).await {
        Ok(_) => Ok(()),
        Err(error) => match CtldbError::from(error) {
            // The table counts as changed by hand, and `doctor` tells what it lacks.
            CtldbError::Refused(reason) => {
                let table = intent.table();
                tracing::error!(role = "executive", table, reason, "the ctldb can't hold what the ledger has");
                Ok(())
            }
            error => Err(error),
        },
    }
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

async fn row_of(
    shared: &Shared,
    connection: &mut PooledConnection,
    intent: &Intent,
    deadline: Instant,
) -> Result<Option<Seq>, CtldbError> {
    // The column's collation may ignore case. No two schema statements differ only by case.
    let seq: i64 = connection.row(&row_of_sql(shared, intent), deadline).await?;
    Ok((seq > 0).then_some(Seq(seq)))
}

/// The query for the seq of a change's ledger row. Its answer is 0 if there is none.
pub(super) fn row_of_sql(shared: &Shared, intent: &Intent) -> String {
    shared.ledger.fill(ROW_OF).replace("{from}", &intent.seq.to_string()) + &rows::quote(&intent.statement)
}
