//! Decides which ledger an LDB may follow. Entry points: [`may_follow`], and [`HistoryCheck`] for the
//! row that the LDB applied last. This file reads no ledger itself.
//!
//! An LDB that went on with another ledger, or with one that has lost rows which it needs, would
//! diverge unnoticed. Id and seq alone do not tell: a restored ctldb keeps its ledger id and gives
//! the same seqs to other rows.

use std::fmt;
use std::sync::Arc;

use crate::schema::Timestamp;

use super::row::Seq;

/// The facts about a ledger that decide whether an LDB may follow it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerInfo {
    /// The ledger's UUID; `None` on a ctldb that only the Go program has written.
    pub ledger_id: Option<String>,
    /// The first row; `None` if the ledger is empty.
    pub first: Option<Seq>,
    /// Whether that row creates a table. The very first row of any ledger does.
    pub first_creates_table: bool,
    /// The last row; `None` if the ledger is empty.
    pub last: Option<Seq>,
    /// The first row that pruning has left; `None` if the ledger was never pruned.
    pub low_water: Option<Seq>,
}

/// How far an LDB has come, and in which ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LdbPosition {
    /// The last applied row; 0 if there is none.
    pub seq: Seq,
    /// That row's `leader_ts`, if the LDB knows it.
    pub leader_ts: Option<Timestamp>,
    /// The id of the ledger that the LDB has followed so far; `None` while it is unknown.
    pub ledger_id: Option<String>,
}

/// Why an LDB can't go on with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotFollow {
    #[error("the ldb follows ledger {ldb}, the ctldb has {}", .ctldb.as_deref().unwrap_or("a ledger without an id"))]
    OtherLedger { ldb: String, ctldb: Option<String> },
    #[error("the ldb is at seq {ldb}, the ledger ends at {last}: the ctldb was restored or is another one")]
    AheadOfLedger { ldb: Seq, last: Seq },
    /// The LDB is right; the server has yet to get the rows.
    #[error(
        "the ldb is at seq {ldb}, which the ledger here does not have yet: the ctldb is a replica that lags behind its \
         primary ({state}), waiting for it"
    )]
    LaggingReplica { ldb: Seq, state: &'static str },
    #[error(
        "the ldb is at seq {ldb}, the ledger begins at {first}: rows that it needs were pruned; set bootstrap.urls, \
             so that a snapshot with them is fetched"
    )]
    Pruned { ldb: Seq, first: Seq },
}

/// Whether an LDB at the position `ldb` may follow this ledger.
///
/// # Errors
/// The reason why it may not.
pub fn may_follow(ledger: &LedgerInfo, ldb: &LdbPosition) -> Result<(), CannotFollow> {
    if let Some(id) = &ldb.ledger_id
        && ledger.ledger_id.as_ref() != Some(id)
    {
        return Err(CannotFollow::OtherLedger { ldb: id.clone(), ctldb: ledger.ledger_id.clone() });
    }
    // A ledger that was pruned to nothing ends before its low-water mark.
    let pruned_up_to = ledger.low_water.map(|first| Seq(first.0 - 1));
    let last = ledger.last.or(pruned_up_to).unwrap_or_default();
    if ldb.seq > last {
        return Err(CannotFollow::AheadOfLedger { ldb: ldb.seq, last });
    }
    let needed = ldb.seq.next();
    if let Some(first) = ledger.low_water {
        return if needed < first { Err(CannotFollow::Pruned { ldb: ldb.seq, first }) } else { Ok(()) };
    }
    match ledger.first {
        Some(first) if first > needed && !(ldb.seq == Seq::ZERO && ledger.first_creates_table) => {
            Err(CannotFollow::Pruned { ldb: ldb.seq, first })
        }
        _ => Ok(()),
    }
}

/// The ledger's answer about the last row of a copy, which is an LDB or a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRow {
    /// The same row, as far as its time tells; or the row was pruned.
    Same,
    /// Another row has this seq.
    Other,
    /// No row has this seq, although there are rows before it; or the ledger ends before it.
    Missing,
    /// The ledger could not be asked.
    Unknown,
}

/// Asks the ledger about the last row of a copy, for code that blocks. The asker is a closure, so
/// this type knows no source.
#[derive(Clone)]
pub struct HistoryCheck(Arc<dyn Fn(&LdbPosition) -> LastRow + Send + Sync>);

