//! Points in time as the ledger and the LDB write them: UTC, in microseconds. Entry point:
//! [`Timestamp`].

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// Microseconds since 1970-01-01 00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

const DATE_TIME: &[BorrowedFormatItem<'static>] = format_description!(
    version = 2,
    "[year]-[month]-[day][first [ ][T]][hour]:[minute]:[second][optional [.[subsecond]]]"
);

impl Timestamp {
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The time from this point to `now`; zero for a point in the future.
    pub fn age_at(self, now: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// Reads `2006-01-02 15:04:05[.ffffff]`, with a `T` or a space, with or without the zone `Z` or
    /// `+00:00`; `None` for any other text, also with another zone.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
        let moment = PrimitiveDateTime::parse(bare, DATE_TIME).ok()?.assume_utc();
        Some(Self(i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()?))
    }
}

/// Writes the LDB's form: `2006-01-02 15:04:05[.ffffff]+00:00`. Go programs read the zone only in
/// this spelling.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(UtcOffset::UTC);
        let date = moment.date();
        let time = moment.time();
        write!(f, "{date} {:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        if time.microsecond() > 0 {
            write!(f, ".{:06}", time.microsecond())?;
        }
        f.write_str("+00:00")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ldb_form_round_trips() {
        for text in ["2026-01-02 03:04:05+00:00", "2026-01-02 03:04:05.000600+00:00", "1969-12-31 23:59:59+00:00"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn forms_of_other_writers_are_read() {
        let want = Timestamp::parse("2026-01-02 03:04:05.123+00:00").unwrap();
        assert_eq!(Timestamp::parse("2026-01-02T03:04:05.123Z"), Some(want));
        assert_eq!(Timestamp::parse("2026-01-02 03:04:05.123000"), Some(want));
        assert_eq!(Timestamp::parse("2026-01-02 03:04:05+02:00"), None);
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn age_is_never_negative() {
        let earlier = Timestamp::from_unix_micros(1_000);
        let later = Timestamp::from_unix_micros(3_000);
        assert_eq!(earlier.age_at(later), Duration::from_micros(2_000));
        assert_eq!(later.age_at(earlier), Duration::ZERO);
    }
}
