//! What goes wrong in an actor: counted each time, kept for the status, and said in
//! the log once for as long as it lasts. Retries by the thousand make one line.

use std::sync::Arc;

use crate::messages::status::ErrorReport;
use crate::metrics::{Component, ErrorKind, Metrics};

/// Different messages that the log may get of one trouble. More of them would be the
/// same trouble in other words.
const MOST_SAID: usize = 8;

/// The failures of one part of the node.
#[derive(Debug)]
pub struct Failures {
    component: Component,
    metrics: Arc<Metrics>,
    count: u64,
    last: Option<ErrorReport>,
    /// What the log has of the trouble that lasts.
    said: Vec<String>,
}

impl Failures {
    pub fn new(component: Component, metrics: Arc<Metrics>) -> Self {
        Self { component, metrics, count: 0, last: None, said: Vec::new() }
    }

    /// One more failure, and what it means for the part's work.
    pub fn add(&mut self, kind: ErrorKind, error: impl ToString, consequence: &str) {
        let message = error.to_string();
        self.metrics.error(self.component, kind);
        self.count += 1;
        let role = self.component.as_str();
        if self.said.len() < MOST_SAID && !self.said.contains(&message) {
            tracing::error!(role, error = message, "{consequence}");
            self.said.push(message.clone());
        } else {
            tracing::debug!(role, error = message, "{consequence}");
        }
        self.last = Some(ErrorReport::now(kind, message));
    }

    /// Shows a failure that was counted and logged where it happened.
    pub fn show(&mut self, kind: ErrorKind, error: impl ToString) {
        self.last = Some(ErrorReport::now(kind, error));
    }

    /// The work succeeds: whatever fails next is news.
    pub fn end(&mut self) {
        self.said.clear();
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last one, which stays after its end.
    pub fn last(&self) -> Option<ErrorReport> {
        self.last.clone()
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
            failures.add(ErrorKind::Unavailable, message, "retrying");
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
            failures.add(ErrorKind::Ledger, format!("row {row}"), "retrying");
        }
        assert_eq!(failures.said.len(), MOST_SAID);
        failures.end();
        failures.add(ErrorKind::Ledger, "row 1", "retrying");
        assert_eq!(failures.said, ["row 1"]);
    }
}
