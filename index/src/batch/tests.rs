use std::borrow::Cow;

use arrow::array::RecordBatch;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kind: u8,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    timestamp_ms: i64,
    group: Option<String>,
    priority: Option<u8>,
    times: [Option<i64>; 2],
}

impl Owned {
    fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            kind: ValueKind::from_u8(self.kind),
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

fn message() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let header = (".{0,8}", ".{0,8}").prop_map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
    let plain = (bytes(), bytes(), 0..3u8, proptest::collection::vec(header, 0..4), any::<i64>());
    (plain, attributes()).prop_map(|((key, value, kind, headers, timestamp_ms), (group, priority, times))| Owned {
        key,
        value,
        kind,
        headers,
        timestamp_ms,
        group,
        priority,
        times,
    })
}

/// Mostly none, so that all mixtures of columns that are there and columns that are not come up.
fn attributes() -> impl Strategy<Value = (Option<String>, Option<u8>, [Option<i64>; 2])> {
    let rarely = |chance| proptest::option::weighted(chance, any::<i64>());
    let some = (
        proptest::option::weighted(0.3, ".{0,6}"),
        proptest::option::weighted(0.3, 0..=9u8),
        [rarely(0.2), rarely(0.2)],
    );
    prop_oneof![4 => Just((None, None, [None, None])), 1 => some]
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
            group: messages.attributes(row).group.map(str::to_owned),
            priority: messages.attributes(row).priority,
            times: [messages.attributes(row).deliver_at_ms, messages.attributes(row).expires_at_ms],
        })
        .collect()
}

proptest! {
    #[test]
    fn encode_then_decode_gives_the_same_messages(
        messages in proptest::collection::vec(message(), 0..50),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
    ) {
        let columns = columns(&messages);
        let used = messages.iter().map(|message| message.as_ref().attributes.set());
        let used = used.fold(AttributeSet::default(), AttributeSet::union);
        prop_assert_eq!(columns.attribute_set(), used);
        let decoded = decode(&encode(&columns.into_record_batch(), compression).unwrap()).unwrap();
        prop_assert_eq!(decoded.attribute_set(), used);
        prop_assert_eq!(owned(&decoded), messages);
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

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/test-data/v1/");

fn plain() -> Vec<Owned> {
    let header = (Cow::Borrowed("trace"), Cow::Borrowed("größe"));
    let message = |value: Option<&[u8]>, kind, timestamp_ms| Owned {
        key: Some(b"k".to_vec()),
        value: value.map(<[u8]>::to_vec),
        kind,
        headers: vec![header.clone(); usize::from(kind)],
        timestamp_ms,
        group: None,
        priority: None,
        times: [None, None],
    };
    let no_key = Owned { key: None, ..message(Some(b"\xff\x00"), 2, 1_700_000_000_000) };
    vec![message(Some(b"text"), 0, 5), message(Some(br#"{"a":1}"#), 1, -7), no_key, message(None, 2, 0)]
}

fn with_attributes() -> Vec<Owned> {
    let mut messages = plain();
    messages[1].group = Some("customer-7".to_owned());
    messages[2].times = [Some(1_700_000_060_000), Some(1_700_000_090_000)];
    messages[3].priority = Some(9);
    messages
}

/// Batches are stored as they always were; that without attributes is from before there were any.
#[test]
fn stored_batches_never_change() {
    for (name, messages) in [("batch", plain()), ("batch-attributes", with_attributes())] {
        let stored = bytes::Bytes::from(std::fs::read(format!("{FOLDER}{name}")).unwrap());
        assert_eq!(owned(&decode(&stored).unwrap()), messages, "{name}");
        let encoded = encode(&columns(&messages).into_record_batch(), Compression::None).unwrap();
        assert!(encoded == stored, "{name} is written otherwise than before");
    }
}

/// What an older reader does with a newer batch, and a newer one with an older.
#[test]
fn columns_are_found_by_their_names() {
    let stored = columns(&with_attributes()).into_record_batch();
    let reversed: Vec<_> = (0..5).chain((5..stored.num_columns()).rev()).collect();
    let messages = Messages::new(stored.project(&reversed).unwrap()).unwrap();
    assert_eq!(owned(&messages), with_attributes());
    let some = Messages::new(stored.project(&[0, 1, 2, 3, 4, 6]).unwrap()).unwrap();
    assert_eq!(some.attribute_set(), AttributeSet::PRIORITY);
    assert_eq!(some.attributes(3).priority, Some(9));
    let too_few = Messages::new(stored.project(&[0, 1, 2, 3]).unwrap());
    assert!(matches!(too_few, Err(BatchError::Schema)));
    let twice = Messages::new(stored.project(&[0, 1, 2, 3, 4, 5, 5]).unwrap());
    assert!(matches!(twice, Err(BatchError::Schema)));
    let columns = [(0, "timestamp"), (1, "key"), (2, "value"), (3, "kind"), (4, "headers"), (3, "group")];
    let wrong = RecordBatch::try_from_iter(columns.map(|(at, name)| (name, stored.column(at).clone()))).unwrap();
    assert!(matches!(Messages::new(wrong), Err(BatchError::ColumnType("group"))));
    // A bit that only a newer version knows is passed over; more behind a batch than one byte is nothing known.
    let mut newer = encode(&stored, Compression::Lz4).unwrap().to_vec();
    *newer.last_mut().unwrap() |= 0x40;
    assert_eq!(owned(&decode(&newer.clone().into()).unwrap()), with_attributes());
    newer.push(0);
    assert!(matches!(decode(&newer.into()), Err(BatchError::Malformed(_))));
}
