//! Computes the lag: how old the data of an LDB may be. Entry points: [`CaughtUpAt`] if this host
//! has known the ledger's end, else [`lag_of_rows`]. The time in a row is no measure, since the
//! clock of the machine that wrote the row may be fast.

use std::time::{Duration, Instant};

use crate::schema::Timestamp;

/// The time at which this host last knew that the LDB had all of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct CaughtUpAt {
    at: Timestamp,
    /// How long ago that was when this process learned of it.
    before: Duration,
    learned: Instant,
}

impl CaughtUpAt {
    /// For a process that learns just now that the LDB had all of the ledger at `at`, by this
    /// host's clock.
    pub fn new(at: Timestamp) -> Self {
        Self { at, before: at.age_at(Timestamp::now()), learned: Instant::now() }
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How long ago that was at `now`. It never shrinks: neither if the clock is set back, nor if
    /// the machine sleeps.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.at.age_at(now).max(self.before + self.learned.elapsed())
    }
}

/// The lag of an LDB if its applier does not say when it last had all of the ledger, as the Go
/// program's does not. It is the age of the last applied row, by the clock of the machine that
/// wrote the row. It is at least the age of the LDB's file, by this host's clock. `None` before
/// the first row.
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
