//! Between the ledger poller and the LDB applier, and what they tell the others.

use std::time::Duration;

use actix::Message;

use crate::metrics::ErrorKind;
use ctlstore_core::ledger::{Batch, HistoryCheck, LdbPosition, LedgerInfo, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::IntegrityVerdict;

/// To the applier: put this batch into the LDB. Answered, with the LDB's new seq,
/// once it is committed. One batch at a time; a second one is refused.
#[derive(Debug, Message)]
#[rtype(result = "Result<Seq, ApplyFailed>")]
pub struct ApplyBatch(pub Batch);

/// To the applier: where does the LDB stand? Where there is none, or none that can be
/// read, one is fetched before the answer, which can take as long as that takes. Only
/// one that can follow the ledger is taken then, if that could be asked.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LdbPosition, ApplyFailed>")]
pub struct GetPosition(pub Option<FollowedLedger>);

/// The ledger that an LDB is to follow.
#[derive(Debug, Clone)]
pub struct FollowedLedger {
    pub info: LedgerInfo,
    /// Whether the last row of a snapshot is its own. The sender answers until it is answered.
    pub history: HistoryCheck,
}

/// To the applier: the LDB follows this ledger from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ApplyFailed>")]
pub struct AdoptLedger(pub String);

/// To the applier: the LDB can't follow this ledger; fetch a snapshot that can, and
/// put it in the LDB's place. Answered with where the new LDB stands. What can't be
/// followed either does not take the place.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LdbPosition, ApplyFailed>")]
pub struct Bootstrap(pub FollowedLedger);

/// To the applier, from a reader: a read met damage in the LDB. Answered when the
/// applier has looked for itself, or would not look again so soon. Where it found some
/// it has another LDB fetched, if that can be done.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<IntegrityVerdict, ApplyFailed>")]
pub struct InspectLdb;

/// To the applier, from the poller while it has nothing to hand over: is the LDB still
/// there? Where it was given up, the poller asks for its position, and so for another.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct HasLdb;

/// From the poller: the ledger ended at `seq` when it was read at `at`, and the LDB
/// has all of it. A quiet ledger is told by this from a stale host.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CaughtUp {
    pub seq: Seq,
    pub at: Timestamp,
}

/// To the applier: how long did the slowest commit take, from BEGIN to the end of
/// COMMIT, since this was last asked? Zero when there was none.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Duration")]
pub struct SlowestCommit;

/// From the applier: a commit has brought the LDB to `seq`, as readers see it now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Committed {
    pub seq: Seq,
}

/// Why the applier did not do what was asked. The LDB is as it was, or further on
/// by whole ledger transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApplyFailed {
    pub kind: ErrorKind,
    pub message: String,
}
