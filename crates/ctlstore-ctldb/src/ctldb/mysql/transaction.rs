//! How a write is carried through, whatever happens on the way: begin, take the ledger
//! lock, finish what a dead executive has begun, run, commit; try again what is safe
//! to try again, and find out what became of a commit whose answer was lost. Where the last
//! write left all that this one needs to know, it begins by assuming that (`assumed`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::ctldb::definition::Definition;
use crate::ctldb::{CtldbError, Operation, ReadSet, dry_run, meta};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;

use super::Shared;
use super::attempts::Attempts;
use super::catalog::{self, ROWS_LOOKED_THROUGH};
use super::ddl::{self, Intent};
use super::definitions;
use super::error::SqlError;
use super::open_transaction::{Commit, Locked, OpenTransaction};
use super::optimistic::CommittedState;
use super::pooled_connection::{PooledConnection, ResultSets, read_row};
use super::prefetch::{self, Prefetched};
use super::rows;

/// The lock before anything is read; what is known of the schema holds unless the
/// ledger has rows since then that change it, or has lost some to pruning.
const BEGIN: &str = "START TRANSACTION; UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'; \
    SELECT ROW_COUNT(), UNIX_TIMESTAMP(), (SELECT clock FROM locks WHERE id = 'ledger'), \
    (SELECT COALESCE(MAX(seq), (SELECT CAST(value AS SIGNED) - 1 FROM ctlstore_meta WHERE name = 'low_water_seq'), 0) \
    FROM {ledger}), \
    (SELECT CAST(value AS SIGNED) FROM ctlstore_meta WHERE name = 'low_water_seq'), \
    (SELECT COUNT(*) FROM ctlstore_ddl_intent), \
    (SELECT COUNT(*) FROM {ledger} WHERE seq > {from} AND seq <= {to} AND (statement LIKE 'CREATE TABLE %' OR \
    statement LIKE 'ALTER TABLE %' OR statement LIKE 'DROP TABLE %'))";

/// Whether a schema change's ledger row is there already, written by whoever got the lock first.
const HAS_STATEMENT: &str = "SELECT COUNT(*) FROM {ledger} WHERE seq >= {from} AND statement = ";
const MARKED: &str = "SELECT COUNT(*) FROM mutators WHERE {have}";
const ROWS_BETWEEN: &str = "SELECT seq, statement FROM {ledger} WHERE seq >= {from} AND seq <= {to} ORDER BY seq";

/// Finishing intents makes none, so a second round is there only for those of an
/// executive that comes in between.
const FINISHING_ROUNDS: usize = 4;

/// What finding out about a lost commit may take beyond the request's own time: when
/// that has run out, it is most often the commit that took it.
const LOOK_UP_GRACE: Duration = Duration::from_secs(3);

/// A schema change of some executive that was finished here.
struct Finished {
    token: String,
    /// Whether the schema had changed; if not, the intent was dropped.
    effective: bool,
}

/// Runs `operation` until it is committed, refused, or out of tries.
pub(super) async fn write<O: Operation>(
    shared: &Shared,
    operation: &O,
    deadline: Instant,
) -> Result<O::Output, CtldbError> {
    let turn = tokio::time::timeout_at(deadline.into(), shared.turns.acquire()).await;
    // The semaphore is never closed, so all that can fail is the time.
    let Ok(_turn) = turn else {
        return Err(CtldbError::Unavailable("busy with earlier writes".to_owned()));
    };
    let mut retry = Attempts::until(deadline, &shared.counts);
    loop {
        match attempt(shared, operation, deadline).await {
            Ok(output) => return Ok(output),
            Err(error) => retry.after(error).await?,
        }
    }
}

