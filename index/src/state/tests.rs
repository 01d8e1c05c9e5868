//! The state against a model that keeps every message: offsets, duplicates, rejections.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    batch::AttributeSet,
    command::{
        Applied, BatchRef, Command, IdRow, IdempotentRequest, Identity, Outcome, OwnedRows, Publish, Published,
        Rejection, RequestOutcome,
    },
    format::Value,
    ids::Offset,
    limits::{DEDUPLICATION_WINDOW_MS, MAX_IDEMPOTENCY_KEYS, PRODUCER_WINDOW},
    names::{ProducerId, SubscriptionName, TopicName},
};

pub(super) fn apply(state: &mut ShardState, time_ms: i64, command: Command) -> Applied {
    let value = Value { time_ms, commands: vec![command], marks: Vec::new() };
    let (mut outcomes, _) = state.apply(&value, state.applied.next(), 100);
    outcomes.pop().unwrap()
}

fn create(state: &mut ShardState, name: &str, partitions: u32) -> TopicId {
    let name = TopicName::new(name).unwrap();
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    match apply(state, 0, Command::CreateTopic { name, settings }) {
        Ok(Outcome::TopicCreated(id)) => id,
        other => panic!("{other:?}"),
    }
}

/// A request of a test: rows for each of two partitions, and whether it has an identity.
#[derive(Clone, Debug)]
struct Request {
    identity: Option<u8>,
    rows: [u32; 2],
}

fn request() -> impl Strategy<Value = Request> {
    (proptest::option::of(0..12u8), [0..4u32, 0..4u32]).prop_map(|(identity, rows)| Request { identity, rows })
}

/// One publish of several requests whose rows share the batches, as the batcher builds it.
fn publish_of(topic: TopicId, requests: &[Request]) -> Publish {
    let mut publish = Publish { topic, requests: Vec::new(), batches: Vec::new() };
    let mut owners = Vec::new();
    for request in requests {
        owners.push(request.identity.map(|number| {
            let identity = Identity::Key(Arc::from(number.to_string()));
            publish.requests.push(IdempotentRequest { identity, partition_count: 2, keyless: Partition(0) });
            (publish.requests.len() - 1) as u32
        }));
    }
    for partition in 0..2 {
        let (mut rows, mut owned) = (0, Vec::new());
        for (request, owner) in requests.iter().zip(&owners) {
            let own = request.rows[partition];
            if let Some(request) = owner.filter(|_| own > 0) {
                owned.push(OwnedRows { first: rows, rows: own, request });
            }
            rows += own;
        }
        if rows > 0 {
            let partition = Partition(partition as u32);
            let (at, len, crc, payload_bytes) = (0, 1, 0, u64::from(rows));
            let (min_timestamp_ms, max_timestamp_ms) = (0, 0);
            let (attributes, ids) = (AttributeSet::default(), Vec::new());
            publish.batches.push(BatchRef {
                partition,
                at,
                len,
                crc,
                rows,
                payload_bytes,
                min_timestamp_ms,
                max_timestamp_ms,
                owned,
                attributes,
                ids,
            });
        }
    }
    publish
}

