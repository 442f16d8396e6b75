//! Reads request bodies as a whole. Entry points: [`read_decoded`], and [`Incoming`] for handlers that
//! need nothing else of the request. A body has a bound on its size and on its time; all bodies
//! together have a bound on their memory. A body may be compressed by gzip.

mod coding;
mod memory;

use std::future::{Ready, poll_fn, ready};
use std::ops::Deref;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::dev::Payload as Given;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{FromRequest, HttpRequest};
use futures::future::{Either, select};
use futures::{Stream, StreamExt};

use super::error::HttpError;

use coding::Coding;
use memory::BodyMemory;

/// The protocol's bound on a request body, in bytes: with Content-Length or chunked, as it is sent
/// and as it is unpacked.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long a client may take to send a body.
const DEADLINE: Duration = Duration::from_secs(30);

/// How much is read of a body that is too large. A client that writes all of it before it reads then
/// sees the answer instead of a broken connection.
const DISCARDED_BYTES: usize = 8 * MAX_BODY_BYTES;

/// How much of a body is read without counting its memory. Nearly all bodies are smaller.
const SMALL_BYTES: usize = 16 * 1024;

/// A body as it arrives.
pub trait Chunks: Stream<Item = Result<Bytes, PayloadError>> + Unpin {}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Chunks for S {}

/// A request's body. Its memory is counted until it is dropped.
#[derive(Debug)]
pub struct RequestBody {
    bytes: Bytes,
    _held: Option<BodyMemory>,
}

impl Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that a handler takes from its request.
pub struct Incoming {
    coding: Result<Coding, HttpError>,
    payload: Payload,
}

impl FromRequest for Incoming {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, given: &mut Given) -> Self::Future {
        let coding = Coding::of(request.headers());
        ready(Payload::from_request(request, given).into_inner().map(|payload| Self { coding, payload }))
    }
}

impl Incoming {
    /// See [`read_decoded`].
    pub async fn read(self) -> Result<RequestBody, HttpError> {
        decode(self.coding?, self.payload).await
    }
}

/// Reads a body and decodes it as its request's headers say. 415 if the coding is unknown, else as
/// [`read`]. An unpacked body that is too large is 413 too.
pub async fn read_decoded(headers: &HeaderMap, payload: impl Chunks) -> Result<RequestBody, HttpError> {
    decode(Coding::of(headers)?, payload).await
}

async fn decode(coding: Coding, payload: impl Chunks) -> Result<RequestBody, HttpError> {
    let body = read(payload).await?;
    match coding {
        Coding::Identity => Ok(body),
        Coding::Gzip => unpack(body).await,
    }
}

async fn unpack(packed: RequestBody) -> Result<RequestBody, HttpError> {
    let unpack = || coding::gunzip(&packed, MAX_BODY_BYTES)?.ok_or_else(too_large);
    let mut bytes = unpack()?;
    let mut held = None;
    if bytes.len() > SMALL_BYTES {
        let length = bytes.len();
        held = BodyMemory::now(length);
        if held.is_none() {
            // While this waits for memory, it keeps none that is not counted.
            drop(bytes);
            held = Some(BodyMemory::more(None, length).await?);
            bytes = unpack()?;
        }
    }
    if let Some(held) = &held {
        held.complete();
    }
    Ok(RequestBody { bytes: Bytes::from(bytes), _held: held })
}

/// Reads a body of at most [`MAX_BODY_BYTES`] as it was sent: 413 if it is larger, 408 if it takes too
/// long.
pub async fn read(payload: impl Chunks) -> Result<RequestBody, HttpError> {
    let mut reading = pin!(read_all(payload));
    // The server hands over what came with the head as soon as this waits for it. So nearly every
    // body is complete at the second poll, and needs no timer.
    let mut polls = 0;
    let soon = poll_fn(|context| {
        polls += 1;
        match reading.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending if polls > 1 => Poll::Ready(None),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    });
    if let Some(read) = soon.await {
        return read;
    }
    tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn read_all(mut payload: impl Chunks) -> Result<RequestBody, HttpError> {
    let mut body = BytesMut::new();
    let mut held: Option<BodyMemory> = None;
    let mut length = 0;
    while let Some(chunk) = next(&mut payload, held.as_ref()).await? {
        let chunk = chunk.map_err(|_| HttpError::bad_request("the request body is cut short or not well-formed"))?;
        length += chunk.len();
        if length > MAX_BODY_BYTES {
            (body, held) = (BytesMut::new(), None);
            if length > DISCARDED_BYTES {
                break;
            }
            continue;
        }
        let reserved = held.as_ref().map_or(SMALL_BYTES, BodyMemory::bytes);
        if length > reserved {
            // Reserve far more than has arrived, so that little of it is moved again.
            let wanted = (4 * reserved).max(length).min(MAX_BODY_BYTES);
            held = Some(BodyMemory::more(held, wanted).await?);
            body.reserve(wanted - body.len());
        }
        if let Some(held) = &held {
            held.progress(length);
        }
        body.extend_from_slice(&chunk);
    }
    if length > MAX_BODY_BYTES {
        return Err(too_large());
    }
    if let Some(held) = &held {
        held.complete();
    }
    Ok(RequestBody { bytes: body.freeze(), _held: held })
}

/// The next part of a body; 408 if it does not arrive and others need the body's memory.
async fn next<C: Chunks>(
    payload: &mut C,
    held: Option<&BodyMemory>,
) -> Result<Option<Result<Bytes, PayloadError>>, HttpError> {
    let Some(held) = held else { return Ok(payload.next().await) };
    match select(payload.next(), pin!(held.revoked())).await {
        Either::Left((chunk, _)) => Ok(chunk),
        Either::Right(_) => Err(too_slow()),
    }
}

fn too_large() -> HttpError {
    let message = format!("the request body has more than {MAX_BODY_BYTES} bytes");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn too_slow() -> HttpError {
    HttpError::new(StatusCode::REQUEST_TIMEOUT, "the request body took too long")
}
