//! Days of the Gregorian calendar, and the fixed numbers that dates are written with.

/// A number of so many digits that is at most so large.
pub(crate) fn number(text: &str, digits: usize, most: i64) -> Option<i64> {
    let whole = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| whole && *number <= most)
}

/// Days from the Unix epoch to a day; months and days are counted from 1. Years begin in March here, so that a leap day is
/// their last.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Year, month and day of a number of days since the Unix epoch.
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let next = i64::from(month >= 10);
    (era * 400 + year + next, if month < 10 { month + 3 } else { month - 9 }, day)
}
