//! The message object of JSON and NDJSON bodies, parsed in one pass and pushed to the sink.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD_PAD_INDIFFERENT};
use brigade_index::{
    batch::{MessageRef, ValueKind},
    limits::{MAX_HEADERS, MAX_MESSAGES_PER_PUBLISH},
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    MessageSink,
    attributes::GivenAttributes,
    document::{self, Document},
    error::{Place, Refusal, WireError, codes},
    fields::{FIELDS_HINT, Field, FieldName, OptionalInteger, OptionalNumber, OptionalText},
};

/// Reads message objects and pushes them to a sink. Its buffers live as long as the body, so that a message costs no
/// allocation.
pub(super) struct Reader<'s, 'de, S> {
    sink: &'s mut S,
    now_ms: i64,
    headers: Vec<(Cow<'de, str>, Cow<'de, str>)>,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Messages pushed so far.
    pub(super) count: usize,
    /// Whether parsing stopped inside of a message.
    inside: bool,
    /// Why parsing stopped, if the reason is not serde's.
    refusal: Option<Refusal>,
}

impl<'s, 'de, S: MessageSink> Reader<'s, 'de, S> {
    pub(super) fn new(sink: &'s mut S, now_ms: i64) -> Self {
        let (headers, key, value) = (Vec::new(), Vec::new(), Vec::new());
        Self { sink, now_ms, headers, key, value, count: 0, inside: false, refusal: None }
    }

    /// Stops parsing.
    pub(super) fn refuse<E: Error>(&mut self, refusal: Refusal) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    /// The error of a list within a larger document, whose lines nobody knows here.
    pub(super) fn error_in_list(&mut self, error: &serde_json::Error) -> WireError {
        let index = self.inside.then_some(self.count);
        let refusal = self.refusal_of(error);
        WireError::at(Place { index, line: None }, refusal)
    }

    /// The error of the body. `lines_before` is the number of lines before the text that serde was given.
    pub(super) fn error(&mut self, error: &serde_json::Error, lines_before: usize) -> WireError {
        let line = (error.line() > 0).then(|| (lines_before + error.line(), error.column()));
        let place = Place { index: self.inside.then_some(self.count), line };
        let refusal = self.refusal_of(error);
        WireError::at(place, refusal)
    }

    fn refusal_of(&mut self, error: &serde_json::Error) -> Refusal {
        self.refusal.take().unwrap_or_else(|| {
            let mut text = error.to_string();
            let position = format!(" at line {} column {}", error.line(), error.column());
            text.truncate(text.strip_suffix(&position).map_or(text.len(), str::len));
            if error.is_data() {
                Refusal::invalid(text, "See the publish operation in /openapi.json for the fields and their types.")
            } else {
                Refusal::new(codes::INVALID_JSON, text, "Send well-formed JSON, complete and in UTF-8.")
            }
        })
    }

    fn push(&mut self, draft: &Draft<'de>) -> Result<(), Refusal> {
        let (value, kind) = match draft.value {
            DraftValue::None => (None, ValueKind::Binary),
            DraftValue::Borrowed(value, kind) => (Some(value), kind),
            DraftValue::Scratch(kind) => (Some(self.value.as_slice()), kind),
        };
        let key = match &draft.key {
            DraftKey::None => None,
            DraftKey::Text(text) => Some(text.as_bytes()),
            DraftKey::Scratch => Some(self.key.as_slice()),
        };
        let timestamp_ms = draft.timestamp_ms.unwrap_or(self.now_ms);
        let attributes = GivenAttributes { group: draft.group.as_deref(), ..draft.attributes }.resolve(self.now_ms)?;
        let message = MessageRef { key, value, kind, headers: &self.headers, timestamp_ms, attributes };
        push_message(self.sink, message, draft.partition, draft.deduplication_id.as_deref())
    }
}

/// Pushes a message after the checks that all formats share.
pub(super) fn push_message(
    sink: &mut impl MessageSink,
    message: MessageRef<'_>,
    partition: Option<u32>,
    deduplication_id: Option<&str>,
) -> Result<(), Refusal> {
    if message.value.is_none() && message.key.is_none() {
        return Err(Refusal::invalid(
            "there is neither a value nor a key",
            "Give a value; without one the message is a tombstone, which needs the key that it deletes.",
        ));
    }
    sink.push(message, partition, deduplication_id)
}

