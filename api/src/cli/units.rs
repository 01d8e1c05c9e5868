//! Times and sizes as people write them.

/// A time in milliseconds from its text: a number with `ms`, `s`, `m`, `h` or `d`, or several such one after the other;
/// `forever` is 0.
pub(super) fn time_or_forever(text: &str) -> Result<u64, String> {
    if text == "forever" { Ok(0) } else { positive(time(text)?, "forever") }
}

/// A time in milliseconds from its text; see [`time_or_forever`].
pub(super) fn time(text: &str) -> Result<u64, String> {
    let unit = |unit: &str| match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    quantity(text, unit).ok_or_else(|| "a time has a unit (ms, s, m, h or d), as in 90s, 12h or 7d".to_owned())
}

/// A number of bytes from its text: a number, with `B`, `KiB`, `MiB`, `GiB`, `TiB` or nothing; `unlimited` is 0.
pub(super) fn size_or_unlimited(text: &str) -> Result<u64, String> {
    let unit = |unit: &str| match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    if text == "unlimited" {
        return Ok(0);
    }
    let size =
        quantity(text, unit).ok_or("a size is a number of bytes, KiB, MiB, GiB or TiB, as in 512MiB or 10GiB")?;
    positive(size, "unlimited")
}

/// Nothing at all is rarely meant, and on the wire it means the contrary.
fn positive(number: u64, word: &str) -> Result<u64, String> {
    if number > 0 { Ok(number) } else { Err(format!("0 would keep nothing; write {word} to keep everything")) }
}

/// The sum of numbers with units; `None` if it is none, or too large.
fn quantity(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let (mut sum, mut rest) = (0_u64, text);
    loop {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        sum = sum.checked_add(number.checked_mul(unit(&rest[..letters])?)?)?;
        rest = &rest[letters..];
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// A time as it is written: in the largest units that say it exactly.
pub(super) fn shown_time(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let (mut left, mut shown) = (ms, String::new());
    for (unit, name) in units {
        if left >= unit {
            shown.push_str(&format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    if shown.is_empty() { "0ms".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_people_write_them() {
        let times = [("7d", 604_800_000), ("12h", 43_200_000), ("1d12h", 129_600_000), ("90s", 90_000), ("250ms", 250)];
        for (text, ms) in times {
            assert_eq!(time_or_forever(text), Ok(ms), "{text}");
        }
        assert_eq!((time_or_forever("forever"), time("0s")), (Ok(0), Ok(0)));
        let sizes = [("10GiB", 10 << 30), ("512MiB", 512 << 20), ("1TiB", 1 << 40), ("4096", 4_096), ("7B", 7)];
        for (text, bytes) in sizes {
            assert_eq!(size_or_unlimited(text), Ok(bytes), "{text}");
        }
        assert_eq!(size_or_unlimited("unlimited"), Ok(0));
        for text in
            ["", "7", "d", "7 d", "-1d", "1.5h", "7w", "7d forever", "99999999999999999999d", "9999999999999d", "7д"]
        {
            assert!(time_or_forever(text).is_err(), "{text}");
        }
        for text in ["", "GiB", "10GB", "10gib", "1e9", "-1", "99999999999TiB", "10 GiB"] {
            assert!(size_or_unlimited(text).is_err(), "{text}");
        }
        assert!(time_or_forever("0d").unwrap_err().contains("forever"));
        assert!(size_or_unlimited("0").unwrap_err().contains("unlimited"));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_written(ms in any::<u64>()) {
            prop_assert_eq!(time(&shown_time(ms)), Ok(ms));
        }
    }
}
