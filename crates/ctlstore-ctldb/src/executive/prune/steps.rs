//! The transactions of a prune, one after the other, each under the ledger lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ctldb::{Ctldb, CtldbError, Operation, Session};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::{Cutter, Limit, PruneBounds, Seq};
use ctlstore_core::schema::Timestamp;

use super::{MOST_LOOKED_AT, PruneError, PruneOrder, PruneRefusal, before};

/// Rows of one transaction: at first, and the bounds within which that changes so that
/// the ledger lock is held for about [`HOLD`] each time.
const FIRST_ROWS: usize = 500;
const LEAST_ROWS: usize = 50;
const MOST_ROWS: usize = 5_000;
const HOLD: Duration = Duration::from_millis(25);

/// The least pause between two transactions; it is as long as the lock was held when
/// that is longer, so that writers get at least half of the time.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// What one transaction may take, waiting for the lock included, and how many may fail
/// one after the other, with which pause.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_FAILURES: u32 = 5;
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Whether the ledger's first row is older than `keep`, or of unknown age: whether it
/// is worth looking for a snapshot.
#[derive(Debug)]
pub struct HasOldRows {
    pub keep: Duration,
}

impl Operation for HasOldRows {
    type Output = bool;

    async fn run<S: Session>(&self, session: &mut S) -> Result<bool, CtldbError> {
        let before = before(now(session).await?, self.keep);
        let first = session.ledger_head(2).await?;
        // The last row stays in any case.
        Ok(first.len() > 1 && first.first().is_some_and(|row| row.leader_ts.is_none_or(|at| at < before)))
    }
}

async fn now<S: Session>(session: &mut S) -> Result<Timestamp, CtldbError> {
    session.now().await.map(|seconds| Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000)))
}

/// One transaction of a prune.
struct Step {
    order: Arc<PruneOrder>,
    rows: usize,
}

/// What one transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    pub rows: u64,
    /// Of the statements that went.
    pub bytes: u64,
    /// The ledger's mark after it.
    pub low_water: Option<Seq>,
    /// Why not more: [`Limit::Rows`] where the next transaction may go on.
    pub limit: Limit,
    /// How long the ledger lock was held, the commit aside.
    held: Duration,
}

impl Operation for Step {
    type Output = Result<Pruned, PruneRefusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let start = Instant::now();
        let (identity, last) = (session.ledger_identity().await?, session.last_seq().await?);
        if let Err(refusal) = self.order.check(&identity, last) {
            return Ok(Err(refusal));
        }
        let row = session.ledger_row_from(self.order.snapshot.seq).await?;
        if let Err(refusal) = self.order.check_last_row(row.as_ref()) {
            return Ok(Err(refusal));
        }
        let bounds = self.order.bounds(now(session).await?, last);
        let (cutter, limit) = match look(session, bounds, self.rows).await? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let nothing = Pruned { rows: 0, bytes: 0, low_water: identity.low_water, limit, held: start.elapsed() };
        let Some(cut) = cutter.cut() else { return Ok(Ok(nothing)) };
        let first = cut.next();
        let rows = session.prune_ledger(first).await?;
        Ok(Ok(Pruned { rows, bytes: cutter.bytes(), low_water: Some(first), limit, held: start.elapsed() }))
    }
}

/// Looks at the ledger's first `rows` rows, or as many more as it takes to find the end
/// of the transaction that they are in.
async fn look<S: Session>(
    session: &mut S,
    bounds: PruneBounds,
    mut rows: usize,
) -> Result<Result<(Cutter, Limit), PruneRefusal>, CtldbError> {
    loop {
        let head = session.ledger_head(rows).await?;
        let mut cutter = Cutter::new(bounds);
        let limit = cutter.push_all(&head);
        if cutter.cut().is_some() || limit != Limit::Rows || head.len() < rows {
            return Ok(Ok((cutter, limit)));
        }
        if rows >= MOST_LOOKED_AT {
            return Ok(Err(PruneRefusal::TransactionTooLong { first: head[0].seq }));
        }
        rows = (rows * 4).min(MOST_LOOKED_AT);
    }
}

/// What all transactions of a prune did together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneOutcome {
    pub rows: u64,
    pub bytes: u64,
    pub transactions: u64,
    pub low_water: Option<Seq>,
    /// [`Limit::Rows`] where it was stopped.
    pub limit: Limit,
}

/// Deletes what `order` lets go, transaction by transaction. `go_on` is told of each,
/// with the sum so far, and ends the prune by answering false; what is deleted by then
/// stays deleted, and the ledger is right.
pub async fn prune<C: Ctldb>(
    ctldb: &C,
    order: PruneOrder,
    mut go_on: impl FnMut(&PruneOutcome) -> bool,
) -> Result<PruneOutcome, PruneError> {
    let order = Arc::new(order);
    let mut outcome = PruneOutcome { rows: 0, bytes: 0, transactions: 0, low_water: None, limit: Limit::Rows };
    let (mut rows, mut failures) = (FIRST_ROWS, 0);
    while go_on(&outcome) {
        let step = Step { order: Arc::clone(&order), rows };
        let pruned = match ctldb.write(step, Instant::now() + STEP_TIMEOUT).await {
            Ok(pruned) => pruned?,
            // Whatever became of it, the next step begins with what is there.
            Err(error) if passes(&error) && failures < MOST_FAILURES => {
                failures += 1;
                tokio::time::sleep(FAILURE_PAUSE * failures).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        (outcome.low_water, outcome.limit) = (pruned.low_water, pruned.limit);
        if pruned.rows > 0 {
            failpoint::hit("prune-after-commit");
            outcome.rows += pruned.rows;
            outcome.bytes += pruned.bytes;
            outcome.transactions += 1;
        }
        if pruned.limit != Limit::Rows || pruned.rows == 0 {
            if outcome.limit == Limit::Rows {
                outcome.limit = Limit::LastRow;
            }
            go_on(&outcome);
            break;
        }
        rows = adapted(rows, pruned.held);
        tokio::time::sleep(LEAST_PAUSE.max(pruned.held)).await;
    }
    Ok(outcome)
}

/// Whether an error may pass by itself, and the step that met it be run again.
fn passes(error: &CtldbError) -> bool {
    matches!(
        error,
        CtldbError::Unavailable(_)
            | CtldbError::Contention(_)
            | CtldbError::OutcomeUnknown(_)
            | CtldbError::NotWritable(_)
    )
}

/// The rows of the next step, after one that held the lock for so long.
fn adapted(rows: usize, held: Duration) -> usize {
    if held > HOLD {
        (rows / 2).max(LEAST_ROWS)
    } else if held < HOLD / 2 {
        (rows * 2).min(MOST_ROWS)
    } else {
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_shrink_where_they_hold_the_lock_for_long() {
        assert_eq!(adapted(400, HOLD / 4), 800);
        assert_eq!(adapted(400, HOLD), 400);
        assert_eq!(adapted(400, HOLD * 2), 200);
        assert_eq!(adapted(LEAST_ROWS, HOLD * 2), LEAST_ROWS);
        assert_eq!(adapted(MOST_ROWS, Duration::ZERO), MOST_ROWS);
    }
}
