//! The common parts of the executive's routes: [`Api`] sends requests to the actor, and the functions make
//! descriptions and responses that several routes have.

use std::time::Duration;

use actix::{MailboxError, Recipient};
use actix_web::HttpResponse;

use crate::http::error::HttpError;
use crate::http::openapi::Operation;
use crate::messages::executive::{MutateBatch, RunRequest};
use ctlstore_core::ledger::Seq;
use ctlstore_ctldb::executive::Request;

use super::mutation_batcher::MutationBatcher;

/// Carries the last seq that a request wrote, on every route that writes the ledger.
pub const SEQ_HEADER: &str = "ctlstore-seq";

/// The recipients of the routes' messages.
#[derive(Clone)]
pub struct ExecutiveRecipients {
    pub mutate: Recipient<MutateBatch>,
    pub run: Recipient<RunRequest>,
}

/// The data of every handler, one for each worker.
pub(super) struct Api {
    run: Recipient<RunRequest>,
    /// Sends this worker's mutations.
    pub batcher: MutationBatcher,
    /// The longest wait for an answer.
    pub timeout: Duration,
}

impl Api {
    pub fn new(to: ExecutiveRecipients, timeout: Duration) -> Self {
        Self { run: to.run, batcher: MutationBatcher::new(to.mutate), timeout }
    }

    /// Has the executive run a request that is no mutation.
    pub async fn ask<R: Request>(&self, request: R) -> Result<R::Answer, HttpError> {
        let (message, answer) = RunRequest::new(request);
        self.run.send(message).timeout(self.timeout).await??;
        // The answer came before the message's result.
        answer.await.map_err(|_| MailboxError::Closed.into())
    }
}

/// Describes that the executive may answer too late or not at all.
pub(super) fn asking(operation: Operation) -> Operation {
    operation
        .refuses(503, "the executive or the ctldb can't answer now; Retry-After says when to try again")
        .says::<u64>(503, "retry-after", "seconds")
}

/// Describes the empty success of a route that writes the ledger.
pub(super) fn writing(operation: Operation) -> Operation {
    operation
        .gives_nothing("done")
        .says::<i64>(200, SEQ_HEADER, "the last ledger seq that the request wrote, if it wrote")
        .with(asking)
}

/// 200 without a body.
pub(super) fn done() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// 200 without a body, with the last seq that was written, if any was.
pub(super) fn written(seq: Option<Seq>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(seq) = seq {
        response.insert_header((SEQ_HEADER, seq.to_string()));
    }
    response.finish()
}
