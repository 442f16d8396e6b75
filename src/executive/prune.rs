//! Pruning the ledger: which rows may go, and deleting them in small transactions.
//!
//! Each transaction looks at everything anew under the ledger lock: whose ledger it is,
//! what is old enough by the ctldb's clock, where a ledger transaction ends. So nothing
//! is ever deleted on the word of an earlier look, several executives may prune one
//! ctldb at a time, and whoever dies in between leaves a ledger that is right.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ctldb::{AnySource, Ctldb, CtldbError, LedgerIdentity, Operation, Session};
use crate::failpoint;
use crate::ledger::{Cutter, LedgerSource, Limit, PruneBounds, Seq, SourceError};
use crate::schema::Timestamp;
use crate::snapshot::VerifiedSnapshot;

/// Rows of one transaction: at first, and the bounds within which that changes so that
/// the ledger lock is held for about [`HOLD`] each time.
const FIRST_ROWS: usize = 500;
const LEAST_ROWS: usize = 50;
const MOST_ROWS: usize = 5_000;
const HOLD: Duration = Duration::from_millis(25);

/// Rows looked at to find the end of a ledger transaction that is longer than a step.
const MOST_LOOKED_AT: usize = 200_000;

/// The least pause between two transactions; it is as long as the lock was held when
/// that is longer, so that writers get at least half of the time.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// What one transaction may take, waiting for the lock included, and how many may fail
/// one after the other, with which pause.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_FAILURES: u32 = 5;
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Rows that a plan looks at in one question.
const PLAN_ROWS: usize = 10_000;

/// What is to be pruned.
#[derive(Debug, Clone)]
pub struct PruneOrder {
    /// Rows younger than this stay.
    pub keep: Duration,
    /// Rows that it does not have stay.
    pub snapshot: VerifiedSnapshot,
    /// That nothing made by the original follows this ledger.
    pub no_original_reflectors: bool,
}

/// Why this ledger is not to be pruned like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PruneRefusal {
    #[error(
        "the original made this ctldb: its reflectors do not notice that a ledger was pruned and go on with a hole; \
         where none of them follows it, say so with --no-original-reflectors (executive.no_original_reflectors)"
    )]
    MadeByOriginal,
    #[error("this ctldb's ledger has no id yet: run an executive of ctlstore on it once, then take a snapshot")]
    NoLedgerId,
    #[error("the snapshot at {url} names no ledger: the original took it; have a snapshotter of ctlstore take one")]
    SnapshotWithoutLedger { url: String },
    #[error("the snapshot at {url} is of ledger {snapshot}, this ctldb has {ctldb}: it is of another ctldb")]
    OtherLedger { url: String, snapshot: String, ctldb: String },
    #[error("the snapshot at {url} is at seq {snapshot}, this ledger ends at {last}: the ctldb was restored")]
    SnapshotAhead { url: String, snapshot: Seq, last: Seq },
    #[error("the ledger transaction at row {first} has more than {MOST_LOOKED_AT} rows, which is too many to prune")]
    TransactionTooLong { first: Seq },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Refused(#[from] PruneRefusal),
    #[error(transparent)]
    Ctldb(#[from] CtldbError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl PruneOrder {
    /// Whether this is the ledger that the order is for.
    fn check(&self, ledger: &LedgerIdentity, last: Seq) -> Result<(), PruneRefusal> {
        let ctldb = may_be_pruned(ledger, self.no_original_reflectors)?;
        let VerifiedSnapshot { seq, ledger_id, url } = &self.snapshot;
        let url = || url.clone();
        match ledger_id {
            None => return Err(PruneRefusal::SnapshotWithoutLedger { url: url() }),
            Some(id) if id != ctldb => {
                return Err(PruneRefusal::OtherLedger { url: url(), snapshot: id.clone(), ctldb: ctldb.clone() });
            }
            Some(_) if *seq > last => return Err(PruneRefusal::SnapshotAhead { url: url(), snapshot: *seq, last }),
            Some(_) => Ok(()),
        }
    }

    fn bounds(&self, now: Timestamp, last: Seq) -> PruneBounds {
        PruneBounds { before: before(now, self.keep), snapshot: self.snapshot.seq, last }
    }
}

/// Whether this ledger may be pruned at all; gives its id.
pub fn may_be_pruned(ledger: &LedgerIdentity, no_original_reflectors: bool) -> Result<&String, PruneRefusal> {
    if ledger.made_by_original && !no_original_reflectors {
        return Err(PruneRefusal::MadeByOriginal);
    }
    ledger.ledger_id.as_ref().ok_or(PruneRefusal::NoLedgerId)
}

/// The moment from which on rows are younger than `keep`.
fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_unix_micros(now.unix_micros().saturating_sub(keep))
}

