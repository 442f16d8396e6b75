//! Reports of damage that reads have met in the LDB. Entry point: [`CorruptionReports`]. The workers
//! report, and the reader's actor passes a report on to the applier. A report lasts for a while,
//! since a read of another row may well succeed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a reader is not ready after it met damage, unless [`CorruptionReports::clear`] is called
/// before.
const LASTS: Duration = Duration::from_secs(10);

/// Shared by the workers, which report damage, and the actor, which passes the reports on.
#[derive(Debug, Default)]
pub struct CorruptionReports {
    last: Mutex<Option<(Instant, String)>>,
    reported: Notify,
}

impl CorruptionReports {
    /// A read failed because the file is damaged; `reason` is its error.
    pub fn report(&self, reason: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reason));
        self.reported.notify_one();
    }

    /// Waits for the next report.
    pub async fn met(&self) {
        self.reported.notified().await;
    }

    /// The LDB was checked and has no damage, or is another one now.
    pub fn clear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The last report, if it is recent.
    pub fn recent(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < LASTS).map(|(_, reason)| reason.clone())
    }
}
