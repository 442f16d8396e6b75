//! Begins a transaction that holds the ledger lock. Entry points: [`begin`], and [`begin_again`], which
//! retries. Schema changes that an executive has begun and not finished are finished first
//! (`finish_ddl`).

use std::time::Instant;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables;
use crate::ctldb::session::ReadSet;
use ctlstore_core::ledger::Seq;

use super::attempts::Attempts;
use super::catalog::ROWS_LOOKED_THROUGH;
use super::ddl;
use super::error::SqlError;
use super::finish_ddl::{FinishedChange, finish_intents};
use super::open_transaction::{Locked, OpenTransaction};
use super::pooled_connection::{PooledConnection, ResultSets, read_row};
use super::prefetch::{self, Prefetched};
use super::shared::Shared;

/// Takes the lock before it reads anything. Also counts the rows since `from` that change the schema:
/// without any, the known definitions are still right, unless pruning took such rows away.
const BEGIN: &str = "START TRANSACTION; UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'; \
    SELECT ROW_COUNT(), UNIX_TIMESTAMP(), (SELECT clock FROM locks WHERE id = 'ledger'), \
    (SELECT COALESCE(MAX(seq), (SELECT CAST(value AS SIGNED) - 1 FROM ctlstore_meta WHERE name = 'low_water_seq'), 0) \
    FROM {ledger}), \
    (SELECT CAST(value AS SIGNED) FROM ctlstore_meta WHERE name = 'low_water_seq'), \
    (SELECT COUNT(*) FROM ctlstore_ddl_intent), \
    (SELECT COUNT(*) FROM {ledger} WHERE seq > {from} AND seq <= {to} AND (statement LIKE 'CREATE TABLE %' OR \
    statement LIKE 'ALTER TABLE %' OR statement LIKE 'DROP TABLE %'))";

/// The row that [`BEGIN`] selects: locked rows, server's clock, lock row's clock, last seq, low-water mark,
/// intents, schema changes.
type StateRow = (i64, i64, Option<i64>, i64, Option<i64>, i64, i64);

/// The place of that row among the result sets.
const STATE: usize = 2;

/// Finishing an intent makes no new one. Further rounds are for the intents of an executive that comes in
/// between.
const FINISHING_ROUNDS: usize = 4;

/// The state that a transaction found when it had the ledger lock.
struct FoundState {
    /// The server's clock, in seconds since 1970.
    now: i64,
    /// The lock row's clock, as this transaction has set it.
    clock: i64,
    last: Seq,
    low_water: Option<Seq>,
    intents: i64,
    schema_changes: i64,
    /// The answers to the read set.
    answers: Prefetched,
}

/// Begins a transaction that has the ledger lock and finds no unfinished schema change. Returns the
/// schema changes that were finished before.
pub(super) async fn begin<'a>(
    shared: &'a Shared,
    read_set: &ReadSet<'_>,
    deadline: Instant,
) -> Result<(OpenTransaction<'a>, Vec<FinishedChange>), CtldbError> {
    let server = shared.server()?;
    let questions = prefetch::questions(read_set);
    let mut finished = Vec::new();
    for _ in 0..FINISHING_ROUNDS {
        let mut connection = shared.connections.get(deadline).await?;
        let known = shared.catalog.as_of();
        let sql = begin_sql(shared, known, &questions);
        let found = match connection.query(&sql, deadline).await {
            Ok(sets) => read_state(read_set, sets),
            Err(error) => Err(error.into()),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                OpenTransaction::new(shared, server, connection, deadline, None).abandon().await;
                return Err(error);
            }
        };
        let FoundState { now, clock, last, low_water, .. } = found;
        if found.intents == 0 {
            let pruned = low_water.is_some_and(|first| known.is_some_and(|seq| seq.next() < first));
            shared.catalog.catch_up(known, last, found.schema_changes > 0 || pruned);
            let read_at = Some((now, Instant::now()));
            let locked = Locked { clock, now, read_at, last, found: last, low_water, ..Locked::default() };
            let mut transaction = OpenTransaction::new(shared, server, connection, deadline, Some(locked));
            transaction.ahead = found.answers;
            return Ok((transaction, finished));
        }
        finished.extend(finish_intents(shared, connection, last, deadline).await?);
    }
    Err(CtldbError::Contention("schema changes were begun faster than they could be finished".to_owned()))
}

/// As [`begin`] without a read set, but tries again until `deadline`.
pub(super) async fn begin_again(
    shared: &Shared,
    deadline: Instant,
) -> Result<(OpenTransaction<'_>, Vec<FinishedChange>), CtldbError> {
    let mut retry = Attempts::until(deadline, &shared.counts);
    loop {
        match begin(shared, &ReadSet::default(), deadline).await {
            Ok(begun) => return Ok(begun),
            Err(error) => retry.after(error).await?,
        }
    }
}

/// Finishes the schema changes that executives have begun and abandoned, if there are any.
pub(super) async fn finish_abandoned(
    shared: &Shared,
    mut connection: PooledConnection,
    deadline: Instant,
) -> Result<(), CtldbError> {
    let has_abandoned = ddl::has_abandoned(&mut connection, deadline).await?;
    connection.give_back();
    if has_abandoned {
        let (transaction, _) = begin(shared, &ReadSet::default(), deadline).await?;
        transaction.abandon().await;
    }
    Ok(())
}

/// `known` is the ledger row up to which the definitions are known.
fn begin_sql(shared: &Shared, known: Option<Seq>, questions: &[String]) -> String {
    let from = known.map_or(i64::MAX - ROWS_LOOKED_THROUGH, |seq| seq.0);
    let sql = shared.ledger.fill(BEGIN).replace("{from}", &from.to_string());
    let mut sql = sql.replace("{to}", &(from + ROWS_LOOKED_THROUGH).to_string());
    for question in questions {
        sql.push(';');
        sql.push_str(question);
    }
    sql
}

fn read_state(read_set: &ReadSet<'_>, mut sets: ResultSets) -> Result<FoundState, CtldbError> {
    let answers = sets.split_off(sets.len().min(STATE + 1));
    let row = sets.pop().and_then(|mut rows| rows.pop());
    let row = row.ok_or_else(SqlError::no_row)?;
    let (locked, now, clock, last, low_water, intents, schema_changes) = read_row::<StateRow>(row)?;
    let clock = clock.filter(|_| locked == 1).ok_or_else(own_tables::no_lock_row)?;
    let answers = Prefetched::read(read_set, answers)?;
    Ok(FoundState { now, clock, last: Seq(last), low_water: low_water.map(Seq), intents, schema_changes, answers })
}
