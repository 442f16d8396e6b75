//! The messages to the executive, and its hint to the poller of the same node. Mutations come as
//! [`MutateBatch`], every other request as [`RunRequest`].

use std::fmt;
use std::pin::Pin;
use std::time::Instant;

use actix::Message;
use tokio::sync::{mpsc, oneshot};

use ctlstore_core::ledger::Seq;
use ctlstore_ctldb::AnyCtldb;
use ctlstore_ctldb::executive::{Executive, ExecutiveError, MutationRequest, Request, RequestAnswer, WrittenRequest};

/// The outcome of one mutation request.
pub type MutationOutcome = Result<WrittenRequest, ExecutiveError>;

/// Mutation requests that arrived together. Each may share a transaction with others. Its [`AnswerTo`] gets
/// the outcome after that transaction's commit.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MutateBatch(pub Vec<(MutationRequest, AnswerTo)>);

/// The way of one request's answer: through the sender of the message, which delivers it. So the answers of
/// one commit wake the sender's thread once, and not once each. If a request is dropped without an answer,
/// its waiter notices.
#[derive(Debug)]
pub struct AnswerTo {
    pub waiter: oneshot::Sender<MutationOutcome>,
    /// The sender's channel. It holds at most one answer for each request that the sender has sent.
    pub batches: mpsc::UnboundedSender<Vec<MutationAnswer>>,
}

/// An answer on its way to the waiter.
#[derive(Debug)]
pub struct MutationAnswer {
    to: oneshot::Sender<MutationOutcome>,
    outcome: MutationOutcome,
}

impl MutationAnswer {
    /// The waiter may have gone. The outcome is valid in any case.
    pub fn deliver(self) {
        let _ = self.to.send(self.outcome);
    }
}

/// Sends answers, those for one sender together.
pub fn answer(answers: impl IntoIterator<Item = (AnswerTo, MutationOutcome)>) {
    let mut batches: Vec<(mpsc::UnboundedSender<Vec<MutationAnswer>>, Vec<MutationAnswer>)> = Vec::new();
    for (AnswerTo { waiter, batches: to }, outcome) in answers {
        let answer = MutationAnswer { to: waiter, outcome };
        match batches.iter_mut().find(|(other, _)| other.same_channel(&to)) {
            Some((_, batch)) => batch.push(answer),
            None => batches.push((to, vec![answer])),
        }
    }
    for (to, batch) in batches {
        // If the sender has gone, the waiters have gone too.
        let _ = to.send(batch);
    }
}

/// One request that is no mutation, of any type. It has the ctldb for itself. The type is erased, so that
/// one message with one handler carries all requests.
pub struct RunRequest {
    /// Whether the request is useless on a ctldb that takes no writes.
    pub is_write: bool,
    run: Box<dyn FnOnce(Executive<AnyCtldb>, Instant) -> Running + Send>,
}

type Running = Pin<Box<dyn Future<Output = Result<Option<Seq>, ExecutiveError>>>>;

impl Message for RunRequest {
    /// The last seq that the request wrote, if it wrote to the ledger.
    type Result = Result<Option<Seq>, ExecutiveError>;
}

impl RunRequest {
    /// Makes the message, and the channel through which the typed answer comes. The answer is there as soon as
    /// the message's result is.
    pub fn new<R: Request>(request: R) -> (Self, oneshot::Receiver<R::Answer>) {
        let (reply, answer) = oneshot::channel();
        let run = move |executive: Executive<AnyCtldb>, deadline: Instant| -> Running {
            Box::pin(async move {
                let answer = request.execute(&executive, deadline).await?;
                let seq = answer.ledger_seq();
                // The receiver may have gone.
                let _ = reply.send(answer);
                Ok(seq)
            })
        };
        (Self { is_write: R::IS_WRITE, run: Box::new(run) }, answer)
    }

    pub async fn run(self, executive: Executive<AnyCtldb>, deadline: Instant) -> Result<Option<Seq>, ExecutiveError> {
        (self.run)(executive, deadline).await
    }
}

impl fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRequest").field("is_write", &self.is_write).finish_non_exhaustive()
    }
}

/// Tells the poller that the ledger has new rows. It is only a hint: if it is lost, the poller reads the rows
/// one poll interval later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LedgerGrew {
    /// A seq that is committed.
    pub seq: Seq,
}
