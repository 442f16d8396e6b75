//! Request bodies: read whole, never more than their limit, never longer than their deadline.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures::StreamExt;

use super::error::HttpError;

/// The protocol's bound on a request body, in bytes, with Content-Length or chunked.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long a client may take to send a body.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is read of a body that is too large, so that a client which writes all of
/// it before it reads sees the answer and not a broken connection.
const DISCARDED_BYTES: usize = 8 * MAX_BODY_BYTES;

/// Reads a body of at most [`MAX_BODY_BYTES`]: 413 beyond, 408 when it takes too long.
pub async fn read(payload: Payload) -> Result<Bytes, HttpError> {
    tokio::time::timeout(DEADLINE, read_all(payload))
        .await
        .unwrap_or_else(|_| Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "the request body took too long")))
}

async fn read_all(mut payload: Payload) -> Result<Bytes, HttpError> {
    let mut body = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| HttpError::bad_request(format!("request body: {error}")))?;
        length += chunk.len();
        if length <= MAX_BODY_BYTES {
            body.extend_from_slice(&chunk);
        } else if length > DISCARDED_BYTES {
            break;
        }
    }
    if length > MAX_BODY_BYTES {
        let message = format!("the request body has more than {MAX_BODY_BYTES} bytes");
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(body.freeze())
}
