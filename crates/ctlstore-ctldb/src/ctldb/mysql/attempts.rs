//! Bounds how often work on a server is tried again, and with which pauses. Entry point:
//! [`Attempts::after`]. [`Counts`] counts the retries and what else went wrong unseen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ctldb::error::CtldbError;
use crate::ctldb::session::Counters;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Tries while the server is away. There are few, so that the client hears of it soon.
const UNAVAILABLE_TRIES: u32 = 6;

/// Tries while the server is busy. There are more, since each may wait for a lock and succeed.
const CONTENTION_TRIES: u32 = 50;

/// The tries of one piece of work.
pub(super) struct Attempts<'a> {
    deadline: Instant,
    counts: &'a Counts,
    unavailable: u32,
    contention: u32,
}

impl<'a> Attempts<'a> {
    pub fn until(deadline: Instant, counts: &'a Counts) -> Self {
        Self { deadline, counts, unavailable: 0, contention: 0 }
    }

    /// Waits before the next try, or returns the error if there is to be no other try.
    pub async fn after(&mut self, error: CtldbError) -> Result<(), CtldbError> {
        let counts = self.counts;
        let (tried, most, count) = match error {
            // Another server may have taken the place of one that takes no writes any more.
            CtldbError::Unavailable(_) | CtldbError::NotWritable(_) => {
                (&mut self.unavailable, UNAVAILABLE_TRIES, &counts.unavailable_retries)
            }
            CtldbError::Contention(_) => (&mut self.contention, CONTENTION_TRIES, &counts.contention_retries),
            _ => return Err(error),
        };
        *tried += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (*tried).min(10)).min(LONGEST_PAUSE);
        // Executives that failed at the same time should not try again at the same time.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        if *tried >= most || Instant::now() + pause >= self.deadline {
            return Err(error);
        }
        count.add(1);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The counts that [`Counters`] shows, while they run.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tries_are_bounded_by_number_and_by_the_deadline() {
        let away = || CtldbError::Unavailable("away".to_owned());
        let counts = Counts::default();
        let mut retry = Attempts::until(Instant::now() + Duration::from_secs(60), &counts);
        let mut tries = 1;
        while retry.after(away()).await.is_ok() {
            tries += 1;
        }
        assert_eq!(tries, UNAVAILABLE_TRIES);
        assert_eq!(counts.counters().unavailable_retries, u64::from(tries) - 1);
        assert!(Attempts::until(Instant::now(), &counts).after(away()).await.is_err());
        let mut retry = Attempts::until(Instant::now() + Duration::from_secs(60), &counts);
        assert!(retry.after(CtldbError::Contention("busy".to_owned())).await.is_ok());
        assert!(retry.after(CtldbError::Refused("no".to_owned())).await.is_err());
    }
}
