//! Shows what a prune would do. Entry point: [`plan`]. It reads the ledger's rows without their statements,
//! takes no lock and writes nothing.

use crate::ctldb::AnySource;
use ctlstore_core::ledger::{LedgerSource, PruneCutter, PruneLimit, Seq};
use ctlstore_core::schema::Timestamp;

use super::order::{PruneError, PruneOrder};

/// The rows that one query reads.
const PLAN_ROWS: usize = 10_000;

/// The rows that a prune would delete, and the reason why it would delete no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunePlan {
    /// The ledger's first and last row.
    pub first: Option<Seq>,
    pub last: Option<Seq>,
    /// The last row that may go, `None` if no row may, and the number of rows that may go.
    pub cut: Option<Seq>,
    pub rows: u64,
    /// The bytes of the statements that may go.
    pub bytes: u64,
    /// Why no more rows may go.
    pub limit: PruneLimit,
    /// When the first row that stays was written.
    pub oldest_left: Option<Timestamp>,
    pub low_water: Option<Seq>,
}

/// Reads the ledger row by row, and returns what `order` would delete.
pub async fn plan(source: &mut AnySource, order: &PruneOrder) -> Result<PrunePlan, PruneError> {
    let identity = source.identity().await?;
    let info = source.describe().await?;
    let now = source.now().await?;
    let last = info.last.unwrap_or_default();
    order.check(&identity, last)?;
    let after = Seq(order.snapshot.seq.0.saturating_sub(1));
    order.check_last_row(source.heads(Some(after), 1).await?.first())?;
    let mut cutter = PruneCutter::new(order.bounds(now, last));
    let mut after = None;
    let mut limit = PruneLimit::Rows;
    // The time of the first row after the cut. It starts anew each time the cut moves.
    let mut oldest_left = None;
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
            Some(row) if limit == PruneLimit::Rows => after = Some(row.seq),
            _ => break,
        }
    }
    if limit == PruneLimit::Rows {
        // Only an empty ledger has no last row.
        limit = PruneLimit::LastRow;
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
