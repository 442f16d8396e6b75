//! How reads under `/v1` are made and answered: each at one point in time, with its seq and, for
//! GET, its entity tag. Entry points: [`read`] for a read that may be short or long, and [`found`]
//! and [`unchanged`] for its answer.

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;

use crate::http::error::HttpError;
use crate::http::json::APPLICATION_JSON;
use crate::http::openapi::Operation;
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{AnswerLimits, LdbReader, ReadError, ReadTransaction};

use super::super::freshness::{self, AnswerAge};
use super::super::worker::Worker;
use super::etag::{Conditions, PointInTime};

/// Describes what routes with entity tags have in common.
pub fn tagged(operation: Operation) -> Operation {
    operation
        .header::<String>("if-none-match", "entity tags that the client has answers of, or *", "\"4711-0a1b2c\"")
        .says::<String>(200, "etag", "the answer's entity tag: another seq has another one")
        .answers_nothing(304, "the client has this answer")
        .says::<String>(304, "etag", "the answer's entity tag")
        .with(freshness::described)
        .tag("rows")
}

/// The present point in time, if the client has the answer that it would get now. One read of the
/// seq tells this, before anything that takes longer.
pub fn known(worker: &Data<Worker>, conditions: &Conditions) -> Result<Option<PointInTime>, HttpError> {
    if conditions.are_none() {
        return Ok(None);
    }
    let (_, point) = Worker::shared(worker, |now| conditions.at(now)).map_err(|error| worker.failed(error))?;
    Ok(Some(point).filter(|point| conditions.knows(point)))
}

/// 200 with what was read at `point`; 304 if the client wants no answer if there is one.
pub fn found(age: AnswerAge, point: &PointInTime, body: impl MessageBody + 'static) -> HttpResponse {
    if point.is_known_if_any {
        return unchanged(age, point);
    }
    let answer =
        HttpResponse::Ok().insert_header((CONTENT_TYPE, APPLICATION_JSON)).insert_header(point.tag()).body(body);
    at(age, point.seq, answer)
}

/// 304: the client has the answer that it would get.
pub fn unchanged(age: AnswerAge, point: &PointInTime) -> HttpResponse {
    at(age, point.seq, HttpResponse::NotModified().insert_header(point.tag()).finish())
}

/// Says at which seq the answer was read. If another thread read it, `age` may have an earlier seq.
pub fn at(mut age: AnswerAge, seq: Seq, answer: HttpResponse) -> HttpResponse {
    age.seq = seq;
    age.on(answer)
}

/// The bounds of one read.
#[derive(Debug, Clone, Copy)]
pub struct ReadBounds {
    pub rows: u64,
    pub bytes: usize,
    /// Whether a read that goes beyond is run again on another thread, with wider bounds.
    pub is_short: bool,
}

/// Reads on the worker what fits into a short read, and the rest on a thread for scans. `read` says
/// that it does not fit by [`ReadError::TooManyRows`] or [`ReadError::TooManyBytes`].
pub async fn read<T: Send + 'static>(
    worker: &Data<Worker>,
    read: impl Fn(&ReadTransaction<'_>, ReadBounds, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
) -> Result<(AnswerAge, T, BoxBody), HttpError> {
    let short = ReadBounds::of(worker.inline_limits(), true);
    let whole = ReadBounds::of(worker.limits, false);
    let mut answer = Vec::with_capacity(4096);
    match Worker::shared(worker, |now| read(now, short, &mut answer)) {
        Ok((age, outcome)) => Ok((age, outcome, answer.boxed())),
        Err(ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. }) => {
            let age = Worker::age(worker)?;
            let scan = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
                reader.read_transaction(|now| read(now, whole, answer))
            };
            let (outcome, answer) = worker.read_elsewhere(age.seq, scan).await?;
            Ok((age, outcome, answer.boxed()))
        }
        Err(error) => Err(worker.failed(error)),
    }
}

impl ReadBounds {
    fn of(limits: AnswerLimits, is_short: bool) -> Self {
        Self { rows: limits.max_rows.unwrap_or(u64::MAX), bytes: limits.max_bytes, is_short }
    }

    /// Ends a read whose answer has outgrown its bounds.
    pub fn check(self, answer: &[u8]) -> Result<(), ReadError> {
        if answer.len() > self.bytes { Err(ReadError::TooManyBytes { max: self.bytes }) } else { Ok(()) }
    }
}
