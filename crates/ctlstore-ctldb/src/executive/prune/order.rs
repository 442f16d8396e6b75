//! [`PruneOrder`]: what is to be pruned, and whether a ledger may be pruned like that. Entry points:
//! [`PruneOrder::check`] and [`may_be_pruned`]. No I/O.

use std::time::Duration;

use crate::ctldb::{CtldbError, LedgerIdentity};
use ctlstore_core::ledger::{HeadRow, PruneBounds, Seq, SourceError, VerifiedSnapshot};
use ctlstore_core::schema::Timestamp;

/// The most rows that are read to find the end of a ledger transaction that is longer than a step.
pub(super) const MAX_ROWS_READ: usize = 200_000;

/// An order to prune a ledger.
#[derive(Debug, Clone)]
pub struct PruneOrder {
    /// Rows younger than this stay.
    pub keep: Duration,
    /// Rows that this snapshot does not have stay.
    pub snapshot: VerifiedSnapshot,
    /// The operator's word that no reflector of the original follows this ledger.
    pub no_original_reflectors: bool,
}

/// Why this ledger must not be pruned like that.
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
    #[error(
        "the snapshot at {url} ends with another row {seq} than this ledger has: the ctldb was restored; remove that \
         snapshot, and publish one of a host that follows this ledger"
    )]
    OtherHistory { url: String, seq: Seq },
    #[error("the ledger transaction at row {first} has more than {MAX_ROWS_READ} rows, which is too many to prune")]
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
    /// Refuses a ledger that the order is not for.
    pub(super) fn check(&self, ledger: &LedgerIdentity, last: Seq) -> Result<(), PruneRefusal> {
        let ctldb = may_be_pruned(ledger, self.no_original_reflectors)?;
        let VerifiedSnapshot { seq, ledger_id, url, .. } = &self.snapshot;
        let url = || url.clone();
        match ledger_id {
            None => Err(PruneRefusal::SnapshotWithoutLedger { url: url() }),
            Some(id) if id != ctldb => {
                Err(PruneRefusal::OtherLedger { url: url(), snapshot: id.clone(), ctldb: ctldb.clone() })
            }
            Some(_) if *seq > last => Err(PruneRefusal::SnapshotAhead { url: url(), snapshot: *seq, last }),
            Some(_) => Ok(()),
        }
    }

    /// Refuses a ledger whose row at the snapshot's seq is not the snapshot's last row. `row` is the ledger's
    /// first row at that seq or after it. A restored ctldb gives the same seqs to other rows, and the
    /// snapshot does not have these.
    pub(super) fn check_last_row(&self, row: Option<&HeadRow>) -> Result<(), PruneRefusal> {
        let VerifiedSnapshot { seq, leader_ts, url, .. } = &self.snapshot;
        let Some(row) = row.filter(|row| row.seq == *seq) else { return Ok(()) };
        match (leader_ts, row.leader_ts) {
            (Some(snapshot), Some(ledger)) if *snapshot != ledger => {
                Err(PruneRefusal::OtherHistory { url: url.clone(), seq: *seq })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn bounds(&self, now: Timestamp, last: Seq) -> PruneBounds {
        PruneBounds { before: before(now, self.keep), snapshot: self.snapshot.seq, last }
    }
}

/// Refuses a ledger that may not be pruned at all. Returns the ledger's id.
pub fn may_be_pruned(ledger: &LedgerIdentity, no_original_reflectors: bool) -> Result<&String, PruneRefusal> {
    if ledger.made_by_original && !no_original_reflectors {
        return Err(PruneRefusal::MadeByOriginal);
    }
    ledger.ledger_id.as_ref().ok_or(PruneRefusal::NoLedgerId)
}

/// The time from which on rows are younger than `keep`.
pub(super) fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_unix_micros(now.unix_micros().saturating_sub(keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_for_one_ledger() {
        let ledger = |id: Option<&str>, made_by_original| LedgerIdentity {
            ledger_id: id.map(str::to_owned),
            low_water: None,
            made_by_original,
        };
        let order = |id: Option<&str>| PruneOrder {
            keep: Duration::ZERO,
            snapshot: VerifiedSnapshot {
                seq: Seq(5),
                leader_ts: Some(Timestamp::from_unix_micros(5)),
                ledger_id: id.map(str::to_owned),
                url: "file:s".to_owned(),
            },
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
        let row = |seq, at| HeadRow {
            seq: Seq(seq),
            leader_ts: Some(Timestamp::from_unix_micros(at)),
            marker: None,
            bytes: 0,
        };
        assert_eq!(order(Some("a")).check_last_row(Some(&row(5, 5))), Ok(()));
        assert_eq!(order(Some("a")).check_last_row(Some(&row(6, 9))), Ok(()));
        let lost = order(Some("a")).check_last_row(Some(&row(5, 9))).unwrap_err();
        assert!(matches!(lost, PruneRefusal::OtherHistory { seq: Seq(5), .. }), "{lost}");
        let anyway = PruneOrder { no_original_reflectors: true, ..order(Some("a")) };
        assert_eq!(anyway.check(&ledger(Some("a"), true), Seq(5)), Ok(()));
    }
}
