//! Every error of the lower rooms as a status, a short text and, where trying
//! again helps, a Retry-After. The only file that knows which status is whose.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};

use crate::ldb::read::ReadError;

/// How long a client waits before it tries again when nothing better is known, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// A refusal as it goes over the wire: status, plain text, headers.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    status: StatusCode,
    message: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl HttpError {
    pub fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string(), retry_after: None }
    }

    pub fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 503 with a Retry-After.
    pub fn unavailable(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_AFTER_SECONDS)
    }

    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether the client is told to try again.
    pub fn is_temporary(&self) -> bool {
        self.retry_after.is_some()
    }
}

impl ResponseError for HttpError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response.body(format!("{}\n", self.message))
    }
}

impl From<ReadError> for HttpError {
    fn from(error: ReadError) -> Self {
        let status = match &error {
            ReadError::NotThereYet { .. } | ReadError::Busy => return Self::unavailable(error),
            ReadError::UnknownTable(_) => StatusCode::NOT_FOUND,
            ReadError::KeyArity { .. } => StatusCode::BAD_REQUEST,
            ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            ReadError::Path { .. }
            | ReadError::NotReadable { .. }
            | ReadError::Infinite { .. }
            | ReadError::Sqlite(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

/// The LDB is there but holds nothing: the original's clients expect 500.
pub fn nothing_applied() -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "no ledger statement has been applied yet")
}
