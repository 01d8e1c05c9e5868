//! JSON strings and numbers, written and read by the word.

/// Every byte of a word set to 1.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of every byte of a word.
const HIGHS: u64 = ONES * 0x80;

/// Marks bytes of `word` below `limit` (at most 128). Marks above the lowest one may be false: a borrow ran into them.
const fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES * limit) & !word & HIGHS
}

/// Where the first byte is that a JSON string cannot hold as it is: a quote, a backslash or a control character.
pub(super) fn find_escape(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks =
            below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if marks != 0 {
            // The lowest mark is a true one, whichever of the three tests made it.
            return Some(at * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'))?;
    Some(words.len() * 8 + at)
}

/// Writes `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = find_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
                out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Writes a number in decimal.
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a number in decimal.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(out, number.unsigned_abs());
}

/// A `\u` escape that stands for half a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoneSurrogate;

/// Reads the four digits of a `\u` escape. Callers have valid JSON, where they are there.
fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Reads what follows `\u`: the character and the bytes it took, those of a second escape included.
pub(super) fn read_unicode_escape(bytes: &[u8]) -> Result<(char, usize), LoneSurrogate> {
    let first = hex4(bytes).ok_or(LoneSurrogate)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, 4));
    }
    let second = bytes.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(hex4).ok_or(LoneSurrogate)?;
    if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
        return Err(LoneSurrogate);
    }
    let character = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(character).map(|character| (character, 10)).ok_or(LoneSurrogate)
}

/// Appends what a JSON string stands for. `inner` is the valid string without its quotes.
pub(super) fn unescape(inner: &str, out: &mut Vec<u8>) -> Result<(), LoneSurrogate> {
    out.reserve(inner.len());
    let mut rest = inner.as_bytes();
    while let Some(at) = find_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let escaped = rest.first().copied().unwrap_or(b'\\');
        rest = rest.get(1..).unwrap_or_default();
        out.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (character, taken) = read_unicode_escape(rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[taken..];
                continue;
            }
            other => other,
        });
    }
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_quotes_and_backslashes_are_found_at_every_place() {
        for byte in 0..=255_u8 {
            for len in 1..40 {
                for at in 0..len {
                    let mut bytes = vec![b'!'; len];
                    bytes[at] = byte;
                    let escaped = byte < 0x20 || matches!(byte, b'"' | b'\\');
                    assert_eq!(find_escape(&bytes), escaped.then_some(at), "{byte} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn half_characters_are_refused() {
        for inner in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800A", r"\udc00\ud800", r"a\ud83d"] {
            assert_eq!(unescape(inner, &mut Vec::new()), Err(LoneSurrogate), "{inner}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let character = prop_oneof![any::<char>(), (0..0x80_u8).prop_map(char::from), Just('"'), Just('\\')];
        proptest::collection::vec(character, 0..80).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn serde_reads_what_was_written(text in text()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn what_serde_wrote_is_read(text in text(), wide in any::<bool>()) {
            let json = if wide {
                let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
                format!("\"{}\"", String::from_iter(units))
            } else {
                serde_json::to_string(&text).unwrap()
            };
            let mut out = Vec::new();
            unescape(&json[1..json.len() - 1], &mut out).unwrap();
            prop_assert_eq!(out, text.as_bytes());
        }

        #[test]
        fn numbers_are_written_like_everywhere(signed in any::<i64>(), unsigned in any::<u64>()) {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            write_i64(&mut a, signed);
            write_u64(&mut b, unsigned);
            prop_assert_eq!(a, signed.to_string().into_bytes());
            prop_assert_eq!(b, unsigned.to_string().into_bytes());
        }
    }
}
