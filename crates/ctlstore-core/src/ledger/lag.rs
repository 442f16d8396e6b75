//! How old the data of an LDB is. What counts is when this host last knew the ledger's
//! end: rows bear the time of the machine that wrote them, whose clock may be ahead.

use std::time::{Duration, Instant};

use crate::schema::Timestamp;

/// When this host last knew that the LDB had all of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct CaughtUpAt {
    at: Timestamp,
    /// How long ago that was, when this process learned of it.
    before: Duration,
    learned: Instant,
}

impl CaughtUpAt {
    /// Learned just now: the LDB had all of the ledger as of `at`, by this host's clock.
    pub fn new(at: Timestamp) -> Self {
        Self { at, before: at.age_at(Timestamp::now()), learned: Instant::now() }
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How long ago that was at `now`. A clock that is set back does not make it less, and
    /// neither does a machine that sleeps.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.at.age_at(now).max(self.before + self.learned.elapsed())
    }
}

/// The lag of an LDB whose host has never known the ledger's end, or is of another program
/// that does not say: since the last applied row was written, by the clock of who wrote it,
/// but no less than since its file was, by this host's. `None` before the first row.
pub fn lag_of_rows(leader_ts: Option<Timestamp>, written: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let of_rows = leader_ts?.age_at(now);
    Some(written.map_or(of_rows, |written| of_rows.max(written.age_at(now))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn rows_of_a_clock_that_is_ahead_are_no_newer_than_their_file() {
        assert_eq!(lag_of_rows(Some(at(40)), None, at(100)), Some(Duration::from_secs(60)));
        assert_eq!(lag_of_rows(Some(at(3700)), Some(at(90)), at(100)), Some(Duration::from_secs(10)));
        assert_eq!(lag_of_rows(Some(at(40)), Some(at(90)), at(100)), Some(Duration::from_secs(60)));
        assert_eq!(lag_of_rows(None, Some(at(90)), at(100)), None);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_newer() {
        let now = Timestamp::now();
        let since = |seconds: i64| Timestamp::from_unix_micros(now.unix_micros() - seconds * 1_000_000);
        let known = CaughtUpAt::new(since(60));
        // Back by an hour, and ahead by one.
        assert!(known.age(since(3600)) >= Duration::from_secs(60));
        assert!(known.age(since(-3600)) >= Duration::from_secs(3660));
    }
}
