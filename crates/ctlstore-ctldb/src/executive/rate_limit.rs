//! The arithmetic of rate limits: rows per period, rounded half to even, and the buckets in which usage is
//! counted. Entry points: [`RateLimit`] and [`Buckets`]. `admission` enforces the limits. No I/O.

use std::time::Duration;

use super::error::Refusal;

const MINUTE_NANOS: i128 = 60_000_000_000;

/// A number of rows in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub amount: i64,
    pub period: Duration,
}

impl RateLimit {
    pub fn per_minute(amount: i64) -> Self {
        Self { amount, period: Duration::from_secs(60) }
    }

    /// The limit as rows per minute, which is the stored form.
    pub fn rows_per_minute(self) -> Result<i64, Refusal> {
        if self.amount < 0 {
            return Err(Refusal::BadLimit(format!("amount {} is negative", self.amount)));
        }
        if self.period.is_zero() {
            return Err(Refusal::BadLimit("period must be longer than nothing".to_owned()));
        }
        let rows = divide_half_even(i128::from(self.amount) * MINUTE_NANOS, nanos(self.period));
        i64::try_from(rows).map_err(|_| Refusal::BadLimit("more rows per minute than 64 bits hold".to_owned()))
    }
}

/// The periods in which usage is counted, by the ctldb's clock. Every executive on a ctldb counts in the
/// same buckets, for all writers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets {
    period: Duration,
}

impl Buckets {
    pub(super) fn of(global: RateLimit) -> Self {
        Self { period: global.period }
    }

    /// Whole seconds, at least one: buckets are numbered by unix seconds.
    pub(super) fn period_seconds(self) -> i64 {
        i64::try_from(self.period.as_secs()).unwrap_or(i64::MAX).max(1)
    }

    /// The start of the bucket that contains `now`, in seconds since 1970.
    pub(super) fn bucket_at(self, now: i64) -> i64 {
        now - now.rem_euclid(self.period_seconds())
    }

    /// Seconds until the next bucket begins.
    pub(super) fn seconds_left(self, now: i64) -> u64 {
        u64::try_from(self.bucket_at(now) + self.period_seconds() - now).unwrap_or(1)
    }

    /// Converts a limit in rows per minute to rows per bucket.
    pub(super) fn rows(self, rows_per_minute: i64) -> i64 {
        let period = i128::from(self.period_seconds()) * 1_000_000_000;
        let rows = divide_half_even(i128::from(rows_per_minute) * period, MINUTE_NANOS);
        i64::try_from(rows).unwrap_or(i64::MAX)
    }
}

fn nanos(period: Duration) -> i128 {
    i128::try_from(period.as_nanos()).unwrap_or(i128::MAX)
}

/// `a / b` for two numbers of at least 0. A half is rounded to the even neighbour.
fn divide_half_even(a: i128, b: i128) -> i128 {
    let quotient = a / b;
    let twice_rest = a % b * 2;
    let up = twice_rest > b || (twice_rest == b && quotient % 2 == 1);
    quotient + i128::from(up)
}

/// Reads a duration as Go writes it: `1m`, `1.5h`, `2h45m`, `300ms`. `None` for any other text, for a negative
/// duration, and for more nanoseconds than 64 bits hold.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() || rest.len() > 100 {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        total = total.checked_add(scaled(number, unit_nanos(&after[..unit])?)?)?;
        rest = &after[unit..];
    }
    let nanos = u64::try_from(total).ok().filter(|n| i64::try_from(*n).is_ok())?;
    Some(Duration::from_nanos(nanos))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number`, which may have a fraction, times `unit`. Parts of a nanosecond are cut off.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    // In an hour's fraction, the 15th digit is less than a nanosecond.
    let fraction = &fraction[..fraction.len().min(15)];
    let part = value(fraction)?.checked_mul(unit)? / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    value(whole)?.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        let nanos = |text: &str| parse_go_duration(text).map(|d| d.as_nanos());
        assert_eq!(nanos("1m"), Some(60_000_000_000));
        assert_eq!(nanos("1.5h"), Some(5_400_000_000_000));
        assert_eq!(nanos("2h45m0.5s"), Some(9_900_500_000_000));
        assert_eq!(nanos("300ms"), Some(300_000_000));
        assert_eq!(nanos("1\u{b5}s"), Some(1_000));
        assert_eq!(nanos(".5s"), Some(500_000_000));
        assert_eq!(nanos("0"), Some(0));
        for bad in ["", "1", "m", "-1m", "1 m", "1x", ".s", "1.2.3s", "9999999999h", "1m1", "\u{661}s"] {
            assert_eq!(nanos(bad), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn rates_are_rounded_half_to_even() {
        let per_minute = |amount, period| RateLimit { amount, period }.rows_per_minute().unwrap();
        assert_eq!(per_minute(600, Duration::from_secs(3600)), 10);
        assert_eq!(per_minute(5, Duration::from_secs(120)), 2);
        assert_eq!(per_minute(7, Duration::from_secs(120)), 4);
        assert_eq!(per_minute(1, Duration::from_millis(1)), 60_000);
        assert!(RateLimit { amount: -1, period: Duration::from_secs(1) }.rows_per_minute().is_err());
        assert!(RateLimit { amount: 1, period: Duration::ZERO }.rows_per_minute().is_err());
        assert!(RateLimit { amount: i64::MAX, period: Duration::from_nanos(1) }.rows_per_minute().is_err());
    }

    #[test]
    fn buckets_begin_at_whole_periods() {
        let buckets = Buckets::of(RateLimit::per_minute(1000));
        assert_eq!(buckets.bucket_at(119), 60);
        assert_eq!(buckets.bucket_at(120), 120);
        assert_eq!(buckets.seconds_left(119), 1);
        assert_eq!(buckets.seconds_left(120), 60);
        let seconds = Buckets::of(RateLimit { amount: 10, period: Duration::from_secs(10) });
        assert_eq!(seconds.rows(600), 100);
        assert_eq!(seconds.rows(3), 0);
        assert_eq!(seconds.rows(9), 2);
    }
}
