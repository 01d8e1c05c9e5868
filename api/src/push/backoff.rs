//! When a message that was not accepted is tried again.

use std::time::Duration;

use crate::calendar::{days, number};

/// Growing pauses between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause, and the shortest.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// The pause after the `failures`-th failure in a row, counted from 1. It doubles with each one, and `random` takes up
    /// to half of it away, so that messages that failed together do not come again together. What the endpoint asked for is
    /// done instead, as far as the bounds allow.
    pub fn delay(&self, failures: u32, asked: Option<Duration>, random: u64) -> Duration {
        let max = self.max.max(self.min);
        if let Some(asked) = asked {
            return asked.clamp(self.min, max);
        }
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.min.saturating_mul(1 << doublings).min(max);
        // 32 random bits of the half that is left to chance.
        let half = whole / 2;
        let chance = half.mul_f64(f64::from((random >> 32) as u32) / f64::from(u32::MAX));
        (whole - half + chance).clamp(self.min, max)
    }
}

/// Understands a `Retry-After` header: seconds, or a date in the one form that senders may use today (RFC 9110). `now_ms`
/// is in milliseconds since the Unix epoch. A date that is past means at once.
pub fn parse_retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at_ms = parse_http_date(text)?.checked_mul(1_000)?;
    Some(Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since the Unix epoch.
fn parse_http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_day_name, date) = text.split_once(", ")?;
    let mut words = date.split(' ');
    let mut next = || words.next();
    let (day, month, year, time, zone) = (next()?, next()?, next()?, next()?, next()?);
    if zone != "GMT" || next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, year) = (number(day, 2, 31)?, number(year, 4, 9_999)?);
    let mut clock = time.split(':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    let (hour, minute, second) = (number(hour, 2, 23)?, number(minute, 2, 59)?, number(second, 2, 60)?);
    if clock.next().is_some() || day == 0 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { min: SECOND, max: 60 * SECOND };
        let longest = |failures| backoff.delay(failures, None, u64::MAX).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 8, u32::MAX].map(longest), [1, 1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(backoff.delay(5, None, 0), 8 * SECOND);
        assert_eq!(backoff.delay(1, Some(30 * SECOND), 0), 30 * SECOND);
        assert_eq!(backoff.delay(9, Some(Duration::ZERO), 0), SECOND);
        assert_eq!(backoff.delay(1, Some(Duration::MAX), 0), 60 * SECOND);
    }

    #[test]
    fn dates_and_seconds_are_understood_and_nothing_else() {
        let now_ms = 784_111_770_000;
        let parse = |text| parse_retry_after(text, now_ms);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7 * SECOND));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_http_date("Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_200));
        assert_eq!(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_http_date("Fri, 31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
        assert_eq!(parse(" 120 "), Some(120 * SECOND));
        assert_eq!(parse("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "-1", "1.5", "soon", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_within_the_bounds(
            min in 0..=100_000_u64, max in 0..=1_000_000_u64, failures: u32, asked: Option<u64>, random: u64,
        ) {
            let backoff = Backoff { min: Duration::from_millis(min), max: Duration::from_millis(max) };
            let delay = backoff.delay(failures, asked.map(Duration::from_millis), random);
            prop_assert!(delay >= backoff.min && delay <= backoff.max.max(backoff.min), "{delay:?}");
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC{0,40}|[A-Z]{3}, [0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9:]{8} GMT)") {
            let _ = parse_retry_after(&text, i64::MIN);
        }
    }
}
