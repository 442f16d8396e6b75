//! Failures between this process and a store. The variants differ in what a caller can
//! do about them. Texts are short, and carry no query, no user part and no XML.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use object_store::client::{HttpError, HttpErrorKind};

use super::redirects::RefusedRedirect;

/// The characters of a server's own words that an error shows.
const SHOWN_CHARS: usize = 160;
/// How object_store's error for an answer begins. Its type is private to that crate.
const STATUS: &str = "Server returned non-2xx status code: ";
/// Places that a client asks for credentials when the environment has none.
const METADATA_SERVICES: [&str; 4] =
    ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "metadata/identity"];

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store answers, and has no such object.
    #[error("{place}: not found")]
    NotFound { place: String },
    /// The store was not reached, did not answer in time, or asked to come again (5xx, 429).
    #[error("{place}: {reason}")]
    Temporary { place: String, reason: String },
    /// Credentials or permissions do not allow it.
    #[error("{place}: access denied: {reason}")]
    Denied { place: String, reason: String },
    /// The object is not the one that the condition names: it was replaced, exists, or is gone.
    #[error("{place}: changed by someone else meanwhile")]
    Changed { place: String },
    /// This store, or this kind of store, can't do it.
    #[error("{place}: not possible here: {reason}")]
    Unsupported { place: String, reason: String },
    #[error("no room at {}", .0.display())]
    DiskFull(PathBuf),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// No client can be made with this variable of the environment.
    #[error("{place}: the variable {variable} {reason}")]
    Misconfigured { place: String, variable: String, reason: String },
    /// The client panicked; see [`contained`](super::contained).
    #[error("{place}: the store's client panicked: {reason}")]
    Panicked { place: String, reason: String },
    #[error("{place}: {reason}")]
    Other { place: String, reason: String },
    #[error("aborted")]
    Aborted,
}

impl StoreError {
    /// Whether the same call may succeed a while later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary { .. })
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The store error within an error that reading or writing gave.
    pub fn of_io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self::io(doing, path)(source),
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::NotFound => Self::NotFound { place: path.display().to_string() },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            ErrorKind::AlreadyExists => Self::Changed { place: path.display().to_string() },
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    pub(super) fn of_store(place: String, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let found = ErrorChain::of(error);
        match error {
            // A missing bucket is a mistake in the settings; a missing object may still come.
            E::NotFound { .. } if found.code.as_deref() == Some("NoSuchBucket") => {
                Self::Other { place, reason: "no such bucket".to_owned() }
            }
            _ if found.is_refused_redirect => Self::Other { place, reason: found.innermost },
            E::NotFound { .. } => Self::NotFound { place },
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Self::Changed { place },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied { place, reason: found.reason() },
            E::NotSupported { .. } | E::NotImplemented { .. } => Self::Unsupported { place, reason: found.reason() },
            // For example a copy, or a condition, that this kind of server does not know.
            _ if found.status == Some(501) => Self::Unsupported { place, reason: found.reason() },
            _ if found.is_temporary() => Self::Temporary { place, reason: found.reason() },
            _ => Self::Other { place, reason: found.reason() },
        }
    }
}

/// The facts in an error and its causes.
#[derive(Default)]
struct ErrorChain {
    status: Option<u16>,
    /// The store's own code, such as `NoSuchBucket`.
    code: Option<String>,
    transport: Option<HttpErrorKind>,
    is_refused_redirect: bool,
    /// Whether the request for credentials failed.
    asked_for_credentials: bool,
    innermost: String,
}

impl ErrorChain {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut found = Self::default();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if let Some(http) = error.downcast_ref::<HttpError>() {
                found.transport = Some(http.kind());
            }
            found.is_refused_redirect |= error.is::<RefusedRedirect>();
            if let Some((_, answer)) = text.split_once(STATUS) {
                found.status = answer.get(..3).and_then(|digits| digits.parse().ok());
                found.code = between(answer, "<Code>", "</Code>");
            }
            found.asked_for_credentials |= METADATA_SERVICES.iter().any(|service| text.contains(service));
            found.innermost = text;
            next = error.source();
        }
        found
    }

    fn is_temporary(&self) -> bool {
        let says_so = self.status.is_some_and(|status| status >= 500 || matches!(status, 408 | 425 | 429));
        says_so || self.transport.is_some()
    }

    fn reason(&self) -> String {
        if self.asked_for_credentials {
            return "no credentials, neither in the environment nor from this machine's metadata service".to_owned();
        }
        match (self.status, &self.code, self.transport) {
            (Some(status), Some(code), _) => format!("answered {status} {code}"),
            (Some(status), None, _) => format!("answered {status}"),
            (None, _, Some(HttpErrorKind::Timeout)) => "no answer in time".to_owned(),
            _ => self.innermost.split('\n').next().unwrap_or_default().chars().take(SHOWN_CHARS).collect(),
        }
    }
}

fn between(text: &str, from: &str, to: &str) -> Option<String> {
    let (_, rest) = text.split_once(from)?;
    rest.split_once(to).map(|(inner, _)| inner.chars().take(SHOWN_CHARS).collect())
}

/// Lets streams of a store serve as plain readers and writers.
impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}
