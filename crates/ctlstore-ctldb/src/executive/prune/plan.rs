//! What a prune would do, told from the ledger's rows without their statements.

use crate::ctldb::AnySource;
use ctlstore_core::ledger::{Cutter, LedgerSource, Limit, Seq};
use ctlstore_core::schema::Timestamp;

use super::{PruneError, PruneOrder};

/// Rows that a plan looks at in one question.
const PLAN_ROWS: usize = 10_000;

/// What a prune would do, found without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunePlan {
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
pub async fn plan(source: &mut AnySource, order: &PruneOrder) -> Result<PrunePlan, PruneError> {
    let (identity, info, now) = (source.identity().await?, source.describe().await?, source.now().await?);
    let last = info.last.unwrap_or_default();
    order.check(&identity, last)?;
    let after = Seq(order.snapshot.seq.0.saturating_sub(1));
    order.check_last_row(source.heads(Some(after), 1).await?.first())?;
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
    Ok(PrunePlan {
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
