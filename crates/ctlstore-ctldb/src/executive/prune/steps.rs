//! Runs the transactions of a prune one after the other, each under the ledger lock. Entry point:
//! [`prune`]. [`HasOldRows`] tells beforehand whether there may be rows to prune.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ctldb::{Ctldb, CtldbError, CtldbOperation, Session};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::{PruneBounds, PruneCutter, PruneLimit, Seq};
use ctlstore_core::schema::Timestamp;

use super::order::{MAX_ROWS_READ, PruneError, PruneOrder, PruneRefusal, before};

/// The rows of the first transaction, and the bounds for the others. The number changes so that each
/// transaction holds the ledger lock for about [`HOLD`].
const FIRST_ROWS: usize = 500;
const LEAST_ROWS: usize = 50;
const MOST_ROWS: usize = 5_000;
const HOLD: Duration = Duration::from_millis(25);

/// The shortest pause between two transactions. If the lock was held for longer, the pause is as long as
/// that, so that writers get at least half of the time.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// The time for one transaction, with the wait for the lock.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The most failures in a row that are followed by another try.
const MOST_FAILURES: u32 = 5;
/// The pause after the first failure. It grows with each further one.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Whether the ledger's first row is older than `keep` or of unknown age. If not, no snapshot is needed: there
/// is nothing to prune.
#[derive(Debug)]
pub struct HasOldRows {
    pub keep: Duration,
}

impl CtldbOperation for HasOldRows {
    type Output = bool;

    async fn run<S: Session>(&self, session: &mut S) -> Result<bool, CtldbError> {
        let before = before(now(session).await?, self.keep);
        let first = session.ledger_head(2).await?;
        // The ledger's last row always stays.
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

/// The result of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    pub rows: u64,
    /// The bytes of the deleted statements.
    pub bytes: u64,
    /// The ledger's low-water mark after it.
    pub low_water: Option<Seq>,
    /// Why it deleted no more: [`PruneLimit::Rows`] if the next transaction may go on.
    pub limit: PruneLimit,
    /// How long the ledger lock was held, without the commit.
    held: Duration,
}

impl CtldbOperation for Step {
    type Output = Result<Pruned, PruneRefusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let start = Instant::now();
        let identity = session.ledger_identity().await?;
        let last = session.last_seq().await?;
        if let Err(refusal) = self.order.check(&identity, last) {
            return Ok(Err(refusal));
        }
        let row = session.ledger_row_from(self.order.snapshot.seq).await?;
        if let Err(refusal) = self.order.check_last_row(row.as_ref()) {
            return Ok(Err(refusal));
        }
        let bounds = self.order.bounds(now(session).await?, last);
        let (cutter, limit) = match find_cut(session, bounds, self.rows).await? {
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

/// Reads the ledger's first `rows` rows. If all of them belong to one ledger transaction, reads more, until its
/// end is found.
async fn find_cut<S: Session>(
    session: &mut S,
    bounds: PruneBounds,
    mut rows: usize,
) -> Result<Result<(PruneCutter, PruneLimit), PruneRefusal>, CtldbError> {
    loop {
        let head = session.ledger_head(rows).await?;
        let mut cutter = PruneCutter::new(bounds);
        let limit = cutter.push_all(&head);
        if cutter.cut().is_some() || limit != PruneLimit::Rows || head.len() < rows {
            return Ok(Ok((cutter, limit)));
        }
        if rows >= MAX_ROWS_READ {
            return Ok(Err(PruneRefusal::TransactionTooLong { first: head[0].seq }));
        }
        rows = (rows * 4).min(MAX_ROWS_READ);
    }
}

/// The result of a prune: the sum of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneOutcome {
    pub rows: u64,
    pub bytes: u64,
    pub transactions: u64,
    pub low_water: Option<Seq>,
    /// Why it ended. [`PruneLimit::Rows`] if the caller stopped it.
    pub limit: PruneLimit,
}

/// Deletes the rows that `order` allows, transaction by transaction. Before each transaction it calls `go_on`
/// with the sum so far, and ends if that returns false. The rows that are deleted by then stay deleted, and
/// the ledger is right.
pub async fn prune<C: Ctldb>(
    ctldb: &C,
    order: PruneOrder,
    mut go_on: impl FnMut(&PruneOutcome) -> bool,
) -> Result<PruneOutcome, PruneError> {
    let order = Arc::new(order);
    let mut outcome = PruneOutcome { rows: 0, bytes: 0, transactions: 0, low_water: None, limit: PruneLimit::Rows };
    let mut rows = FIRST_ROWS;
    let mut failures = 0;
    while go_on(&outcome) {
        let step = Step { order: Arc::clone(&order), rows };
        let pruned = match ctldb.write(step, Instant::now() + STEP_TIMEOUT).await {
            Ok(pruned) => pruned?,
            // The outcome does not matter: the next step begins with the present state.
            Err(error) if passes(&error) && failures < MOST_FAILURES => {
                failures += 1;
                tokio::time::sleep(FAILURE_PAUSE * failures).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        outcome.low_water = pruned.low_water;
        outcome.limit = pruned.limit;
        if pruned.rows > 0 {
            failpoint::hit("prune-after-commit");
            outcome.rows += pruned.rows;
            outcome.bytes += pruned.bytes;
            outcome.transactions += 1;
        }
        if pruned.limit != PruneLimit::Rows || pruned.rows == 0 {
            if outcome.limit == PruneLimit::Rows {
                outcome.limit = PruneLimit::LastRow;
            }
            go_on(&outcome);
            break;
        }
        rows = adapted(rows, pruned.held);
        tokio::time::sleep(LEAST_PAUSE.max(pruned.held)).await;
    }
    Ok(outcome)
}

/// Whether an error may be temporary, so that the step is run again.
fn passes(error: &CtldbError) -> bool {
    matches!(
        error,
        CtldbError::Unavailable(_)
            | CtldbError::Contention(_)
            | CtldbError::OutcomeUnknown(_)
            | CtldbError::NotWritable(_)
    )
}

/// The rows of the next step, after one that held the lock for the time `held`.
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
