//! How often, and after which pauses, something is tried again.

use std::time::{Duration, Instant};

use crate::ctldb::CtldbError;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A server that is away is asked this often before the client is told: it should hear soon.
const UNAVAILABLE_TRIES: u32 = 6;

/// A busy one more often, since each try may wait for a lock and succeed.
const CONTENTION_TRIES: u32 = 50;

/// One piece of work's tries.
pub(super) struct Retry {
    deadline: Instant,
    unavailable: u32,
    contention: u32,
}

impl Retry {
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, unavailable: 0, contention: 0 }
    }

    /// Waits before the next try, or gives the error back when it is to be the last word.
    pub async fn after(&mut self, error: CtldbError) -> Result<(), CtldbError> {
        let (tried, most) = match error {
            CtldbError::Unavailable(_) => (&mut self.unavailable, UNAVAILABLE_TRIES),
            CtldbError::Contention(_) => (&mut self.contention, CONTENTION_TRIES),
            _ => return Err(error),
        };
        *tried += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (*tried).min(10)).min(LONGEST_PAUSE);
        // Executives that failed together don't come back together.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        if *tried >= most || Instant::now() + pause >= self.deadline {
            return Err(error);
        }
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
        let mut retry = Retry::until(Instant::now() + Duration::from_secs(60));
        let mut tries = 1;
        while retry.after(away()).await.is_ok() {
            tries += 1;
        }
        assert_eq!(tries, UNAVAILABLE_TRIES);
        assert!(Retry::until(Instant::now()).after(away()).await.is_err());
        let mut retry = Retry::until(Instant::now() + Duration::from_secs(60));
        assert!(retry.after(CtldbError::Contention("busy".to_owned())).await.is_ok());
        assert!(retry.after(CtldbError::Refused("no".to_owned())).await.is_err());
    }
}
