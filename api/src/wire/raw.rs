//! `application/octet-stream` and `text/plain`: the body is the value of one message.

use std::borrow::Cow;

use brigade_index::{
    batch::{MessageRef, ValueKind},
    limits::MAX_HEADERS,
};

use super::{
    MessageSink,
    attributes::GivenAttributes,
    error::{Place, Refusal, WireError},
    message::{push_message, too_many_headers},
};

/// What comes beside the value of a raw message.
#[derive(Clone, Debug, Default)]
pub struct RawMeta<'a> {
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Partition that the client asked for.
    pub partition: Option<u32>,
    /// Attributes.
    pub attributes: GivenAttributes<'a>,
    /// Id by which the message is stored once.
    pub deduplication_id: Option<&'a str>,
    /// Headers in their order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Pushes `body` as one message, as text or as bytes; without a timestamp it gets `now_ms`, milliseconds since the Unix
/// epoch. An empty body is an empty value, not a tombstone. Returns 1.
///
/// # Errors
/// When text is not UTF-8, the timestamp is negative, an attribute is out of range, there are too many headers, or the
/// sink refuses the message.
pub fn parse_raw(
    body: &[u8],
    text: bool,
    meta: &RawMeta<'_>,
    now_ms: i64,
    sink: &mut impl MessageSink,
) -> Result<usize, WireError> {
    let refuse = |refusal| WireError::at(Place::default(), refusal);
    if text && let Err(error) = std::str::from_utf8(body) {
        let message = format!("the body is not UTF-8 from byte {} on", error.valid_up_to());
        return Err(refuse(Refusal::invalid(message, "Send bytes as application/octet-stream.")));
    }
    let timestamp_ms = meta.timestamp_ms.unwrap_or(now_ms);
    if timestamp_ms < 0 {
        let message = format!("the timestamp {timestamp_ms} is negative");
        return Err(refuse(Refusal::invalid(message, "Give milliseconds since the Unix epoch.")));
    }
    if meta.headers.len() > MAX_HEADERS {
        return Err(refuse(too_many_headers()));
    }
    let attributes = meta.attributes.resolve(now_ms).map_err(refuse)?;
    let kind = if text { ValueKind::Text } else { ValueKind::Binary };
    let message =
        MessageRef { key: meta.key, value: Some(body), kind, headers: &meta.headers, timestamp_ms, attributes };
    push_message(sink, message, meta.partition, meta.deduplication_id).map_err(refuse)?;
    Ok(1)
}
