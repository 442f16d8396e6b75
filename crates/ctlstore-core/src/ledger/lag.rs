//! How old the data of an LDB is.

use std::time::Duration;

use crate::schema::Timestamp;

/// The lag at `now`: since the last applied row was written or, when that is
/// shorter, since the ledger's end was seen with nothing left to apply. A quiet
/// ledger is no stale host. `None` before anything was applied or seen.
pub fn lag(leader_ts: Option<Timestamp>, caught_up_at: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    leader_ts.max(caught_up_at).map(|as_of| as_of.age_at(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_ledger_is_no_stale_host() {
        let at = |seconds: i64| Some(Timestamp::from_unix_micros(seconds * 1_000_000));
        let now = Timestamp::from_unix_micros(100_000_000);
        assert_eq!(lag(at(40), None, now), Some(Duration::from_secs(60)));
        assert_eq!(lag(at(40), at(99), now), Some(Duration::from_secs(1)));
        assert_eq!(lag(None, at(99), now), Some(Duration::from_secs(1)));
        assert_eq!(lag(at(101), None, now), Some(Duration::ZERO));
        assert_eq!(lag(None, None, now), None);
    }
}
