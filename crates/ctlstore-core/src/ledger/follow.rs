//! Which ledger an LDB may follow. Going on with another ledger, or with one that
//! has lost rows the LDB still needs, would diverge without anyone noticing.

use crate::schema::Timestamp;

use super::row::Seq;

/// What a source says of its ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerInfo {
    /// The ledger's UUID; `None` on a ctldb that only the original has written.
    pub ledger_id: Option<String>,
    /// The first row there is, `None` when the ledger is empty.
    pub first: Option<Seq>,
    /// Whether that first row creates a table, as the first row of any ledger does.
    pub first_creates_table: bool,
    /// The last row there is.
    pub last: Option<Seq>,
    /// The first row that pruning has left, where it ever ran.
    pub low_water: Option<Seq>,
}

/// Where an LDB stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LdbPosition {
    /// The last applied row, 0 when there is none.
    pub seq: Seq,
    /// That row's `leader_ts`, where the LDB knows it.
    pub leader_ts: Option<Timestamp>,
    /// The ledger it has followed so far, `None` while that is unknown.
    pub ledger_id: Option<String>,
}

/// Why an LDB can't go on with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotFollow {
    #[error("the ldb follows ledger {ldb}, the ctldb has {}", .ctldb.as_deref().unwrap_or("a ledger without an id"))]
    OtherLedger { ldb: String, ctldb: Option<String> },
    #[error("the ldb is at seq {ldb}, the ledger ends at {last}: the ctldb was restored or is another one")]
    AheadOfLedger { ldb: Seq, last: Seq },
    /// It is not the LDB that is wrong: the server has yet to get the rows.
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

/// Whether an LDB at `ldb` may be fed from this ledger.
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
