//! Points in time as people write them: RFC 3339, the usual part of ISO 8601.

use crate::calendar::{date, days, number};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// A point in time, in milliseconds since the Unix epoch, from its text: that number, a date (its beginning in UTC), or a
/// date and time with its zone.
pub(super) fn point(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("no time has {} digits", digits.len()));
    }
    let text = text.trim();
    let (date, rest) = text.split_at_checked("2026-01-31".len()).ok_or(UNKNOWN)?;
    let day = DAY_MS * date_of(date)?;
    if rest.is_empty() {
        return Ok(day);
    }
    let clock = rest.strip_prefix(['T', 't', ' ']).ok_or(UNKNOWN)?;
    let zone = clock.find(['Z', 'z', '+', '-']).ok_or_else(|| format!("say in which zone: {text}Z or {text}+02:00"))?;
    let (clock, zone) = clock.split_at(zone);
    Ok(day + clock_of(clock)? - zone_of(zone)?)
}

const UNKNOWN: &str = "a time is as 2026-01-31, 2026-01-31T12:00:00Z, 2026-01-31T12:00:00.250+02:00, or milliseconds \
                       since the Unix epoch";

/// Days from the Unix epoch to a date.
fn date_of(text: &str) -> Result<i64, String> {
    let parts: Vec<_> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return Err(UNKNOWN.to_owned()) };
    let (Some(year), Some(month), Some(day)) = (number(year, 4, 9_999), number(month, 2, 99), number(day, 2, 99))
    else {
        return Err(UNKNOWN.to_owned());
    };
    let days = days(year, month, day);
    // A day that the month has not is one of the next month.
    if (1..=12).contains(&month) && date(days) == (year, month, day) {
        Ok(days)
    } else {
        Err(format!("there is no day {text}"))
    }
}

/// Milliseconds of a time of day. What is finer than that is left out.
fn clock_of(text: &str) -> Result<i64, String> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<_> = clock.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] if clock == text => (hour, minute, "00"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(UNKNOWN.to_owned()),
    };
    // A second may be a leap second.
    let (Some(hour), Some(minute), Some(second)) = (number(hour, 2, 23), number(minute, 2, 59), number(second, 2, 60))
    else {
        return Err(format!("there is no time of day {text}"));
    };
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("there is no fraction of a second .{fraction}"));
    }
    let ms = number(&format!("{fraction:0<3}")[..3], 3, 999).unwrap_or_default();
    Ok(((hour * 60 + minute) * 60 + second) * 1_000 + ms)
}

/// Milliseconds by which a zone is ahead of UTC.
fn zone_of(text: &str) -> Result<i64, String> {
    if matches!(text, "Z" | "z") {
        return Ok(0);
    }
    let ahead = if text.starts_with('-') { -1 } else { 1 };
    let digits = text[1..].replacen(':', "", 1);
    let zone = digits.split_at_checked(2).and_then(|(hour, minute)| {
        let minute = if minute.is_empty() { 0 } else { number(minute, 2, 59)? };
        Some(number(hour, 2, 23)? * 60 + minute)
    });
    zone.map(|minutes| ahead * minutes * 60_000).ok_or_else(|| format!("there is no zone {text}"))
}

/// A point in time as it is shown, in UTC: `2026-01-31T12:00:00Z`, with milliseconds if there are some.
pub(super) fn shown_point(ms: i64) -> String {
    let (days, ms_of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    if !(0..=9_999).contains(&year) {
        return format!("{ms} ms");
    }
    let (seconds, fraction) = (ms_of_day / 1_000, ms_of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn points_in_time_are_read_as_people_write_them() {
        for (text, ms) in [
            ("0", 0),
            ("-5", -5),
            ("1767225600000", 1_767_225_600_000),
            ("2026-01-01", 1_767_225_600_000),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01 02:00+02:00", 1_767_225_600_000),
            ("2025-12-31t18:30:00.000-0530", 1_767_225_600_000),
            ("2026-01-01T01:00:00+01", 1_767_225_600_000),
            ("2026-01-01T00:00:00.2509Z", 1_767_225_600_250),
            ("2026-01-01T00:00:00.5z", 1_767_225_600_500),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2024-02-29", 1_709_164_800_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(point(text), Ok(ms), "{text}");
        }
        for (text, why) in [
            ("2026-01-01T00:00:00", "say in which zone: 2026-01-01T00:00:00Z"),
            ("2026-02-29", "there is no day 2026-02-29"),
            ("2026-13-01", "there is no day 2026-13-01"),
            ("2026-01-01T24:00:00Z", "there is no time of day"),
            ("2026-01-01T00:00:00.Z", "fraction"),
            ("2026-01-01T00:00:00+2:00", "there is no zone +2:00"),
            ("2026-01-01T00:00:00Zulu", "there is no zone Zulu"),
            ("99999999999999999999", "20 digits"),
            ("yesterday", UNKNOWN),
            ("2026-1-1", UNKNOWN),
            ("31.01.2026", UNKNOWN),
            ("", UNKNOWN),
            ("-", UNKNOWN),
            ("2026-01-é1", UNKNOWN),
            ("2026-01-01T00Z", UNKNOWN),
            ("2026-01-01T00:00.5Z", UNKNOWN),
        ] {
            assert!(point(text).unwrap_err().contains(why), "{text}: {:?}", point(text));
        }
    }

    #[test]
    fn points_in_time_are_shown_in_utc() {
        assert_eq!(shown_point(1_767_225_600_000), "2026-01-01T00:00:00Z");
        assert_eq!(shown_point(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(shown_point(i64::MAX), format!("{} ms", i64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_written(ms in -62_167_219_200_000..253_402_300_800_000_i64) {
            prop_assert_eq!(point(&shown_point(ms)), Ok(ms));
        }

        #[test]
        fn no_text_is_too_much(text in "[0-9TZz:+. -]{0,30}") {
            let _ = point(&text);
        }
    }
}
