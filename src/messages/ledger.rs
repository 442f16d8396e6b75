//! The messages between the ledger poller and the LDB applier, and those that they send to other actors.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

use crate::metrics::ErrorKind;
use ctlstore_core::ledger::{Batch, HistoryCheck, LdbPosition, LedgerInfo, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::IntegrityVerdict;

/// To the applier: put this batch into the LDB. The answer comes after the commit, and is the LDB's new
/// seq. Only one batch may be on its way; a second one is refused.
#[derive(Debug, Message)]
#[rtype(result = "Result<Seq, ApplyFailed>")]
pub struct ApplyBatch(pub Arc<Batch>);

/// To the applier: at which position is the LDB? If there is no LDB, or none that can be read, the applier
/// fetches one before it answers, which may take long. If the message names the ledger, the fetched LDB
/// must be able to follow it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LdbPosition, ApplyFailed>")]
pub struct GetPosition(pub Option<FollowedLedger>);

/// The ledger that an LDB is to follow.
#[derive(Debug, Clone)]
pub struct FollowedLedger {
    pub info: LedgerInfo,
    /// Tells whether a snapshot's last row is in the ledger. The sender answers such questions until it has the
    /// answer to its own message.
    pub history: HistoryCheck,
}

/// To the applier: the LDB follows this ledger from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ApplyFailed>")]
pub struct AdoptLedger(pub String);

/// To the applier: the LDB can't follow this ledger. Fetch a snapshot that can, and put it in the LDB's
/// place. The answer is the new LDB's position. A snapshot that can't follow either is not used.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LdbPosition, ApplyFailed>")]
pub struct Bootstrap(pub FollowedLedger);

/// To the applier, from a reader: a read met damage in the LDB. The answer comes when the applier has
/// checked the LDB itself, or will not check it again so soon. If the applier finds damage too, it has
/// another LDB fetched, if that is possible.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<IntegrityVerdict, ApplyFailed>")]
pub struct InspectLdb;

/// To the applier, from the poller when there are no new rows: is the LDB still there? If the applier has
/// given it up, the poller asks for its position, so that another LDB is fetched.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct HasLdb;

/// From the poller: the ledger ended at `seq` when it was read at `at`, and the LDB has all of it. This tells
/// a quiet ledger from a lagging host.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CaughtUp {
    pub seq: Seq,
    pub at: Timestamp,
}

/// To the applier: how long did the slowest commit take since this was last asked, from BEGIN to the end of
/// COMMIT? Zero if there was none.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Duration")]
pub struct SlowestCommit;

/// From the applier: after a commit the LDB is at `seq`, and readers see that.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Committed {
    pub seq: Seq,
}

/// Why the applier did not do what was asked. The LDB is unchanged, or has some more whole ledger
/// transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApplyFailed {
    pub kind: ErrorKind,
    pub message: String,
}
