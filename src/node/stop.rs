//! How a node stops: one step after the other, against the data flow's end first,
//! each with a log line, all within one deadline. What was acknowledged is in the
//! ctldb before its answer, so a step that is cut short loses nothing.

use std::future::Future;
use std::time::{Duration, Instant};

/// Runs the steps of a stop.
pub struct Steps {
    deadline: Instant,
}

impl Steps {
    pub fn within(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout }
    }

    /// Waits for one step, at most until the deadline.
    pub async fn step(&self, name: &'static str, work: impl Future) {
        let began = Instant::now();
        match tokio::time::timeout_at(self.deadline.into(), work).await {
            Ok(_) => tracing::info!(step = name, ms = began.elapsed().as_millis() as u64, "stopped"),
            Err(_) => tracing::warn!(step = name, "did not stop in time"),
        }
    }
}
