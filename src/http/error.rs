//! Maps every error of the crates below to a status, a short text and, if another try helps, a
//! Retry-After. Entry points: [`HttpError`] and its `From` conversions. A refusal that only HTTP
//! knows, such as of a body or a header, names its status where it is made.

use actix::MailboxError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};

use ctlstore_core::disk::is_too_many_open_files;
use ctlstore_ctldb::CtldbError;
use ctlstore_ctldb::executive::{ExecutiveError, Refusal};
use ctlstore_reader::read::ReadError;
use ctlstore_reader::read::query::QueryError;

/// How long a client waits before it tries again if nothing better is known, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// A refusal as the client gets it: status, plain text, headers.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    status: StatusCode,
    message: String,
    /// Seconds.
    retry_after: Option<u64>,
    /// One more header, if there is one.
    header: Option<(&'static str, String)>,
}

impl HttpError {
    pub fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string(), retry_after: None, header: None }
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

    /// Adds a header. `name` is in lower case; `value` must print as plain text.
    pub fn with_header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.header = Some((name, value.to_string()));
        self
    }

    /// Names the part of the request that is at fault.
    pub fn at(mut self, part: impl std::fmt::Display) -> Self {
        self.message = format!("{part}: {}", self.message);
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
        if let Some((name, value)) = &self.header {
            response.insert_header((*name, value.as_str()));
        }
        response.body(format!("{}\n", self.message))
    }
}

/// The actor has ended, or takes too long.
impl From<MailboxError> for HttpError {
    fn from(error: MailboxError) -> Self {
        match error {
            MailboxError::Closed => Self::unavailable("the service is stopping"),
            MailboxError::Timeout => Self::unavailable("the service took too long, the outcome is unknown"),
        }
    }
}

impl From<ExecutiveError> for HttpError {
    fn from(error: ExecutiveError) -> Self {
        match &error {
            ExecutiveError::Refused(refusal) => Self::from(refusal.clone()),
            ExecutiveError::Ctldb(ctldb) => Self::from(ctldb.clone()),
            ExecutiveError::NotServing(reason) => Self::unavailable(reason),
            ExecutiveError::Stopped { cause, .. } => {
                let cause = Self::from(ExecutiveError::clone(cause));
                Self { message: error.to_string(), ..cause }
            }
        }
    }
}

impl From<CtldbError> for HttpError {
    fn from(error: CtldbError) -> Self {
        match &error {
            CtldbError::Unavailable(_)
            | CtldbError::Contention(_)
            | CtldbError::OutcomeUnknown(_)
            | CtldbError::NotWritable(_) => Self::unavailable(error),
            CtldbError::ChangedByHand { .. } => Self::new(StatusCode::CONFLICT, error),
            CtldbError::Refused(_) => Self::bad_request(error),
            CtldbError::Schema(_) | CtldbError::Failed(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        let error = Self::new(status_of(&refusal), &refusal);
        match refusal {
            Refusal::RateLimited { retry_after_seconds, .. } => error.retry_after(retry_after_seconds),
            _ => error,
        }
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Name(_)
        | Refusal::Table(_)
        | Refusal::TableTwice(_)
        | Refusal::NoFields(_)
        | Refusal::FieldTwice { .. }
        | Refusal::UnknownField { .. }
        | Refusal::MissingField { .. }
        | Refusal::BadValue { .. }
        | Refusal::PaddedKey { .. }
        | Refusal::StatementTooLarge { .. }
        | Refusal::NoMutations
        | Refusal::CookieTooLong(_)
        | Refusal::SecretLength(_)
        | Refusal::SecretText(_)
        | Refusal::ReservedField { .. }
        | Refusal::BadLimit(_)
        | Refusal::DestructiveChangesOff
        | Refusal::ByCtldb(_) => StatusCode::BAD_REQUEST,
        Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
        Refusal::NoSuchCredentials
        | Refusal::NoFamily(_)
        | Refusal::NoTable(_)
        | Refusal::NoWriter(_)
        | Refusal::NoTableLimit(_)
        | Refusal::NoWriterLimit(_) => StatusCode::NOT_FOUND,
        Refusal::FamilyExists(_)
        | Refusal::TableExists(_)
        | Refusal::FieldExists { .. }
        | Refusal::WriterExists(_)
        | Refusal::CookieMismatch
        | Refusal::ChangedByHand { .. }
        | Refusal::MergedKeys { .. } => StatusCode::CONFLICT,
        Refusal::TooManyMutations(_) | Refusal::NeverWithinLimit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::RateLimited { .. } | Refusal::WriterStopped { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::TableFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
    }
}

impl From<ReadError> for HttpError {
    fn from(error: ReadError) -> Self {
        let status = match &error {
            ReadError::NotThereYet { .. }
            | ReadError::Busy
            | ReadError::TooOld { .. }
            | ReadError::TooManyOpenFiles => return Self::unavailable(error),
            ReadError::Path { source, .. } if is_too_many_open_files(source) => return Self::unavailable(error),
            ReadError::UnknownTable(_) => StatusCode::NOT_FOUND,
            ReadError::Name(_) | ReadError::KeyArity { .. } | ReadError::KeyType { .. } => StatusCode::BAD_REQUEST,
            ReadError::SeqNotReached { .. } => StatusCode::PRECONDITION_FAILED,
            ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            // The file or its data are at fault. New errors of the library count as such too.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

/// A query that asks too much has to be changed; trying again does not help. So it is 4xx, also if it
/// ran out of time or memory.
impl From<QueryError> for HttpError {
    fn from(error: QueryError) -> Self {
        let status = match error {
            QueryError::Read(error) => return error.into(),
            QueryError::Cancelled => return Self::unavailable("the reader is stopping"),
            QueryError::Sql(_) | QueryError::Parameters(_) | QueryError::Limit { .. } | QueryError::Infinite { .. } => {
                StatusCode::BAD_REQUEST
            }
            QueryError::NotAllowed(_) => StatusCode::FORBIDDEN,
            QueryError::SqlTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            QueryError::TooManyRows { .. } | QueryError::TooManyBytes { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            QueryError::ValueTooLong { .. } | QueryError::TooLong { .. } | QueryError::TooMuchMemory { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        };
        Self::new(status, error)
    }
}

/// The LDB is there but holds nothing: the original's clients expect 500.
pub fn nothing_applied() -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "no ledger statement has been applied yet")
}
