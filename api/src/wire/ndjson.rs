//! `application/x-ndjson`: one message object a line.

use serde::de::DeserializeSeed;

use super::{
    MessageSink,
    error::WireError,
    json::utf8,
    message::{One, Reader},
};

/// Parses an NDJSON body and pushes its messages in their order; those without a timestamp get `now_ms`, milliseconds
/// since the Unix epoch. Lines end with LF or CRLF; blank ones are skipped. Returns how many messages there were.
///
/// # Errors
/// Like [`super::parse_json`]; the message of the error names the line.
pub fn parse_ndjson(body: &[u8], now_ms: i64, sink: &mut impl MessageSink) -> Result<usize, WireError> {
    let text = utf8(body)?;
    let mut reader = Reader::new(sink, now_ms);
    for (lines_before, line) in text.split('\n').enumerate() {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let result = One(&mut reader).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        result.map_err(|error| reader.error(&error, lines_before))?;
    }
    if reader.count == 0 {
        return Err(WireError::no_messages(r#"Send one message a line, such as {"key":"k","value":"v"}."#));
    }
    Ok(reader.count)
}
