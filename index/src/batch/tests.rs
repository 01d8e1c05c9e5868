use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kind: u8,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    timestamp_ms: i64,
}

impl Owned {
    fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            kind: ValueKind::from_u8(self.kind),
            headers: &self.headers,
            timestamp_ms: self.timestamp_ms,
        }
    }
}

fn message() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let header = (".{0,8}", ".{0,8}").prop_map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
    (bytes(), bytes(), 0..3u8, proptest::collection::vec(header, 0..4), any::<i64>())
        .prop_map(|(key, value, kind, headers, timestamp_ms)| Owned { key, value, kind, headers, timestamp_ms })
}

fn columns(messages: &[Owned]) -> Columns {
    let mut columns = Columns::default();
    messages.iter().for_each(|message| columns.push(&message.as_ref()));
    columns
}

fn owned(messages: &Messages) -> Vec<Owned> {
    let own = |text: &str| Cow::Owned(text.to_owned());
    (0..messages.rows())
        .map(|row| Owned {
            key: messages.key(row).map(<[u8]>::to_vec),
            value: messages.value(row).map(<[u8]>::to_vec),
            kind: messages.kind(row) as u8,
            headers: messages.headers(row).map(|(name, value)| (own(name), own(value))).collect(),
            timestamp_ms: messages.timestamps()[row],
        })
        .collect()
}

proptest! {
    #[test]
    fn encode_then_decode_gives_the_same_messages(
        messages in proptest::collection::vec(message(), 0..50),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
    ) {
        let bytes = encode(&columns(&messages).into_record_batch(), compression).unwrap();
        prop_assert_eq!(owned(&decode(&bytes).unwrap()), messages);
    }

    #[test]
    fn appended_columns_equal_columns_pushed_one_by_one(
        first in proptest::collection::vec(message(), 0..20),
        second in proptest::collection::vec(message(), 0..20),
    ) {
        let mut appended = columns(&first);
        appended.append(columns(&second));
        let both: Vec<_> = first.into_iter().chain(second).collect();
        let (appended, pushed) = (appended.into_record_batch(), columns(&both).into_record_batch());
        prop_assert_eq!(appended, pushed);
    }

    #[test]
    fn damaged_bytes_are_refused_or_decoded_but_never_panic(
        messages in proptest::collection::vec(message(), 1..20),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(&columns(&messages).into_record_batch(), Compression::Lz4).unwrap();
        let mut damaged = bytes.to_vec();
        for (at, flip) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
        }
        let _ = decode(&damaged.clone().into());
        damaged.truncate(cut.index(damaged.len()));
        let _ = decode(&damaged.into());
    }
}