async fn attempt<O: Operation>(shared: &Shared, operation: &O, deadline: Instant) -> Result<O::Output, CtldbError> {
    let read_set = operation.read_set();
    let (left, may_assume) = shared.memory.take(deadline);
    if let Some(left) = left.as_ref().filter(|_| may_assume)
        && let Some(unit) = assume(shared, left, &read_set, deadline).await?
    {
        let output = carry_through(shared, operation, unit, deadline).await?;
        shared.memory.assumed(output.is_some());
        if let Some(output) = output {
            return Ok(output);
        }
    }
    let (mut unit, _) = begin(shared, &read_set, deadline).await?;
    unit.follow(left);
    let output = carry_through(shared, operation, unit, deadline).await?;
    output.ok_or_else(|| CtldbError::Contention("the ctldb changed under the ledger lock".to_owned()))
}

/// A transaction on what the last one left, where that tells all that the operation expects.
async fn assume<'a>(
    shared: &'a Shared,
    left: &CommittedState,
    read_set: &ReadSet<'_>,
    deadline: Instant,
) -> Result<Option<OpenTransaction<'a>>, CtldbError> {
    if shared.catalog.as_of() != Some(left.last) {
        return Ok(None);
    }
    let server = shared.server()?;
    let Some((begin, ahead)) = left.assume(&shared.ledger, server.blocks, read_set) else { return Ok(None) };
    let link = shared.connections.get(deadline).await?;
    Ok(Some(OpenTransaction::assuming(shared, server, link, deadline, left, begin, ahead)))
}

/// Runs the operation in a transaction that was begun, and commits. Nothing, in both
/// meanings, where what the transaction assumed does not hold.
async fn carry_through<O: Operation>(
    shared: &Shared,
    operation: &O,
    mut unit: OpenTransaction<'_>,
    deadline: Instant,
) -> Result<Option<O::Output>, CtldbError> {
    let result = operation.run(&mut unit).await;
    match result.and_then(|output| unit.check().map(|()| output)) {
        Ok(output) => match unit.commit().await {
            Commit::Done => Ok(Some(output)),
            Commit::Mistaken => Ok(None),
            Commit::Failed(error, locked) => Err(after_failure(shared, error, &locked, with_grace(deadline)).await),
            Commit::Lost(reason, locked) => {
                look_up(shared, &reason, &locked, with_grace(deadline)).await.map(|()| Some(output))
            }
        },
        Err(_) if unit.mistaken => {
            unit.abandon().await;
            Ok(None)
        }
        Err(error) => {
            let locked = unit.abandon().await;
            Err(after_failure(shared, error, &locked, with_grace(deadline)).await)
        }
    }
}

fn with_grace(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LOOK_UP_GRACE)
}

/// Where the state is among the result sets of a transaction's first text.
const STATE: usize = 2;

/// Lock, server's clock, lock row's clock, last seq, low-water mark, intents, schema changes.
type State = (i64, i64, Option<i64>, i64, Option<i64>, i64, i64);

/// Begins a transaction that has the ledger lock and finds no unfinished schema change.
async fn begin<'a>(
    shared: &'a Shared,
    read_set: &ReadSet<'_>,
    deadline: Instant,
) -> Result<(OpenTransaction<'a>, Vec<Finished>), CtldbError> {
    let server = shared.server()?;
    let questions = prefetch::questions(read_set);
    let mut finished = Vec::new();
    for _ in 0..FINISHING_ROUNDS {
        let mut link = shared.connections.get(deadline).await?;
        let known = shared.catalog.as_of();
        let from = known.map_or(i64::MAX - ROWS_LOOKED_THROUGH, |seq| seq.0);
        let sql = shared.ledger.fill(BEGIN).replace("{from}", &from.to_string());
        let mut sql = sql.replace("{to}", &(from + ROWS_LOOKED_THROUGH).to_string());
        for question in &questions {
            sql.push(';');
            sql.push_str(question);
        }
        let begun = link.query(&sql, deadline).await.and_then(|sets| read_begun(read_set, sets));
        let ((locked, now, clock, last, low_water, intents, changes), ahead) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                OpenTransaction::new(shared, server, link, deadline, None).abandon().await;
                return Err(error.into());
            }
        };
        let (last, low_water) = (Seq(last), low_water.map(Seq));
        let clock = match clock {
            Some(clock) if locked == 1 => clock,
            _ => {
                OpenTransaction::new(shared, server, link, deadline, None).abandon().await;
                return Err(meta::no_lock_row());
            }
        };
        if intents == 0 {
            let lost = low_water.is_some_and(|first| known.is_some_and(|seq| seq.next() < first));
            shared.catalog.catch_up(known, last, changes > 0 || lost);
            let read_at = Some((now, Instant::now()));
            let locked = Locked { clock, now, read_at, last, found: last, low_water, ..Locked::default() };
            let mut unit = OpenTransaction::new(shared, server, link, deadline, Some(locked));
            unit.ahead = ahead;
            return Ok((unit, finished));
        }
        finished.extend(finish_intents(shared, link, last, deadline).await?);
    }
    Err(CtldbError::Contention("schema changes were begun faster than they could be finished".to_owned()))
}