proptest! {
    /// Every request gets dense offsets of its own, exactly once, however it is mixed with others and repeated.
    #[test]
    fn each_request_is_stored_once_and_its_offsets_never_change(
        publishes in vec(vec(request(), 1..5), 1..20),
    ) {
        let mut state = ShardState::default();
        let topic = create(&mut state, "t", 2);
        let mut next = [0_u64; 2];
        let mut known: BTreeMap<u8, Vec<(Partition, Offset, u32)>> = BTreeMap::new();
        for mut requests in publishes {
            let mut seen = Vec::new();
            requests.retain(|request| request.rows != [0, 0] && match request.identity {
                Some(identity) if seen.contains(&identity) => false,
                identity => { seen.extend(identity); true }
            });
            if requests.is_empty() { continue }
            let outcome = apply(&mut state, 0, Command::Publish(publish_of(topic, &requests)));
            let Ok(Outcome::Published(Published { batches, requests: outcomes, .. })) = outcome else {
                panic!("{outcome:?}")
            };
            // The model: fresh rows of each partition in the order of the requests.
            let mut fresh = [0_u64; 2];
            let mut outcomes = outcomes.into_iter();
            for request in &requests {
                let duplicate = request.identity.and_then(|identity| known.get(&identity));
                let bases: Vec<_> = (0..2).filter(|at| request.rows[*at] > 0).map(|at| {
                    let base = Offset(next[at] + fresh[at]);
                    if duplicate.is_none() { fresh[at] += u64::from(request.rows[at]) }
                    (Partition(at as u32), base, request.rows[at])
                }).collect();
                match (request.identity, duplicate) {
                    (None, _) => {}
                    (Some(_), Some(bases)) => match outcomes.next() {
                        Some(RequestOutcome::Duplicate(placement)) => prop_assert_eq!(&placement.bases, bases),
                        other => panic!("{other:?}"),
                    },
                    (Some(identity), None) => match outcomes.next() {
                        Some(RequestOutcome::Stored(placement)) => {
                            prop_assert_eq!(&placement.bases, &bases);
                            known.insert(identity, bases);
                        }
                        other => panic!("{other:?}"),
                    },
                }
            }
            let stored: u64 = batches.iter().flatten().map(|run| u64::from(run.rows)).sum();
            prop_assert_eq!(stored, fresh[0] + fresh[1]);
            next = [next[0] + fresh[0], next[1] + fresh[1]];
            for (log, next) in state.topic(topic).unwrap().partitions.iter().zip(next) {
                prop_assert_eq!(log.high_watermark, Offset(next));
                prop_assert!(log.runs().windows(2).all(|pair| pair[0].end() == pair[1].base), "I7");
            }
        }
    }
}

