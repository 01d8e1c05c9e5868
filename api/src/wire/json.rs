//! `application/json`: `{"messages":[…]}`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{
    MessageSink,
    error::{Place, Refusal, WireError, codes},
    message::{List, Reader},
};

const SHAPE_HINT: &str = r#"The body is {"messages":[{"key":"k","value":"v"}]}."#;

const LIST_HINT: &str = r#"A list of messages is [{"key":"k","value":"v"}]."#;

/// Parses a JSON body and pushes its messages in their order; those without a timestamp get `now_ms`, milliseconds
/// since the Unix epoch. Returns how many there were.
///
/// # Errors
/// When the body is no JSON, has another shape, a message is wrong, there is none or there are too many, or the sink
/// refuses one. The sink then has the messages before it, which must not be stored.
pub fn parse_json(body: &[u8], now_ms: i64, sink: &mut impl MessageSink) -> Result<usize, WireError> {
    let text = utf8(body)?;
    let mut reader = Reader::new(sink, now_ms);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let result = Body(&mut reader).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    result.map_err(|error| reader.error(&error, 0))?;
    if reader.count == 0 { Err(WireError::no_messages(SHAPE_HINT)) } else { Ok(reader.count) }
}

/// Parses a list of messages that stands in a larger document, as [`parse_json`] does with a whole body.
///
/// # Errors
/// Like [`parse_json`]; lines and columns are not named, since they would be those of the list.
pub fn parse_message_list(list: &str, now_ms: i64, sink: &mut impl MessageSink) -> Result<usize, WireError> {
    let mut reader = Reader::new(sink, now_ms);
    let mut deserializer = serde_json::Deserializer::from_str(list);
    let result = List(&mut reader).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    result.map_err(|error| reader.error_in_list(&error))?;
    if reader.count == 0 { Err(WireError::no_messages(LIST_HINT)) } else { Ok(reader.count) }
}

/// The body as text. Checked once for all, which is cheaper than string by string.
pub(super) fn utf8(body: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(body).map_err(|error| {
        let before = &body[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        let hint = "Send JSON in UTF-8, and bytes as value_base64 or key_base64.";
        let place = Place { index: None, line: Some((line, column)) };
        WireError::at(place, Refusal::new(codes::INVALID_JSON, "the body is not UTF-8", hint))
    })
}

struct Body<'a, 's, 'de, S>(&'a mut Reader<'s, 'de, S>);

impl<'de, S: MessageSink> DeserializeSeed<'de> for Body<'_, '_, 'de, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: MessageSink> Visitor<'de> for Body<'_, '_, 'de, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field messages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(is_messages) = map.next_key_seed(IsMessages)? {
            if is_messages && !seen {
                seen = true;
                map.next_value_seed(List(self.0))?;
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            let problem =
                if is_messages { "the field messages is there twice" } else { "unknown field beside messages" };
            return Err(self.0.refuse(Refusal::new(codes::INVALID_JSON, problem, SHAPE_HINT)));
        }
        if !seen {
            return Err(self.0.refuse(Refusal::new(codes::INVALID_JSON, "the field messages is missing", SHAPE_HINT)));
        }
        Ok(())
    }
}

/// Whether a name is `messages`.
struct IsMessages;

impl<'de> DeserializeSeed<'de> for IsMessages {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for IsMessages {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the field messages")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == "messages")
    }
}
