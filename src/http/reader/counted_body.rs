//! A large answer on its way: sent in pieces, so that the connection's buffer
//! never holds a second copy of it, and counted against the budget until it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use tokio::sync::OwnedSemaphorePermit;

const PIECE: usize = 64 * 1024;

pub struct CountedBody {
    rest: Bytes,
    _held: OwnedSemaphorePermit,
}

impl CountedBody {
    pub fn new(rows: Vec<u8>, held: OwnedSemaphorePermit) -> Self {
        Self { rest: Bytes::from(rows), _held: held }
    }
}

impl MessageBody for CountedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}
