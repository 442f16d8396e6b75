//! What the executive is asked, and what it tells the poller of its own node.

use actix::Message;
use tokio::sync::{mpsc, oneshot};

use ctlstore_core::ledger::Seq;
use ctlstore_ctldb::executive::{ExecutiveError, MutationRequest, Request, Written};

/// What became of one mutation request.
pub type MutationOutcome = Result<Written, ExecutiveError>;

/// Mutation requests that came together. Each may share a transaction with others, and is
/// answered after that transaction's commit, in the way that it names.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Mutate(pub Vec<(MutationRequest, AnswerTo)>);

/// Where one request's answer goes: to the sender of the message, which hands it on. So the
/// answers of one commit wake the sender's thread once and not once each. Whoever waits is told of
/// a request that was dropped without an answer.
#[derive(Debug)]
pub struct AnswerTo {
    pub waiter: oneshot::Sender<MutationOutcome>,
    /// To the sender; holds one answer at most for each request that it has sent.
    pub batches: mpsc::UnboundedSender<Vec<MutationAnswer>>,
}

/// An answer on its way to whoever waits for it.
#[derive(Debug)]
pub struct MutationAnswer {
    to: oneshot::Sender<MutationOutcome>,
    outcome: MutationOutcome,
}

impl MutationAnswer {
    /// Nobody may be waiting any more; the outcome stands all the same.
    pub fn deliver(self) {
        let _ = self.to.send(self.outcome);
    }
}

/// Sends answers on their way, those of one sender together.
pub fn answer(answers: impl IntoIterator<Item = (AnswerTo, MutationOutcome)>) {
    let mut batches: Vec<(mpsc::UnboundedSender<Vec<MutationAnswer>>, Vec<MutationAnswer>)> = Vec::new();
    for (AnswerTo { waiter, batches: to }, outcome) in answers {
        let answer = MutationAnswer { to: waiter, outcome };
        match batches.iter_mut().find(|(other, _)| other.same_channel(&to)) {
            Some((_, lot)) => lot.push(answer),
            None => batches.push((to, vec![answer])),
        }
    }
    for (to, lot) in batches {
        // Where the sender has gone, so has whoever waited.
        let _ = to.send(lot);
    }
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
