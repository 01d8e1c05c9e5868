mod attributes;
mod bad_arrow;
mod bad_input;
mod foreign;
mod round_trip;
mod shapes;

use std::borrow::Cow;

use brigade_index::batch::{Attributes, Columns, MessageRef, Messages, ValueKind};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A message with everything that a sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kind: ValueKind,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    timestamp_ms: i64,
    partition: Option<u32>,
    group: Option<String>,
    priority: Option<u8>,
    times: [Option<i64>; 2],
    deduplication_id: Option<String>,
}

impl Owned {
    fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            kind: self.kind,
            headers: &self.headers,
            timestamp_ms: self.timestamp_ms,
            attributes: Attributes {
                group: self.group.as_deref(),
                priority: self.priority,
                deliver_at_ms: self.times[0],
                expires_at_ms: self.times[1],
            },
        }
    }
}

/// Keeps what it is given; refuses values longer than 100 bytes.
#[derive(Default)]
struct Sink(Vec<Owned>);

impl MessageSink for Sink {
    fn push(
        &mut self,
        message: MessageRef<'_>,
        partition: Option<u32>,
        deduplication_id: Option<&str>,
    ) -> Result<(), Refusal> {
        if message.value.is_some_and(|value| value.len() > 100) {
            return Err(Refusal::new("message_too_large", "the value is too long", "Shorten it."));
        }
        let own = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        self.0.push(Owned {
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.map(<[u8]>::to_vec),
            kind: message.kind,
            headers: message.headers.iter().map(|(name, value)| (own(name), own(value))).collect(),
            timestamp_ms: message.timestamp_ms,
            partition,
            group: message.attributes.group.map(str::to_owned),
            priority: message.attributes.priority,
            times: [message.attributes.deliver_at_ms, message.attributes.expires_at_ms],
            deduplication_id: deduplication_id.map(str::to_owned),
        });
        Ok(())
    }
}

const NOW: i64 = 1_700_000_000_000;

fn json(body: &[u8]) -> Result<Vec<Owned>, WireError> {
    let mut sink = Sink::default();
    let count = parse_json(body, NOW, &mut sink)?;
    assert_eq!(count, sink.0.len());
    Ok(sink.0)
}

fn ndjson(body: &[u8]) -> Result<Vec<Owned>, WireError> {
    let mut sink = Sink::default();
    let count = parse_ndjson(body, NOW, &mut sink)?;
    assert_eq!(count, sink.0.len());
    Ok(sink.0)
}

fn from_arrow(body: &Bytes) -> Result<Vec<Owned>, WireError> {
    let mut sink = Sink::default();
    let count = parse_arrow(body, NOW, 1 << 20, &mut sink)?;
    assert_eq!(count, sink.0.len());
    Ok(sink.0)
}

fn columns(messages: &[Owned]) -> Messages {
    let mut columns = Columns::default();
    messages.iter().for_each(|message| columns.push(&message.as_ref()));
    Messages::new(columns.into_record_batch()).unwrap()
}

fn slice(messages: &[Owned], partition: u32, base_offset: u64) -> MessageSlice {
    MessageSlice { partition, base_offset, messages: columns(messages), first: 0, rows: messages.len() }
}

/// Text with what is hard for JSON more often than by chance.
fn text(max: usize) -> impl Strategy<Value = String> {
    let character = prop_oneof![any::<char>(), (0..0x80_u8).prop_map(char::from), Just('"'), Just('\\')];
    proptest::collection::vec(character, 0..max).prop_map(String::from_iter)
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Bool(true)),
        any::<i32>().prop_map(serde_json::Value::from),
        text(6).prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let nested = leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            proptest::collection::vec((text(4), inner), 0..3)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    });
    nested.prop_filter("strings are text, null is none, and the sink takes 100 bytes", |document| {
        !document.is_string() && !document.is_null() && document.to_string().len() <= 100
    })
}

fn value() -> impl Strategy<Value = (Option<Vec<u8>>, ValueKind)> {
    prop_oneof![
        text(20).prop_map(|text| (Some(text.into_bytes()), ValueKind::Text)),
        document().prop_map(|document| (Some(document.to_string().into_bytes()), ValueKind::Json)),
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| (Some(bytes), ValueKind::Binary)),
        Just((None, ValueKind::Binary)),
    ]
}

/// A message that can be published.
fn message() -> impl Strategy<Value = Owned> {
    let key = prop_oneof![
        text(10).prop_map(|text| Some(text.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..10).prop_map(Some),
        Just(None),
    ];
    let header = (text(8), text(8)).prop_map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
    let headers = proptest::collection::vec(header, 0..4);
    let time = || proptest::option::weighted(0.2, 0..i64::MAX);
    let group = proptest::option::weighted(0.2, text(6));
    let attributes = (group, proptest::option::weighted(0.2, 0..=9u8), [time(), time()]);
    let attributes = prop_oneof![Just((None, None, [None, None])), attributes];
    (key, value(), headers, 0..=i64::MAX, proptest::option::of(any::<u32>()), attributes).prop_map(
        |(key, (value, kind), headers, timestamp_ms, partition, (group, priority, times))| {
            let key = if value.is_none() { key.or_else(|| Some(Vec::new())) } else { key };
            let deduplication_id = None;
            Owned { key, value, kind, headers, timestamp_ms, partition, group, priority, times, deduplication_id }
        },
    )
}

fn messages() -> impl Strategy<Value = Vec<Owned>> {
    proptest::collection::vec(message(), 1..20)
}