impl HistoryCheck {
    pub fn new(ask: impl Fn(&LdbPosition) -> LastRow + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Blocks until the ledger has answered.
    ///
    /// # Panics
    /// On a thread that runs asynchronous tasks, if the asker waits for one of them.
    pub fn ask(&self, position: &LdbPosition) -> LastRow {
        (self.0)(position)
    }
}

impl fmt::Debug for HistoryCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HistoryCheck")
    }
}

/// Whether an LDB may begin empty, and so replay the ledger from its first row, if no source has a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowEmpty {
    /// If the ledger still has its first row.
    Auto,
    Always,
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(id: Option<&str>, first: i64, last: i64) -> LedgerInfo {
        LedgerInfo {
            ledger_id: id.map(str::to_owned),
            first: Some(Seq(first)),
            first_creates_table: false,
            last: Some(Seq(last)),
            low_water: None,
        }
    }

    fn ldb(id: Option<&str>, seq: i64) -> LdbPosition {
        LdbPosition { seq: Seq(seq), ledger_id: id.map(str::to_owned), leader_ts: None }
    }

    #[test]
    fn the_same_ledger_further_on_is_followed() {
        assert_eq!(may_follow(&ledger(Some("a"), 1, 9), &ldb(Some("a"), 9)), Ok(()));
        assert_eq!(may_follow(&ledger(Some("a"), 1, 9), &ldb(None, 3)), Ok(()));
        assert_eq!(may_follow(&ledger(None, 1, 9), &ldb(None, 3)), Ok(()));
        assert_eq!(may_follow(&LedgerInfo::default(), &ldb(None, 0)), Ok(()));
    }

    #[test]
    fn another_or_a_shorter_ledger_is_refused() {
        let refused = |l, p| may_follow(&l, &p).unwrap_err();
        assert!(matches!(refused(ledger(Some("b"), 1, 9), ldb(Some("a"), 3)), CannotFollow::OtherLedger { .. }));
        assert!(matches!(refused(ledger(None, 1, 9), ldb(Some("a"), 3)), CannotFollow::OtherLedger { .. }));
        assert!(matches!(refused(ledger(None, 1, 9), ldb(None, 10)), CannotFollow::AheadOfLedger { .. }));
        assert!(matches!(refused(LedgerInfo::default(), ldb(None, 1)), CannotFollow::AheadOfLedger { .. }));
    }

    #[test]
    fn a_ledger_whose_needed_rows_are_gone_is_refused() {
        assert!(matches!(may_follow(&ledger(None, 5, 9), &ldb(None, 3)), Err(CannotFollow::Pruned { .. })));
        assert_eq!(may_follow(&ledger(None, 5, 9), &ldb(None, 4)), Ok(()));
        let pruned = LedgerInfo { low_water: Some(Seq(5)), ..ledger(Some("a"), 5, 9) };
        assert!(matches!(may_follow(&pruned, &ldb(Some("a"), 3)), Err(CannotFollow::Pruned { .. })));
        assert_eq!(may_follow(&pruned, &ldb(Some("a"), 4)), Ok(()));
    }

    #[test]
    fn a_ledger_pruned_to_nothing_ends_where_its_pruning_did() {
        let empty = LedgerInfo { low_water: Some(Seq(10)), first: None, last: None, ..ledger(Some("a"), 1, 9) };
        assert_eq!(may_follow(&empty, &ldb(Some("a"), 9)), Ok(()));
        assert!(matches!(may_follow(&empty, &ldb(Some("a"), 8)), Err(CannotFollow::Pruned { .. })));
        assert!(matches!(may_follow(&empty, &ldb(Some("a"), 10)), Err(CannotFollow::AheadOfLedger { .. })));
    }

    #[test]
    fn an_empty_ldb_may_start_where_a_ledger_creates_its_first_table() {
        assert!(may_follow(&ledger(None, 5, 9), &ldb(None, 0)).is_err());
        let fresh = LedgerInfo { first_creates_table: true, ..ledger(None, 5, 9) };
        assert_eq!(may_follow(&fresh, &ldb(None, 0)), Ok(()));
        assert!(may_follow(&fresh, &ldb(None, 2)).is_err());
    }
}
