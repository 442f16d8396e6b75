//! What a ctldb did to get its work done and nobody was told of, counted since it was
//! opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what went wrong and was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Work begun anew after a deadlock, a lock-wait time-out, or a schema that had changed.
    pub contention_retries: u64,
    /// Work begun anew because the ctldb was away or hung up.
    pub unavailable_retries: u64,
    /// Commits whose answer was lost and whose outcome was looked up.
    pub lost_commits: u64,
    /// Schema changes that were found begun and were finished.
    pub intents_finished: u64,
}

/// The running counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub contention_retries: Count,
    pub unavailable_retries: Count,
    pub lost_commits: Count,
    pub intents_finished: Count,
}

impl Counts {
    pub fn counters(&self) -> Counters {
        Counters {
            contention_retries: self.contention_retries.value(),
            unavailable_retries: self.unavailable_retries.value(),
            lost_commits: self.lost_commits.value(),
            intents_finished: self.intents_finished.value(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