fn read_begun(read_set: &ReadSet<'_>, mut sets: ResultSets) -> Result<(State, Prefetched), SqlError> {
    let answers = sets.split_off(sets.len().min(STATE + 1));
    let state = sets.pop().and_then(|mut rows| rows.pop());
    let state = state.ok_or_else(|| SqlError::Server { code: 0, message: "answer without a row".to_owned() })?;
    Ok((read_row(state)?, Prefetched::read(read_set, answers)?))
}

/// Finishes what was begun, in a transaction of its own on `link`, which has the lock.
async fn finish_intents(
    shared: &Shared,
    mut link: PooledConnection,
    mut last: Seq,
    deadline: Instant,
) -> Result<Vec<Finished>, CtldbError> {
    shared.catalog.forget();
    let mut second = shared.connections.get(deadline).await?;
    ddl::take_named_lock(&mut second, deadline).await?;
    let mut finished = Vec::new();
    let mut writes = Vec::new();
    let mut definitions: HashMap<TableRef, Definition> = HashMap::new();
    // Read by the second connection: what the first one sees is as old as its first look.
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
        finished.push(Finished { token: intent.token, effective });
    }
    writes.push("COMMIT".to_owned());
    for sql in writes {
        link.query(&sql, deadline).await?;
    }
    link.give_back();
    shared.counts.intents_finished.add(finished.len() as u64);
    ddl::drop_named_lock(&mut second, deadline).await?;
    second.give_back();
    Ok(finished)
}

/// What an unfinished schema change leaves of its table in every LDB; the inner error is why no LDB can apply it.
async fn runs_on_ldbs(
    shared: &Shared,
    link: &mut PooledConnection,
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
        None => catalog::read_definition(link, &shared.ledger, &table, deadline).await?,
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
    link: &mut PooledConnection,
    from: Seq,
    statement: &str,
    deadline: Instant,
) -> Result<bool, CtldbError> {
    let sql = shared.ledger.fill(HAS_STATEMENT).replace("{from}", &from.to_string());
    // The column's collation may ignore case; a statement that differs only so doesn't exist.
    Ok(link.row::<i64>(&(sql + &rows::quote(statement)), deadline).await? > 0)
}

/// What the error of a transaction that was rolled back means, once the schema
/// changes that it had begun are finished.
async fn after_failure(shared: &Shared, error: CtldbError, locked: &Locked, deadline: Instant) -> CtldbError {
    if !matches!(error, CtldbError::Refused(_)) {
        // Perhaps it failed because the schema is not what it was taken for.
        shared.catalog.forget();
    }
    if locked.begun.is_empty() {
        return error;
    }
    match begin_again(shared, deadline).await {
        Ok((unit, finished)) => {
            unit.abandon().await;
            let undone = |token: &String| finished.iter().any(|f| &f.token == token && !f.effective);
            if locked.begun.iter().all(|intent| undone(&intent.token)) {
                error
            } else {
                CtldbError::OutcomeUnknown(format!("the schema was changed, but not all was answered: {error}"))
            }
        }
        Err(_) => CtldbError::OutcomeUnknown(format!("a schema change was begun: {error}")),
    }
}

