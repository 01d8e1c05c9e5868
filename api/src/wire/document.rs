//! JSON documents as values of messages: kept as sent, as far as a reader can be given them back.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    error::Refusal,
    escape::{read_unicode_escape, unescape},
};

/// Deepest nesting of a document. Common parsers, ours included, give up not much later, and a message that its
/// consumers cannot parse would block them.
pub(super) const MAX_DEPTH: usize = 128;

/// What a JSON document means as the value of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document<'a> {
    /// A JSON string: text.
    Text(&'a [u8]),
    /// A JSON string with escapes: the text is in the scratch buffer.
    TextInScratch,
    /// Any other document.
    Json(&'a [u8]),
    /// Any other document, whose text without white space is in the scratch buffer.
    JsonInScratch,
    /// `null`: no value.
    Null,
}

/// Says what a document means; uses `scratch` where its bytes cannot be taken as they are. `raw` must be valid JSON
/// without white space around it.
///
/// # Errors
/// When it is nested too deeply or has half a character.
pub(super) fn read<'a>(raw: &'a str, scratch: &mut Vec<u8>) -> Result<Document<'a>, Refusal> {
    scratch.clear();
    if let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        if !inner.contains('\\') {
            return Ok(Document::Text(inner.as_bytes()));
        }
        unescape(inner, scratch).map_err(|_| half_a_character())?;
        return Ok(Document::TextInScratch);
    }
    if raw == "null" {
        return Ok(Document::Null);
    }
    check_depth_and_characters(raw)?;
    match without_line_breaks(raw) {
        Cow::Borrowed(raw) => Ok(Document::Json(raw.as_bytes())),
        Cow::Owned(compact) => {
            *scratch = compact.into_bytes();
            Ok(Document::JsonInScratch)
        }
    }
}

/// Says what foreign text means; see [`read`].
///
/// # Errors
/// Also when it is no JSON document.
pub(super) fn read_foreign<'a>(text: &'a [u8], scratch: &mut Vec<u8>) -> Result<Document<'a>, Refusal> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|error| {
        Refusal::invalid(format!("the value is no JSON document: {error}"), "Send a JSON document, or kind 0 or 2.")
    })?;
    read(raw.get(), scratch)
}

fn half_a_character() -> Refusal {
    Refusal::invalid("the value has a \\u escape for half a character", "Send both halves of the surrogate pair.")
}

/// The document on one line. White space is dropped only if there is a line break or tab; these cannot be inside strings.
pub(super) fn without_line_breaks(raw: &str) -> Cow<'_, str> {
    // Looks at all bytes instead of stopping at the first, which the compiler turns into vector instructions.
    if !raw.bytes().fold(false, |found, byte| found | (byte < 0x20)) {
        return Cow::Borrowed(raw);
    }
    let (mut in_string, mut escaped) = (false, false);
    let mut compact = String::with_capacity(raw.len());
    compact.extend(raw.chars().filter(|character| {
        let keep = in_string || !matches!(character, ' ' | '\t' | '\n' | '\r');
        if *character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = *character == '\\' && !escaped;
        keep
    }));
    Cow::Owned(compact)
}

fn check_depth_and_characters(raw: &str) -> Result<(), Refusal> {
    let openings = raw.bytes().map(|byte| usize::from(matches!(byte, b'[' | b'{'))).sum::<usize>();
    if openings <= MAX_DEPTH && !raw.contains("\\u") {
        return Ok(());
    }
    let bytes = raw.as_bytes();
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if bytes.get(at) == Some(&b'u') => {
                let rest = bytes.get(at + 1..).unwrap_or_default();
                let (_, taken) = read_unicode_escape(rest).map_err(|_| half_a_character())?;
                at += 1 + taken;
            }
            b'\\' => at += 1,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let message = format!("the value is nested more than {MAX_DEPTH} levels deep");
                    return Err(Refusal::invalid(message, "Flatten it, or send it as text or value_base64."));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let mut scratch = Vec::new();
        assert!(read(&nested(MAX_DEPTH), &mut scratch).is_ok());
        assert!(read(&nested(MAX_DEPTH + 1), &mut scratch).is_err());
        assert!(read(&format!("[\"\\\"{}\"]", "[".repeat(500)), &mut scratch).is_ok());
        assert!(read(&format!("[{}]", vec!["[]"; 500].join(",")), &mut scratch).is_ok());
    }

    #[test]
    fn line_breaks_outside_strings_are_dropped() {
        let mut scratch = Vec::new();
        let raw = "{\n  \"a\\\\\": [1,\t\"b \\\" \\n c\"]\r\n}";
        assert_eq!(read(raw, &mut scratch).unwrap(), Document::JsonInScratch);
        assert_eq!(std::str::from_utf8(&scratch).unwrap(), r#"{"a\\":[1,"b \" \n c"]}"#);
        assert_eq!(read(r#"{"a": 1}"#, &mut scratch).unwrap(), Document::Json(br#"{"a": 1}"#));
    }

    #[test]
    fn half_characters_are_refused_everywhere() {
        let mut scratch = Vec::new();
        for raw in [r#""\ud800""#, r#"{"a":"\udc00"}"#, r#"["\ud83d"]"#] {
            assert!(read(raw, &mut scratch).is_err(), "{raw}");
        }
        assert!(read(r#"["\ud83d\ude00"]"#, &mut scratch).is_ok());
        assert_eq!(read(r#""\ud83d\ude00""#, &mut scratch).unwrap(), Document::TextInScratch);
        assert_eq!(scratch, "😀".as_bytes());
    }
}