/// What a prune would do, found without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The ledger's first and last row.
    pub first: Option<Seq>,
    pub last: Option<Seq>,
    /// The last row that may go, if any may, and how many those are.
    pub cut: Option<Seq>,
    pub rows: u64,
    /// Of the statements that may go.
    pub bytes: u64,
    /// Why no more may go.
    pub limit: Limit,
    /// When the first row that stays was written.
    pub oldest_left: Option<Timestamp>,
    pub low_water: Option<Seq>,
}

/// Looks at the ledger, row by row but without statements, and says what would go.
/// Takes no lock and writes nothing.
pub async fn plan(source: &mut AnySource, order: &PruneOrder) -> Result<Plan, PruneError> {
    let (identity, info, now) = (source.identity().await?, source.describe().await?, source.now().await?);
    let last = info.last.unwrap_or_default();
    order.check(&identity, last)?;
    let mut cutter = Cutter::new(order.bounds(now, last));
    // Where the cut stands moves with the cutter, so what comes behind it is kept.
    let (mut after, mut limit, mut oldest_left) = (None, Limit::Rows, None);
    loop {
        let rows = source.heads(after, PLAN_ROWS).await?;
        for row in &rows {
            let pushed = cutter.push(row);
            if cutter.cut() == Some(row.seq) {
                oldest_left = None;
            } else {
                oldest_left = oldest_left.or(row.leader_ts);
            }
            if let Err(reached) = pushed {
                limit = reached;
                break;
            }
        }
        match rows.last() {
            Some(row) if limit == Limit::Rows => after = Some(row.seq),
            _ => break,
        }
    }
    if limit == Limit::Rows {
        // Only an empty ledger has no last row.
        limit = Limit::LastRow;
    }
    Ok(Plan {
        first: info.first,
        last: info.last,
        cut: cutter.cut(),
        rows: cutter.rows(),
        bytes: cutter.bytes(),
        limit,
        oldest_left,
        low_water: info.low_water,
    })
}

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
pub struct Outcome {
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
    mut go_on: impl FnMut(&Outcome) -> bool,
) -> Result<Outcome, PruneError> {
    let order = Arc::new(order);
    let mut outcome = Outcome { rows: 0, bytes: 0, transactions: 0, low_water: None, limit: Limit::Rows };
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
    matches!(error, CtldbError::Unavailable(_) | CtldbError::Contention(_) | CtldbError::OutcomeUnknown(_))
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

    #[test]
    fn an_order_is_for_one_ledger() {
        let ledger = |id: Option<&str>, made_by_original| LedgerIdentity {
            ledger_id: id.map(str::to_owned),
            low_water: None,
            made_by_original,
        };
        let order = |id: Option<&str>| PruneOrder {
            keep: Duration::ZERO,
            snapshot: VerifiedSnapshot { seq: Seq(5), ledger_id: id.map(str::to_owned), url: "file:s".to_owned() },
            no_original_reflectors: false,
        };
        assert_eq!(order(Some("a")).check(&ledger(Some("a"), false), Seq(5)), Ok(()));
        let refused = |order: PruneOrder, ledger, last| order.check(&ledger, Seq(last)).unwrap_err();
        assert_eq!(refused(order(Some("a")), ledger(Some("a"), true), 5), PruneRefusal::MadeByOriginal);
        assert_eq!(refused(order(Some("a")), ledger(None, false), 5), PruneRefusal::NoLedgerId);
        let without = refused(order(None), ledger(Some("a"), false), 5);
        assert_eq!(without, PruneRefusal::SnapshotWithoutLedger { url: "file:s".to_owned() });
        let other = refused(order(Some("b")), ledger(Some("a"), false), 5);
        assert!(matches!(other, PruneRefusal::OtherLedger { .. }), "{other}");
        let ahead = refused(order(Some("a")), ledger(Some("a"), false), 4);
        assert!(matches!(ahead, PruneRefusal::SnapshotAhead { .. }), "{ahead}");
        let anyway = PruneOrder { no_original_reflectors: true, ..order(Some("a")) };
        assert_eq!(anyway.check(&ledger(Some("a"), true), Seq(5)), Ok(()));
    }
}
