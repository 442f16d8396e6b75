//! The failures of an actor. [`Failures`] counts each one and keeps the last one for `/status`. The
//! log gets a failure once for as long as it lasts, so a thousand retries make one line. Entry
//! point: the macro `failed`.

use std::sync::Arc;

use crate::messages::status::ErrorReport;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_ldb::LdbError;
use ctlstore_ldb::snapshot::fetch::{BadSnapshot, FetchError};

/// Counts and logs a failure. Its arguments are the failures, the kind, the error, and what the error
/// means for the work. It is a macro so that the line belongs to the caller's module, and log
/// directives for that module hold for it.
macro_rules! failed {
    ($failures:expr, $kind:expr, $error:expr, $consequence:expr) => {{
        let failures = &mut $failures;
        let message = $error.to_string();
        let role = failures.role();
        if failures.add($kind, message.clone()) {
            tracing::error!(role, error = message, "{}", $consequence);
        } else {
            tracing::debug!(role, error = message, "{}", $consequence);
        }
    }};
}
pub(super) use failed;

/// The log gets at most so many different messages until the work succeeds again. More of them
/// would be the same trouble in other words.
const MOST_SAID: usize = 8;

/// The failures of one part of the node.
#[derive(Debug)]
pub struct Failures {
    component: Component,
    metrics: Arc<Metrics>,
    count: u64,
    last: Option<ErrorReport>,
    /// The messages that the log got since the last success.
    said: Vec<String>,
}

impl Failures {
    pub fn new(component: Component, metrics: Arc<Metrics>) -> Self {
        Self { component, metrics, count: 0, last: None, said: Vec::new() }
    }

    /// Counts one more failure. Returns whether the log gets it as an error. For the macro `failed`.
    pub fn add(&mut self, kind: ErrorKind, message: String) -> bool {
        self.metrics.error(self.component, kind);
        self.count += 1;
        let is_news = self.said.len() < MOST_SAID && !self.said.contains(&message);
        if is_news {
            self.said.push(message.clone());
        }
        self.last = Some(ErrorReport::now(kind, message));
        is_news
    }

    /// The part of the node whose failures these are, as a word for the log.
    pub fn role(&self) -> &'static str {
        self.component.as_str()
    }

    /// Shows a failure in `/status` that another actor counted and logged.
    pub fn show(&mut self, kind: ErrorKind, error: impl ToString) {
        self.last = Some(ErrorReport::now(kind, error));
    }

    /// The work succeeds again. The next failure goes to the log, whatever it says.
    pub fn end(&mut self) {
        self.said.clear();
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last failure. It stays after the next success.
    pub fn last(&self) -> Option<ErrorReport> {
        self.last.clone()
    }
}

/// The kind of a failure of the LDB's files.
pub fn kind_of_ldb(error: &LdbError) -> ErrorKind {
    match error {
        LdbError::DiskFull { .. } => ErrorKind::DiskFull,
        LdbError::OtherLedger { .. } | LdbError::Behind { .. } => ErrorKind::Ledger,
        LdbError::Busy { .. } => ErrorKind::Contention,
        _ => ErrorKind::Storage,
    }
}

/// The kind of a failure to fetch a snapshot.
pub fn kind_of_fetch(error: &FetchError) -> ErrorKind {
    match error {
        FetchError::NotFound(_) | FetchError::Unavailable(_) | FetchError::Changed(_) => ErrorKind::Unavailable,
        FetchError::Refused(_) => ErrorKind::Refused,
        FetchError::LostHistory { published, .. } => kind_of_fetch(published),
        FetchError::Bad { reason, .. } => match **reason {
            BadSnapshot::Unwanted { .. } => ErrorKind::Ledger,
            BadSnapshot::Io(_) => ErrorKind::Storage,
            _ => ErrorKind::Snapshot,
        },
        FetchError::DiskFull { .. } | FetchError::NoRoom { .. } => ErrorKind::DiskFull,
        FetchError::Io { .. } => ErrorKind::Storage,
        FetchError::Aborted => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_counted_and_the_last_one_stays() {
        let metrics = Metrics::new();
        let mut failures = Failures::new(Component::Poller, Arc::clone(&metrics));
        assert_eq!((failures.count(), failures.last()), (0, None));
        for message in ["away", "away", "refused"] {
            failures.add(ErrorKind::Unavailable, message.to_owned());
        }
        failures.end();
        let last = failures.last().unwrap();
        assert_eq!((failures.count(), last.message.as_str(), last.kind), (3, "refused", ErrorKind::Unavailable));
        let counted = "ctlstore_errors_total{component=\"poller\",kind=\"unavailable\"} 3";
        assert!(metrics.encode().unwrap().contains(counted));
    }

    #[test]
    fn what_the_log_gets_of_one_trouble_is_bounded() {
        let mut failures = Failures::new(Component::Poller, Metrics::new());
        for row in 0..1000 {
            assert_eq!(failures.add(ErrorKind::Ledger, format!("row {row}")), row < MOST_SAID);
        }
        assert!(!failures.add(ErrorKind::Ledger, "row 1".to_owned()));
        failures.end();
        assert!(failures.add(ErrorKind::Ledger, "row 1".to_owned()));
    }
}
