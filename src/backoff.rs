//! Pauses with a random part, so that processes that failed or started together do not act together.
//! [`Backoff`] gives the pauses between tries, longer each time up to a bound. [`jittered`] gives
//! the pauses of an interval. The module itself does not wait.

use std::time::Duration;

/// The interval, longer or shorter by a random part of at most `part`, 0 to 1.
pub fn jittered(interval: Duration, part: f64) -> Duration {
    interval.mul_f64(1.0 + part * (2.0 * rand::random::<f64>() - 1.0))
}

/// Doubling pauses between a first and a longest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after one more failure. The longest pause doubles each time; half of it is random.
    pub fn next_pause(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// After a success, the next failure counts as the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_success() {
        let first = Duration::from_millis(100);
        let longest = Duration::from_secs(1);
        let mut backoff = Backoff::new(first, longest);
        for full in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let pause = backoff.next_pause();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= first);
    }
}