async fn begin_again(shared: &Shared, deadline: Instant) -> Result<(OpenTransaction<'_>, Vec<Finished>), CtldbError> {
    let mut retry = Attempts::until(deadline, &shared.counts);
    loop {
        match begin(shared, &ReadSet::default(), deadline).await {
            Ok(begun) => return Ok(begun),
            Err(error) => retry.after(error).await?,
        }
    }
}

/// Finds out whether a transaction was committed: waits for the lock, so that it is
/// over, and looks for its ledger rows. An error says that it was not, or that nobody knows.
async fn look_up(shared: &Shared, reason: &str, lost: &Locked, deadline: Instant) -> Result<(), CtldbError> {
    let not_committed = || CtldbError::Contention(format!("the connection was lost at the commit: {reason}"));
    let unknown = || CtldbError::OutcomeUnknown(format!("the answer to the commit was lost: {reason}"));
    shared.counts.lost_commits.add(1);
    shared.catalog.forget();
    let (mut unit, finished) = begin_again(shared, deadline).await.map_err(|_| unknown())?;
    let (clock, low_water) = unit.locked.as_ref().map_or((0, None), |locked| (locked.clock, locked.low_water));
    let held = holds(&mut unit, lost).await;
    let is_marked = matches!(held, Ok(true)) && marked(&mut unit, lost).await.is_ok_and(|marked| marked);
    if lost.assumed {
        // Its text may still be on its way to the server, and find all as it assumed.
        unit.commit_lock().await.map_err(|_| unknown())?;
    } else {
        unit.abandon().await;
    }
    // What was written may have been pruned since: that it is gone says nothing.
    if low_water > lost.low_water && lost.appended.first().is_some_and(|(first, _)| Some(*first) < low_water) {
        return Err(unknown());
    }
    let ours = |finished: &Finished| lost.begun.iter().any(|intent| intent.token == finished.token);
    if finished.iter().any(ours) {
        // The commit would have deleted the intent. Finishing it gave the ledger row that it had promised.
        return if held.map_err(|_| unknown())? && !lost.wrote_rows { Ok(()) } else { Err(unknown()) };
    }
    // The commit would have left the clock at what this transaction has now gone past.
    if finished.is_empty() && clock == lost.clock {
        return Err(not_committed());
    }
    match held {
        // Another executive may have finished the schema change, but not what went with it.
        Ok(true) if !lost.begun.is_empty() && lost.wrote_rows => Err(unknown()),
        Ok(true) if !lost.appended.is_empty() && is_marked => Ok(()),
        Ok(false) if lost.begun.is_empty() => Err(not_committed()),
        _ => Err(unknown()),
    }
}

/// Whether the writers have the cookies that `lost` gave them. The same rows at the same seqs
/// prove nothing by themselves: another executive may have written them instead.
async fn marked(unit: &mut OpenTransaction<'_>, lost: &Locked) -> Result<bool, CtldbError> {
    if lost.cookies.is_empty() {
        return Ok(true);
    }
    let have = lost.cookies.iter().map(|(writer, cookie)| {
        let (name, cookie) = (rows::quote(writer.as_str()), rows::blob(cookie));
        format!("(writer = {name} AND cookie = {cookie})")
    });
    let have = unit.ask::<usize>(&MARKED.replace("{have}", &have.collect::<Vec<_>>().join(" OR "))).await?;
    Ok(have == [lost.cookies.len()])
}

/// Whether the ledger has exactly the rows that `lost` appended, where it did.
async fn holds(unit: &mut OpenTransaction<'_>, lost: &Locked) -> Result<bool, CtldbError> {
    let (Some((first, _)), Some((last, _))) = (lost.appended.first(), lost.appended.last()) else { return Ok(true) };
    let sql = unit.shared.ledger.fill(ROWS_BETWEEN);
    let sql = sql.replace("{from}", &first.to_string()).replace("{to}", &last.to_string());
    let rows = unit.ask::<(i64, String)>(&sql).await?;
    Ok(rows.into_iter().eq(lost.appended.iter().map(|(seq, statement)| (seq.0, statement.clone()))))
}
