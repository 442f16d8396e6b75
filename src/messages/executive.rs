//! What the executive is asked, and what it tells the poller of its own node.

use actix::Message;

use crate::executive::{ExecutiveError, MutationRequest, Request, Written};
use crate::ledger::Seq;

/// One mutation request. It may share a transaction with others; the answer comes
/// after that transaction's commit.
#[derive(Debug)]
pub struct Mutate(pub MutationRequest);

impl Message for Mutate {
    type Result = Result<Written, ExecutiveError>;
}

/// Any other request, which has the ctldb for itself.
#[derive(Debug)]
pub struct Ask<R>(pub R);

impl<R: Request> Message for Ask<R> {
    type Result = Result<R::Answer, ExecutiveError>;
}

/// Tells the poller that there is something to read. A hint: one that is lost
/// costs a poll interval, not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LedgerGrew {
    /// A seq that is committed.
    pub seq: Seq,
}
