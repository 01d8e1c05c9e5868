use std::{borrow::Cow, collections::BTreeMap};

use brigade_index::batch::{Attributes, Messages, ValueKind};
use proptest::prelude::*;

use super::*;
use crate::placement::PartPlaces;

fn draft(partitions: u32, identity: Option<Identity>) -> Draft {
    let settings = TopicSettings { partitions, max_message_bytes: 1_000, ..TopicSettings::default() };
    let name = TopicName::new("t").unwrap();
    Draft::new((name, TopicId(1)), Arc::new(settings), identity, Partition(partitions - 1), 5)
}

fn message<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> MessageRef<'a> {
    MessageRef { key, value, kind: ValueKind::Binary, headers: &[], timestamp_ms: 0, attributes: Attributes::default() }
}

#[test]
fn limits_are_enforced_and_leave_the_draft_as_it_was() {
    let mut draft = draft(2, None);
    let (long_key, long_value) = (vec![0; MAX_KEY_BYTES + 1], vec![0; 1_001]);
    let header = |len: usize| (Cow::Borrowed("h"), Cow::Owned("x".repeat(len)));
    let many: Vec<_> = (0..=MAX_HEADERS).map(|_| header(1)).collect();
    let long = [header(MAX_HEADER_BYTES)];
    let value: Option<&[u8]> = Some(b"v");
    let with = |headers| MessageRef { headers, ..message(None, value) };
    type E = MessageError;
    assert!(matches!(draft.push(&message(None, None), None), Err(E::Empty)));
    assert!(matches!(draft.push(&message(Some(&long_key), value), None), Err(E::KeyTooLarge { .. })));
    assert!(matches!(draft.push(&message(None, Some(&long_value)), None), Err(E::TooLarge { bytes: 1_001, .. })));
    assert!(matches!(draft.push(&with(&many), None), Err(E::TooManyHeaders { .. })));
    assert!(matches!(draft.push(&with(&long), None), Err(E::HeadersTooLarge { .. })));
    let refused = draft.push(&message(None, value), Some(2));
    assert!(matches!(refused, Err(E::NoSuchPartition { partition: 2, partitions: 2 })));
    assert_eq!((draft.messages(), draft.bytes()), (0, 0));
    draft.push(&message(Some(b"k"), None), None).unwrap();
    draft.push(&message(None, Some(&long_value[..1_000])), Some(1)).unwrap();
    assert_eq!(draft.messages(), 2);
}

#[test]
fn a_request_has_a_bounded_number_of_messages() {
    let mut draft = draft(1, None);
    for _ in 0..MAX_MESSAGES_PER_PUBLISH {
        draft.push(&message(None, Some(b"")), None).unwrap();
    }
    assert!(matches!(draft.push(&message(None, Some(b"")), None), Err(MessageError::TooManyMessages { .. })));
}

/// A key, if any, and an explicit partition, if any.
type Plan = (Option<u8>, Option<u32>);

proptest! {
    #[test]
    fn partitions_follow_the_rules_and_order_is_kept(
        partitions in 1..9u32,
        plan in proptest::collection::vec((proptest::option::of(0..5u8), proptest::option::of(0..9u32)), 0..60),
    ) {
        let plan: Vec<Plan> = plan.into_iter().map(|(key, to)| (key, to.map(|to| to % partitions))).collect();
        let mut draft = draft(partitions, Some(Identity::Key("i".into())));
        for (at, (key, to)) in plan.iter().enumerate() {
            let (key, value) = (key.map(|key| [key]), at.to_le_bytes());
            draft.push(&message(key.as_ref().map(<[u8; 1]>::as_slice), Some(&value)), *to).unwrap();
        }
        prop_assert_eq!(draft.messages(), plan.len());
        prop_assert_eq!(draft.routes.len(), plan.len());

        let starts = |part: &Part| PartPlaces { partition: part.partition, ..PartPlaces::default() };
        let placed = draft.order.place(&draft.parts.iter().map(starts).collect::<Vec<_>>()).placed;
        let mut of_key = BTreeMap::new();
        let mut batches = BTreeMap::new();
        for Part { partition, columns, .. } in draft.parts {
            let messages = Messages::new(columns.into_record_batch()).unwrap();
            prop_assert!(batches.insert(partition, messages).is_none(), "each partition once");
        }
        for (at, ((key, to), (partition, offset))) in plan.iter().zip(&placed).enumerate() {
            let value = at.to_le_bytes();
            prop_assert_eq!(batches[partition].value(offset.0 as usize), Some(value.as_slice()));
            match (key, to) {
                (_, Some(to)) => prop_assert_eq!(partition.0, *to),
                (None, None) => prop_assert_eq!(partition.0, partitions - 1),
                (Some(key), None) => prop_assert_eq!(of_key.entry(*key).or_insert(*partition), partition),
            }
            prop_assert_eq!(draft.routes[at].partition(partitions, draft.keyless), *partition);
        }
    }
}