fn sequence_of(state: &mut ShardState, topic: TopicId, sequence: u64, time_ms: i64) -> RequestOutcome {
    let mut publish = publish_of(topic, &[Request { identity: Some(0), rows: [1, 0] }]);
    publish.requests[0].identity = Identity::Producer(ProducerId::new("p").unwrap(), sequence);
    match apply(state, time_ms, Command::Publish(publish)) {
        Ok(Outcome::Published(mut published)) => published.requests.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sequences_may_arrive_in_any_order_within_the_window() {
    let mut state = ShardState::default();
    let topic = create(&mut state, "t", 2);
    for sequence in [5, 3, 4, 9] {
        assert!(matches!(sequence_of(&mut state, topic, sequence, 0), RequestOutcome::Stored(_)), "{sequence}");
    }
    for sequence in [3, 4, 5, 9] {
        assert!(matches!(sequence_of(&mut state, topic, sequence, 0), RequestOutcome::Duplicate(_)), "{sequence}");
    }
    for sequence in 10..10 + PRODUCER_WINDOW as u64 {
        assert!(matches!(sequence_of(&mut state, topic, sequence, 0), RequestOutcome::Stored(_)), "{sequence}");
    }
    // 3, 4, 5 and 9 are forgotten: nobody can tell any more whether they, or 6 to 8, were stored.
    for sequence in [3, 6, 9] {
        assert_eq!(sequence_of(&mut state, topic, sequence, 0), RequestOutcome::SequenceTooOld, "{sequence}");
    }
}

#[test]
fn what_was_forgotten_stays_forgotten() {
    let mut state = ShardState::default();
    let topic = create(&mut state, "t", 2);
    for sequence in 1..=PRODUCER_WINDOW as u64 {
        sequence_of(&mut state, topic, sequence, 0);
    }
    // One publish with a sequence far ahead, which pushes 1 out, and one far behind, which is pushed out at once.
    let mut publish = publish_of(topic, &[70, 0].map(|identity| Request { identity: Some(identity), rows: [1, 0] }));
    for (request, sequence) in publish.requests.iter_mut().zip([70, 0]) {
        request.identity = Identity::Producer(ProducerId::new("p").unwrap(), sequence);
    }
    apply(&mut state, 0, Command::Publish(publish)).unwrap();
    assert_eq!(sequence_of(&mut state, topic, 1, 0), RequestOutcome::SequenceTooOld);
}

#[test]
fn old_idempotency_keys_are_forgotten_when_newer_ones_come() {
    let mut state = ShardState::default();
    let topic = create(&mut state, "t", 2);
    let one = Request { identity: Some(1), rows: [1, 0] };
    let two = Request { identity: Some(2), rows: [1, 0] };
    let outcome = |state: &mut ShardState, request: &Request, time_ms| {
        let publish = Command::Publish(publish_of(topic, std::slice::from_ref(request)));
        match apply(state, time_ms, publish) {
            Ok(Outcome::Published(mut published)) => published.requests.remove(0),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(outcome(&mut state, &one, 0), RequestOutcome::Stored(_)));
    assert!(matches!(outcome(&mut state, &one, DEDUPLICATION_WINDOW_MS), RequestOutcome::Duplicate(_)));
    assert!(matches!(outcome(&mut state, &two, DEDUPLICATION_WINDOW_MS + 1), RequestOutcome::Stored(_)));
    assert!(matches!(outcome(&mut state, &one, DEDUPLICATION_WINDOW_MS + 1), RequestOutcome::Stored(_)));
    assert!(state.topic(topic).unwrap().dedup.keys.len() <= MAX_IDEMPOTENCY_KEYS);
}

#[test]
fn rejected_commands_change_nothing() {
    let mut state = ShardState::default();
    let topic = create(&mut state, "t", 2);
    let good = publish_of(topic, &[Request { identity: Some(1), rows: [2, 1] }]);
    let mut no_partition = good.clone();
    no_partition.batches[1].partition = Partition(2);
    let mut overlapping = good.clone();
    overlapping.batches[0].owned.push(OwnedRows { first: 1, rows: 1, request: 0 });
    let mut too_many_rows = good.clone();
    too_many_rows.batches[0].owned[0].rows = 9;
    let mut twice = good.clone();
    twice.requests.push(twice.requests[0].clone());
    let mut ids_out_of_order = good.clone();
    ids_out_of_order.batches[0].ids = [1, 0].map(|row| IdRow { row, hash: 7 }).to_vec();
    let mut id_of_no_row = good.clone();
    id_of_no_row.batches[0].ids = vec![IdRow { row: 2, hash: 7 }];
    let mut unknown = good.clone();
    unknown.topic = TopicId(99);
    let name = SubscriptionName::new("s").unwrap();
    let positions = vec![(Partition(0), Offset(1))];
    let commands = [
        Command::Publish(no_partition),
        Command::Publish(overlapping),
        Command::Publish(too_many_rows),
        Command::Publish(twice),
        Command::Publish(ids_out_of_order),
        Command::Publish(id_of_no_row),
        Command::Publish(unknown),
        Command::CreateTopic { name: TopicName::new("t").unwrap(), settings: TopicSettings::default() },
        Command::CreateSubscription { topic, name: name.clone(), positions: positions.clone() },
        Command::CommitPositions { topic, name, positions: vec![(Partition(0), Offset(0))], seek: false },
        Command::DeleteTopic { topic: TopicId(99) },
    ];
    for command in commands {
        let before = state.clone();
        let outcome = apply(&mut state, 0, command.clone());
        assert!(outcome.is_err(), "{command:?}");
        state.applied = before.applied;
        assert_eq!(state, before, "{command:?}");
    }
}

#[test]
fn positions_move_forward_by_commit_and_anywhere_by_seek() {
    let mut state = ShardState::default();
    let topic = create(&mut state, "t", 2);
    apply(&mut state, 0, Command::Publish(publish_of(topic, &[Request { identity: None, rows: [3, 3] }]))).unwrap();
    let name = SubscriptionName::new("s").unwrap();
    let positions = |offset| vec![(Partition(0), Offset(offset))];
    let create = Command::CreateSubscription { topic, name: name.clone(), positions: positions(1) };
    assert_eq!(apply(&mut state, 0, create.clone()), Ok(Outcome::Positions(vec![Offset(1), Offset(0)])));
    assert_eq!(apply(&mut state, 0, create), Err(Rejection::SubscriptionExists));
    let mut commit = |offset, seek| {
        let positions = positions(offset);
        apply(&mut state, 0, Command::CommitPositions { topic, name: name.clone(), positions, seek })
    };
    assert_eq!(commit(3, false), Ok(Outcome::Positions(vec![Offset(3), Offset(0)])));
    assert_eq!(commit(2, false), Ok(Outcome::Positions(vec![Offset(3), Offset(0)])));
    assert_eq!(commit(2, true), Ok(Outcome::Positions(vec![Offset(2), Offset(0)])));
    assert!(matches!(commit(4, true), Err(Rejection::InvalidPosition { .. })));
}