pub(super) fn too_many_messages() -> Refusal {
    let message = format!("there are more than {MAX_MESSAGES_PER_PUBLISH} messages in the body");
    Refusal::new(codes::TOO_MANY_MESSAGES, message, "Split them over several requests.")
}

pub(super) fn too_many_headers() -> Refusal {
    let message = format!("the message has more than {MAX_HEADERS} headers");
    Refusal::new(codes::TOO_MANY_HEADERS, message, "Headers are labels; put data into the value.")
}

/// A message while its fields are read.
#[derive(Default)]
struct Draft<'de> {
    /// One bit for each field that was given.
    seen: u16,
    key: DraftKey<'de>,
    value: DraftValue<'de>,
    timestamp_ms: Option<i64>,
    partition: Option<u32>,
    group: Option<Cow<'de, str>>,
    /// But for the group.
    attributes: GivenAttributes<'static>,
    deduplication_id: Option<Cow<'de, str>>,
}

#[derive(Default)]
enum DraftKey<'de> {
    #[default]
    None,
    Text(Cow<'de, str>),
    Scratch,
}

#[derive(Default)]
enum DraftValue<'de> {
    #[default]
    None,
    Borrowed(&'de [u8], ValueKind),
    Scratch(ValueKind),
}

/// The list of messages.
pub(super) struct List<'a, 's, 'de, S>(pub(super) &'a mut Reader<'s, 'de, S>);

impl<'de, S: MessageSink> DeserializeSeed<'de> for List<'_, '_, 'de, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: MessageSink> Visitor<'de> for List<'_, '_, 'de, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(One(self.0))?.is_some() {}
        Ok(())
    }
}

/// One message.
pub(super) struct One<'a, 's, 'de, S>(pub(super) &'a mut Reader<'s, 'de, S>);

impl<'de, S: MessageSink> DeserializeSeed<'de> for One<'_, '_, 'de, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.inside = true;
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: MessageSink> Visitor<'de> for One<'_, '_, 'de, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reader = self.0;
        if reader.count == MAX_MESSAGES_PER_PUBLISH {
            return Err(reader.refuse(too_many_messages()));
        }
        reader.headers.clear();
        let mut draft = Draft::default();
        while let Some(field) = map.next_key_seed(FieldName(&mut reader.refusal))? {
            let bit = 1_u16 << field as u8;
            if draft.seen & bit != 0 {
                let refusal = Refusal::new(codes::INVALID_JSON, "the message has a field twice", FIELDS_HINT);
                return Err(reader.refuse(refusal));
            }
            draft.seen |= bit;
            read_field(reader, &mut draft, field, &mut map)?;
        }
        reader.push(&draft).map_err(|refusal| reader.refuse(refusal))?;
        reader.count += 1;
        reader.inside = false;
        Ok(())
    }
}

const SPAN: &str = "a whole number of milliseconds";
const INSTANT: &str = "a time in whole milliseconds since the Unix epoch";

