//! Request bodies: read whole, never more than their limit, never longer than their
//! deadline, never many large ones at once.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::HttpError;

/// The protocol's bound on a request body, in bytes, with Content-Length or chunked.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long a client may take to send a body.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is read of a body that is too large, so that a client which writes all of
/// it before it reads sees the answer and not a broken connection.
const DISCARDED_BYTES: usize = 8 * MAX_BODY_BYTES;

/// What of a body every client gets room for at once: nearly all requests are smaller.
const SMALL_BYTES: usize = 16 * 1024;

/// Bodies beyond that which are held at one time, over all servers of the process. With
/// those that wait it bounds what clients can make it hold, however many send, however slowly.
static LARGE_BODIES: Semaphore = Semaphore::const_new(32);

/// Bodies that wait for that room. Each has what the server's library reads ahead, up to
/// half a MiB; when these are as many, the next one is refused.
static WAITING_BODIES: Semaphore = Semaphore::const_new(128);

/// A body as it arrives.
pub trait Chunks: Stream<Item = Result<Bytes, PayloadError>> + Unpin {}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Chunks for S {}

/// A request's body. Keeps the room that it takes from others until it is dropped.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _room: Option<SemaphorePermit<'static>>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most [`MAX_BODY_BYTES`]: 413 beyond, 408 when it takes too long.
pub async fn read(payload: impl Chunks) -> Result<Body, HttpError> {
    let mut reading = pin!(read_all(payload));
    // The server hands over what came with the head as soon as somebody waits for it, so
    // that nearly every body is there at the second look, and needs no clock.
    let mut looks = 0;
    let soon = poll_fn(|context| {
        looks += 1;
        match reading.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending if looks > 1 => Poll::Ready(None),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    });
    if let Some(read) = soon.await {
        return read;
    }
    tokio::time::timeout(DEADLINE, reading)
        .await
        .unwrap_or_else(|_| Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "the request body took too long")))
}

async fn read_all(mut payload: impl Chunks) -> Result<Body, HttpError> {
    let mut body = BytesMut::new();
    let mut room = None;
    let mut length = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| HttpError::bad_request("the request body is cut short or not well-formed"))?;
        length += chunk.len();
        if length <= MAX_BODY_BYTES {
            if length > SMALL_BYTES && room.is_none() {
                room = Some(large_room().await?);
                body.reserve(MAX_BODY_BYTES - body.len());
            }
            body.extend_from_slice(&chunk);
            continue;
        }
        (body, room) = (BytesMut::new(), None);
        if length > DISCARDED_BYTES {
            break;
        }
    }
    if length > MAX_BODY_BYTES {
        let message = format!("the request body has more than {MAX_BODY_BYTES} bytes");
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(Body { bytes: body.freeze(), _room: room })
}

async fn large_room() -> Result<SemaphorePermit<'static>, HttpError> {
    if let Ok(room) = LARGE_BODIES.try_acquire() {
        return Ok(room);
    }
    let too_many = || HttpError::unavailable("too many large requests at one time");
    let _waiting = WAITING_BODIES.try_acquire().map_err(|_| too_many())?;
    LARGE_BODIES.acquire().await.map_err(|_| too_many())
}
