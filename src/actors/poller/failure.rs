//! Names why the ledger can't be followed, and decides when an LDB has to be given up. Entry points: [`Failure`] and
//! [`Patience`]. It neither reads the ledger nor changes an LDB.

use std::time::{Duration, Instant};

use crate::messages::ledger::ApplyFailed;
use crate::metrics::ErrorKind;
use ctlstore_core::ledger::{AssembleError, CannotFollow, Replication, Seq, SourceError};
use ctlstore_ctldb::tail::TailError;

/// How long the ledger must have ended before the LDB's position until the LDB is given up. A replica
/// that lags looks like a ctldb that was restored.
const AHEAD_GRACE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Apply(#[from] ApplyFailed),
    #[error(
        "the ledger transaction that stands at the ledger's end, up to row {last}, has no \"--- COMMIT\"; add that row \
         to the ledger, or delete its \"--- BEGIN\""
    )]
    NeverEnds { last: Seq },
    #[error("the applier does not answer")]
    ApplierGone,
    #[error("the ldb is damaged")]
    LdbGone,
}

impl Failure {
    /// Whether the ctldb could not be read. Such a failure says nothing about the LDB's data.
    pub(super) fn is_of_the_ctldb(&self) -> bool {
        use SourceError::{Failed, NoLedger, Unavailable};
        matches!(self, Self::Tail(TailError::Source(Unavailable(_) | Failed(_) | NoLedger(_))))
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Tail(TailError::Source(SourceError::BadRow { .. } | SourceError::NoLedger(_)))
            | Self::Assemble(_)
            | Self::NeverEnds { .. } => ErrorKind::Ledger,
            Self::Tail(TailError::Source(SourceError::Failed(_))) => ErrorKind::Storage,
            Self::Tail(
                TailError::Source(SourceError::Unavailable(_))
                | TailError::CannotFollow(CannotFollow::LaggingReplica { .. }),
            ) => ErrorKind::Unavailable,
            Self::Tail(_) => ErrorKind::Ledger,
            Self::Apply(failed) => failed.kind,
            Self::ApplierGone => ErrorKind::Internal,
            Self::LdbGone => ErrorKind::Storage,
        }
    }
}

/// Since when the LDB has been ahead of the ledger.
#[derive(Debug, Default)]
pub(super) struct Patience {
    ahead_since: Option<Instant>,
    /// The end of a ledger that ends before the LDB's position, and when it last grew.
    grew: Option<(Seq, Instant)>,
}

impl Patience {
    /// Tells a replica that lags from a ctldb that was restored, by the state that the server reports.
    /// A server that is only read-only counts as a replica for as long as its ledger grows.
    pub(super) fn explain(&mut self, failure: Failure, replication: Option<Replication>, now: Instant) -> Failure {
        let Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { ldb, last })) = failure else {
            return failure;
        };
        if self.grew.is_none_or(|(before, _)| last > before) {
            self.grew = Some((last, now));
        }
        let grows = self.grew.is_some_and(|(_, at)| now.duration_since(at) < AHEAD_GRACE);
        let state = match replication {
            Some(Replication::Behind) => "it is behind",
            Some(Replication::Stopped) => "its replication is stopped",
            Some(Replication::Unknown) if grows => "it is read-only",
            _ => return failure,
        };
        TailError::from(CannotFollow::LaggingReplica { ldb, state }).into()
    }

    /// Whether the LDB has to be given up because of `failure`, which happened at `now`.
    pub(super) fn is_over(&mut self, failure: &Failure, now: Instant) -> bool {
        match failure {
            Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { .. })) => {
                now.duration_since(*self.ahead_since.get_or_insert(now)) >= AHEAD_GRACE
            }
            // The LDB is good, and newer than an LDB made from this replica would be.
            Failure::Tail(TailError::CannotFollow(CannotFollow::LaggingReplica { .. })) => {
                self.ahead_since = None;
                false
            }
            Failure::Tail(TailError::CannotFollow(_)) => {
                self.ahead_since = None;
                true
            }
            // A ctldb that can't be reached says nothing about its ledger.
            _ => false,
        }
    }
}

pub(super) fn is_ahead(failure: &Failure) -> bool {
    matches!(failure, Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_shorter_than_the_ldb_is_believed_after_a_while_and_pruning_at_once() {
        let ahead = || Failure::from(TailError::from(CannotFollow::AheadOfLedger { ldb: Seq(9), last: Seq(8) }));
        let pruned = Failure::from(TailError::from(CannotFollow::Pruned { ldb: Seq(1), first: Seq(5) }));
        let away = Failure::from(TailError::from(SourceError::Unavailable("away".to_owned())));
        let start = Instant::now();
        let mut patience = Patience::default();
        assert!(!patience.is_over(&ahead(), start));
        assert!(!patience.is_over(&away, start + AHEAD_GRACE / 2));
        assert!(patience.is_over(&ahead(), start + AHEAD_GRACE));
        assert!(patience.is_over(&pruned, start));
        assert!(!patience.is_over(&ahead(), start + AHEAD_GRACE));
    }

    #[test]
    fn a_replica_is_waited_for_while_it_says_that_it_lags_or_grows_and_a_restored_ctldb_is_not() {
        let ahead = |last| Failure::from(TailError::from(CannotFollow::AheadOfLedger { ldb: Seq(9), last: Seq(last) }));
        let start = Instant::now();
        let mut patience = Patience::default();
        for replication in [Replication::Behind, Replication::Stopped] {
            for at in [start, start + AHEAD_GRACE * 9] {
                let failure = patience.explain(ahead(5), Some(replication), at);
                assert!(!is_ahead(&failure) && !patience.is_over(&failure, at), "{failure}");
            }
        }
        let mut patience = Patience::default();
        for none in [None, Some(Replication::CaughtUp)] {
            assert!(is_ahead(&patience.explain(ahead(5), none, start)));
        }
        assert!(!is_ahead(&patience.explain(ahead(6), Some(Replication::Unknown), start)));
        let later = start + AHEAD_GRACE;
        assert!(is_ahead(&patience.explain(ahead(6), Some(Replication::Unknown), later)));
        assert!(!is_ahead(&patience.explain(ahead(7), Some(Replication::Unknown), later)));
    }
}
