use std::{borrow::Cow, collections::BTreeMap};

use brigade_index::batch::{Messages, ValueKind};
use proptest::prelude::*;

use super::*;

fn draft(partitions: u32, identity: Option<Identity>) -> Draft {
    let settings = TopicSettings { partitions, max_message_bytes: 1_000, ..TopicSettings::default() };
    let name = TopicName::new("t").unwrap();
    Draft::new((name, TopicId(1)), Arc::new(settings), identity, Partition(partitions - 1), 5)
}

fn message<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> MessageRef<'a> {
    MessageRef { key, value, kind: ValueKind::Binary, headers: &[], timestamp_ms: 0 }
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

        let bases: Vec<_> = draft.parts.iter().map(|(partition, _)| (*partition, Default::default())).collect();
        let placed = draft.order.place(&bases);
        let mut of_key = BTreeMap::new();
        let mut batches = BTreeMap::new();
        for (partition, columns) in draft.parts {
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
