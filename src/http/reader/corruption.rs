//! Damage that reads have met in the LDB: told to whoever can look into it, and kept
//! for a while, since a read of another row may well succeed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a reader is not ready after it met damage, where nobody says that all is well.
const LASTS: Duration = Duration::from_secs(10);

/// Shared by the workers, which meet it, and the actor, which tells of it.
#[derive(Debug, Default)]
pub struct CorruptionReports {
    met: Mutex<Option<(Instant, String)>>,
    news: Notify,
}

impl CorruptionReports {
    /// A read failed, as `reason` says, since the file is damaged.
    pub fn report(&self, reason: String) {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reason));
        self.news.notify_one();
    }

    /// Waits for a read that meets damage.
    pub async fn met(&self) {
        self.news.notified().await;
    }

    /// Someone has looked, and there is none, or none any more.
    pub fn clear(&self) {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was met last, while that is worth a word.
    pub fn recent(&self) -> Option<String> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.as_ref().filter(|(at, _)| at.elapsed() < LASTS).map(|(_, reason)| reason.clone())
    }
}
