//! The reader's own routes under /v1, beside those that the original has: each file
//! has one group. They read through the worker of their thread as all reads do, and
//! every answer is of one moment, whose seq it says.
//!
//! Errors are plain text here too: there is one kind of error on all routes.

mod address;
mod batch;
mod cursor;
mod etag;
mod families;
mod query;
mod rows;

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{LdbReader, Limits, ReadError, ReadTransaction};

use super::freshness::{self, FreshnessRequirement};
use super::{INLINE, JSON, Worker, smaller};
use crate::http::error::HttpError;
use crate::http::openapi::Operation;
use etag::{Conditions, Moment};

pub(super) fn operations() -> Vec<Operation> {
    families::operations()
        .into_iter()
        .chain(rows::operations())
        .chain([batch::operation(), query::operation()])
        .collect()
}

/// What reads that a client may have already have in common, in the document.
fn tagged(operation: Operation) -> Operation {
    operation
        .header::<String>("if-none-match", "entity tags that the client has answers of, or *", "\"4711-0a1b2c\"")
        .says::<String>(200, "etag", "the answer's entity tag: another seq has another one")
        .answers_nothing(304, "the client has this answer")
        .says::<String>(304, "etag", "the answer's entity tag")
        .with(freshness::described)
        .tag("rows")
}

/// The moment, where the client has what it would get at it: told by one read of the
/// seq, before anything that takes longer.
fn known(worker: &Data<Worker>, conditions: &Conditions) -> Result<Option<Moment>, HttpError> {
    if conditions.are_none() {
        return Ok(None);
    }
    let (_, moment) = Worker::shared(worker, |now| conditions.at(now)).map_err(|error| worker.failed(error))?;
    Ok(Some(moment).filter(|moment| conditions.knows(moment)))
}

/// 200 with what was read at `moment`; 304 where the client wants no answer if there is one.
fn found(fresh: FreshnessRequirement, moment: &Moment, body: impl MessageBody + 'static) -> HttpResponse {
    if moment.is_known_if_any {
        return unchanged(fresh, moment);
    }
    let answer = HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).insert_header(moment.tag()).body(body);
    at(fresh, moment.seq, answer)
}

/// 304: the client has what it would get.
fn unchanged(fresh: FreshnessRequirement, moment: &Moment) -> HttpResponse {
    at(fresh, moment.seq, HttpResponse::NotModified().insert_header(moment.tag()).finish())
}

/// Says at which seq it was read: where that was elsewhere, `fresh` may have one before it.
fn at(mut fresh: FreshnessRequirement, seq: Seq, answer: HttpResponse) -> HttpResponse {
    fresh.seq = seq;
    fresh.on(answer)
}

/// What one read may take.
#[derive(Debug, Clone, Copy)]
struct Room {
    rows: u64,
    bytes: usize,
    /// Whether there is more of it elsewhere, for the same read once more.
    is_short: bool,
}

/// Reads on the worker what fits into a short read, and elsewhere what does not, which
/// `read` says by [`ReadError::TooManyRows`] and [`ReadError::TooManyBytes`].
async fn read<T: Send + 'static>(
    worker: &Data<Worker>,
    read: impl Fn(&ReadTransaction<'_>, Room, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
) -> Result<(FreshnessRequirement, T, BoxBody), HttpError> {
    let room = |limits: Limits, is_short| Room {
        rows: limits.max_rows.unwrap_or(u64::MAX),
        bytes: limits.max_bytes,
        is_short,
    };
    let (short, whole) = (room(smaller(INLINE, worker.limits), true), room(worker.limits, false));
    let mut answer = Vec::with_capacity(4096);
    match Worker::shared(worker, |now| read(now, short, &mut answer)) {
        Ok((fresh, outcome)) => Ok((fresh, outcome, answer.boxed())),
        Err(ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. }) => {
            let fresh = freshness::fresh(worker)?;
            let scan = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
                reader.read_transaction(|now| read(now, whole, answer))
            };
            let (outcome, answer) = worker.read_elsewhere(fresh.seq, scan).await?;
            Ok((fresh, outcome, answer.boxed()))
        }
        Err(error) => Err(worker.failed(error)),
    }
}

impl Room {
    /// Ends an answer that has outgrown it.
    fn holds(self, answer: &[u8]) -> Result<(), ReadError> {
        if answer.len() > self.bytes { Err(ReadError::TooManyBytes { max: self.bytes }) } else { Ok(()) }
    }
}
