//! Runs a write: begin, run, commit. Entry point: [`write`]. It retries what is safe to retry, and lets
//! `lost_commit` find out about a commit whose answer was lost.
//!
//! 1. If the last write left all that this one needs to know, it assumes that nothing has changed
//!    since (`optimistic`).
//! 2. Otherwise, or if that assumption was wrong, `begin` takes the ledger lock first.
//! 3. The operation runs and the transaction commits (`open_transaction`).

use std::time::{Duration, Instant};

use crate::ctldb::error::CtldbError;
use crate::ctldb::session::{CtldbOperation, ReadSet};
use ctlstore_core::ledger::Seq;

use super::attempts::Attempts;
use super::begin::{begin, begin_again};
use super::finish_ddl::{ChangeEnd, row_of_sql};
use super::lost_commit::look_up;
use super::open_transaction::{Commit, Locked, OpenTransaction};
use super::optimistic::CommittedState;
use super::shared::Shared;

/// The least time for what follows a failed or lost commit. If the request's own time has run out, it was
/// most often the commit that took it.
const LOOK_UP_GRACE: Duration = Duration::from_secs(3);

/// Runs `operation` until it is committed, refused, or out of tries.
pub(super) async fn write<O: CtldbOperation>(
    shared: &Shared,
    operation: &O,
    deadline: Instant,
) -> Result<O::Output, CtldbError> {
    let turn = tokio::time::timeout_at(deadline.into(), shared.turns.acquire()).await;
    // The semaphore is never closed, so an error is always the time-out.
    let Ok(_turn) = turn else {
        return Err(CtldbError::Unavailable("busy with earlier writes".to_owned()));
    };
    let mut retry = Attempts::until(deadline, &shared.counts);
    let mut deadline = deadline;
    let mut done = Vec::new();
    loop {
        let known = done.len();
        match attempt(shared, operation, &mut done, deadline).await {
            Ok(output) => return Ok(output),
            // A schema change is done, and only the answer is missing.
            Err(_) if done.len() > known => deadline = with_grace(deadline),
            Err(error) => retry.after(error).await?,
        }
    }
}

/// `done` has the schema changes that earlier attempts made. Those that this one has made are added.
async fn attempt<O: CtldbOperation>(
    shared: &Shared,
    operation: &O,
    done: &mut Vec<(String, Seq)>,
    deadline: Instant,
) -> Result<O::Output, CtldbError> {
    let read_set = operation.read_set();
    let (left, may_assume) = shared.last_commit.take(deadline);
    if let Some(left) = left.as_ref().filter(|_| may_assume)
        && let Some(transaction) = assume(shared, left, &read_set, deadline).await?
    {
        let output = run_and_commit(shared, operation, transaction, done, deadline).await?;
        shared.last_commit.assumed(output.is_some());
        if let Some(output) = output {
            return Ok(output);
        }
    }
    let (mut transaction, _) = begin(shared, &read_set, deadline).await?;
    transaction.follow(left);
    transaction.done.clone_from(done);
    let output = run_and_commit(shared, operation, transaction, done, deadline).await?;
    output.ok_or_else(|| CtldbError::Contention("the ctldb changed under the ledger lock".to_owned()))
}

/// A transaction on the state that the last commit left. `None` unless that state answers the whole read set.
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
    let connection = shared.connections.get(deadline).await?;
    Ok(Some(OpenTransaction::assuming(shared, server, connection, deadline, left, begin, ahead)))
}

/// Runs the operation in `transaction` and commits. Returns `None` and writes nothing if a precondition failed.
async fn run_and_commit<O: CtldbOperation>(
    shared: &Shared,
    operation: &O,
    mut transaction: OpenTransaction<'_>,
    done: &mut Vec<(String, Seq)>,
    deadline: Instant,
) -> Result<Option<O::Output>, CtldbError> {
    let result = operation.run(&mut transaction).await;
    match result.and_then(|output| transaction.check().map(|()| output)) {
        Ok(output) => match transaction.commit().await {
            Commit::Done => Ok(Some(output)),
            Commit::Mistaken => Ok(None),
            Commit::Failed(error, locked) => {
                Err(after_failure(shared, error, &locked, done, with_grace(deadline)).await)
            }
            Commit::Lost(reason, locked) if !locked.begun.is_empty() && !locked.wrote_rows => {
                shared.counts.lost_commits.add(1);
                let error = CtldbError::Contention(format!("the connection was lost at the commit: {reason}"));
                Err(after_failure(shared, error, &locked, done, with_grace(deadline)).await)
            }
            Commit::Lost(reason, locked) => {
                look_up(shared, &reason, &locked, with_grace(deadline)).await.map(|()| Some(output))
            }
        },
        Err(_) if transaction.mistaken => {
            transaction.abandon().await;
            Ok(None)
        }
        Err(error) => {
            // If a held-back statement of another request has failed first, that is the cause.
            let error = transaction.check().err().unwrap_or(error);
            let locked = transaction.abandon().await;
            Err(after_failure(shared, error, &locked, done, with_grace(deadline)).await)
        }
    }
}

fn with_grace(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LOOK_UP_GRACE)
}

/// Returns the error of a transaction that was rolled back. If the transaction had begun schema changes,
/// they are finished first, and those that are done are added to `done`.
async fn after_failure(
    shared: &Shared,
    error: CtldbError,
    locked: &Locked,
    done: &mut Vec<(String, Seq)>,
    deadline: Instant,
) -> CtldbError {
    if !matches!(error, CtldbError::Refused(_)) {
        // The known definitions may be wrong, and that may be the cause.
        shared.catalog.forget();
    }
    if locked.begun.is_empty() {
        return error;
    }
    let unknown = |error| CtldbError::OutcomeUnknown(format!("a schema change was begun: {error}"));
    let Ok((mut transaction, finished)) = begin_again(shared, deadline).await else { return unknown(error) };
    let mut made = Vec::new();
    for intent in &locked.begun {
        let end = match finished.iter().find(|finished| finished.token == intent.token) {
            Some(finished) => finished.end,
            // Another executive has finished it, or nothing was committed.
            None => match transaction.ask::<i64>(&row_of_sql(shared, intent)).await.map(|mut rows| rows.pop()) {
                Ok(Some(seq)) if seq > 0 => ChangeEnd::Done(Seq(seq)),
                Ok(_) => ChangeEnd::Undone,
                Err(_) => ChangeEnd::WithoutRow,
            },
        };
        match end {
            ChangeEnd::Done(seq) if !locked.wrote_rows => made.push((intent.statement.clone(), seq)),
            ChangeEnd::Undone => {}
            _ => {
                transaction.abandon().await;
                return unknown(error);
            }
        }
    }
    transaction.abandon().await;
    done.append(&mut made);
    error
}