#[test]
fn attributes_have_limits() {
    const NOW: i64 = 1_000_000;
    let settings = Arc::new(TopicSettings::default());
    let name = TopicName::new("t").unwrap();
    let mut draft = Draft::new((name, TopicId(1)), settings, None, Partition(0), NOW);
    let mut push = |attributes| draft.push(&MessageRef { attributes, ..message(None, Some(b"v")) }, None);
    let none = Attributes::default();
    let (longest, too_long) = ("g".repeat(MAX_GROUP_BYTES), "g".repeat(MAX_GROUP_BYTES + 1));
    let at = |time| Some(NOW + time);
    for good in [
        Attributes { group: Some(&longest), ..none },
        Attributes { priority: Some(9), ..none },
        Attributes { deliver_at_ms: at(MAX_AHEAD_MS), expires_at_ms: at(MAX_AHEAD_MS), ..none },
        // Gone by: at once.
        Attributes { deliver_at_ms: Some(0), expires_at_ms: at(0), ..none },
    ] {
        push(good).unwrap();
    }
    for group in ["", &too_long] {
        let refused = push(Attributes { group: Some(group), ..none });
        assert_eq!(refused, Err(MessageError::Group { bytes: group.len(), limit: MAX_GROUP_BYTES }));
    }
    let refused = push(Attributes { priority: Some(10), ..none });
    assert_eq!(refused, Err(MessageError::Priority { priority: 10 }));
    for time_ms in [-1, NOW + MAX_AHEAD_MS + 1, i64::MAX] {
        let refused = push(Attributes { deliver_at_ms: Some(time_ms), ..none });
        assert_eq!(refused, Err(MessageError::Delay { time_ms, now_ms: NOW }));
    }
    for time_ms in [-1, NOW - 1, NOW + MAX_AHEAD_MS + 1] {
        let refused = push(Attributes { expires_at_ms: Some(time_ms), ..none });
        assert_eq!(refused, Err(MessageError::Ttl { time_ms, now_ms: NOW }));
    }
    assert_eq!(draft.messages(), 4, "what is refused is not in the draft");
}

#[test]
fn a_group_goes_before_the_key_and_ids_keep_their_rows() {
    let mut draft = draft(7, Some(Identity::Key("i".into())));
    let grouped = |group, key| {
        let attributes = Attributes { group: Some(group), ..Attributes::default() };
        MessageRef { attributes, ..message(Some(key), Some(b"v")) }
    };
    draft.push(&grouped("a", b"1"), None).unwrap();
    draft.push_once(&grouped("a", b"2"), None, Some("x")).unwrap();
    draft.push_once(&message(Some(b"a"), None), None, Some("y")).unwrap();
    draft.push_once(&grouped("a", b"2"), Some(3), Some("x")).unwrap();
    let hash = |group: &[u8]| Route::Hash(xxh3_64(group));
    assert_eq!(draft.routes, [hash(b"a"), hash(b"a"), hash(b"a"), Route::Explicit(Partition(3))]);
    let of_group = Partition((xxh3_64(b"a") % 7) as u32);
    assert_ne!(of_group, Partition(3), "or the test says nothing");
    let id = |row, id| IdRow { row, hash: IdRow::hash(id) };
    assert_eq!((draft.parts[0].partition, &*draft.parts[0].ids), (of_group, &[id(1, "x"), id(2, "y")][..]));
    assert_eq!((draft.parts[1].partition, &*draft.parts[1].ids), (Partition(3), &[id(0, "x")][..]));
    for bad in ["", &"i".repeat(MAX_DEDUPLICATION_ID_BYTES + 1)] {
        let refused = draft.push_once(&message(None, Some(b"v")), None, Some(bad));
        let (bytes, limit) = (bad.len(), MAX_DEDUPLICATION_ID_BYTES);
        assert_eq!(refused, Err(MessageError::DeduplicationId { bytes, limit }));
    }
}