fn read_field<'de, S: MessageSink, A: MapAccess<'de>>(
    reader: &mut Reader<'_, 'de, S>,
    draft: &mut Draft<'de>,
    field: Field,
    map: &mut A,
) -> Result<(), A::Error> {
    match field {
        Field::Key => {
            if let Some(text) = map.next_value_seed(OptionalText("a string as key"))? {
                one_of(reader, matches!(draft.key, DraftKey::None), "key and key_base64")?;
                draft.key = DraftKey::Text(text);
            }
        }
        Field::KeyBase64 => {
            if let Some(text) = map.next_value_seed(OptionalText("a string as key_base64"))? {
                one_of(reader, matches!(draft.key, DraftKey::None), "key and key_base64")?;
                decode(&text, &mut reader.key, "key_base64").map_err(|refusal| reader.refuse(refusal))?;
                draft.key = DraftKey::Scratch;
            }
        }
        Field::Value => {
            let raw: &'de RawValue = map.next_value()?;
            if raw.get() != "null" {
                one_of(reader, matches!(draft.value, DraftValue::None), "value and value_base64")?;
                let document = document::read(raw.get(), &mut reader.value);
                draft.value = document.map_err(|refusal| reader.refuse(refusal))?.into();
            }
        }
        Field::ValueBase64 => {
            if let Some(text) = map.next_value_seed(OptionalText("a string as value_base64"))? {
                one_of(reader, matches!(draft.value, DraftValue::None), "value and value_base64")?;
                decode(&text, &mut reader.value, "value_base64").map_err(|refusal| reader.refuse(refusal))?;
                draft.value = DraftValue::Scratch(ValueKind::Binary);
            }
        }
        Field::Headers => map.next_value_seed(Headers(reader))?,
        Field::Timestamp => {
            let what = "a timestamp of 0 or more, in milliseconds since the Unix epoch";
            let number = map.next_value_seed(OptionalNumber { what, max: i64::MAX as u64 })?;
            draft.timestamp_ms = number.and_then(|number| i64::try_from(number).ok());
        }
        Field::Partition => {
            let what = "a partition, which is an integer of 0 or more";
            let number = map.next_value_seed(OptionalNumber { what, max: u64::from(u32::MAX) })?;
            draft.partition = number.and_then(|number| u32::try_from(number).ok());
        }
        Field::Group => draft.group = map.next_value_seed(OptionalText("a string as group"))?,
        Field::DeduplicationId => {
            draft.deduplication_id = map.next_value_seed(OptionalText("a string as deduplication_id"))?;
        }
        Field::Priority => {
            draft.attributes.priority = map.next_value_seed(OptionalInteger("a priority, which is an integer"))?;
        }
        Field::DelayMs => draft.attributes.delay_ms = map.next_value_seed(OptionalInteger(SPAN))?,
        Field::DeliverAt => draft.attributes.deliver_at = map.next_value_seed(OptionalInteger(INSTANT))?,
        Field::TtlMs => draft.attributes.ttl_ms = map.next_value_seed(OptionalInteger(SPAN))?,
        Field::ExpiresAt => draft.attributes.expires_at = map.next_value_seed(OptionalInteger(INSTANT))?,
    }
    Ok(())
}

impl<'de> From<Document<'de>> for DraftValue<'de> {
    fn from(document: Document<'de>) -> Self {
        match document {
            Document::Text(text) => Self::Borrowed(text, ValueKind::Text),
            Document::TextInScratch => Self::Scratch(ValueKind::Text),
            Document::Json(json) => Self::Borrowed(json, ValueKind::Json),
            Document::JsonInScratch => Self::Scratch(ValueKind::Json),
            Document::Null => Self::None,
        }
    }
}

fn one_of<S: MessageSink, E: Error>(reader: &mut Reader<'_, '_, S>, first: bool, which: &str) -> Result<(), E> {
    if first {
        return Ok(());
    }
    let message = format!("the message has both {which}");
    Err(reader.refuse(Refusal::invalid(message, "Give text without base64, or bytes with it.")))
}

fn decode(text: &str, out: &mut Vec<u8>, field: &str) -> Result<(), Refusal> {
    out.clear();
    STANDARD_PAD_INDIFFERENT.decode_vec(text, out).map_err(|error| {
        Refusal::invalid(
            format!("{field} is not base64: {error}"),
            "Use the standard base64 alphabet (A-Z a-z 0-9 + /).",
        )
    })
}

struct Headers<'a, 's, 'de, S>(&'a mut Reader<'s, 'de, S>);

impl<'de, S: MessageSink> DeserializeSeed<'de> for Headers<'_, '_, 'de, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: MessageSink> Visitor<'de> for Headers<'_, '_, 'de, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers, which are an object of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Some(name)) = map.next_key_seed(OptionalText("a header name"))? {
            // The count is checked while reading: the list takes several times the memory of its text.
            if self.0.headers.len() == MAX_HEADERS {
                return Err(self.0.refuse(too_many_headers()));
            }
            let value = map.next_value_seed(OptionalText("a string as the value of a header"))?;
            let Some(value) = value else {
                let message = format!("the value of header {:?} is null", name.chars().take(64).collect::<String>());
                return Err(self
                    .0
                    .refuse(Refusal::invalid(message, "Header values are strings; leave the header out.")));
            };
            self.0.headers.push((name, value));
        }
        Ok(())
    }
}
