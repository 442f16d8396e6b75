//! How often, and after which pauses, something is tried again.

use std::time::{Duration, Instant};

use crate::ctldb::CtldbError;
use crate::ctldb::counters::Counts;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A server that is away is asked this often before the client is told: it should hear soon.
const UNAVAILABLE_TRIES: u32 = 6;

/// A busy one more often, since each try may wait for a lock and succeed.
const CONTENTION_TRIES: u32 = 50;

/// One piece of work's tries.
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

    /// Waits before the next try, or gives the error back when it is to be the last word.
    pub async fn after(&mut self, error: CtldbError) -> Result<(), CtldbError> {
        let counts = self.counts;
        let (tried, most, count) = match error {
            // A server that takes no writes any more may have another in its place.
            CtldbError::Unavailable(_) | CtldbError::NotWritable(_) => {
                (&mut self.unavailable, UNAVAILABLE_TRIES, &counts.unavailable_retries)
            }
            CtldbError::Contention(_) => (&mut self.contention, CONTENTION_TRIES, &counts.contention_retries),
            _ => return Err(error),
        };
        *tried += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (*tried).min(10)).min(LONGEST_PAUSE);
        // Executives that failed together don't come back together.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        if *tried >= most || Instant::now() + pause >= self.deadline {
            return Err(error);
        }
        count.add(1);
        tokio::time::sleep(pause).await;
        Ok(())
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
