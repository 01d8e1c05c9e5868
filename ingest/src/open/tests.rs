use std::sync::Arc;

use brigade_index::{
    batch::{Attributes, MessageRef, ValueKind, decode},
    command::{Command, Identity, Outcome, Published, RequestOutcome, TopicSettings},
    format::Value,
    ids::{Offset, Sequence},
    state::ShardState,
};
use proptest::prelude::*;

use super::*;
use crate::flush::{Encoded, encode_flush};

const LINGER: Duration = Duration::from_millis(5);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A request of `rows` messages of `bytes` bytes in each of `parts`, whose values begin with its number and their row.
fn request(number: u32, topic: u64, parts: &[u32], rows: u32, bytes: usize, key: Option<&str>) -> Request<u32> {
    let parts = parts.iter().map(|partition| {
        let mut columns = Columns::default();
        for row in 0..rows {
            let mut value = [number.to_le_bytes(), row.to_le_bytes()].concat();
            value.resize(bytes.max(8), 0);
            let value = Some(value.as_slice());
            columns.push(&MessageRef {
                key: None,
                value,
                kind: ValueKind::Binary,
                headers: &[],
                timestamp_ms: 1,
                attributes: Attributes::default(),
            });
        }
        Part { partition: Partition(*partition), columns, ids: Vec::new() }
    });
    let identity = key.map(|key| IdempotentRequest {
        identity: Identity::Key(Arc::from(key)),
        partition_count: 4,
        keyless: Partition(0),
    });
    Request {
        name: TopicName::new(&format!("t{topic}")).unwrap(),
        topic: TopicId(topic),
        compression: Compression::Lz4,
        parts: parts.collect(),
        identity,
        waiting: number,
    }
}

fn small(number: u32) -> Request<u32> {
    request(number, 1, &[0], 1, 10, None)
}

#[test]
fn with_nothing_in_flight_everything_open_leaves_at_once() {
    let mut open = OpenBatches::new(LINGER, Duration::ZERO);
    assert!(open.take(ms(0)).is_none());
    open.push(small(1), ms(0));
    open.push(small(2), ms(0));
    let (flush, trigger) = open.take(ms(0)).unwrap();
    assert_eq!((trigger, flush.topics[&TopicId(1)].batched.len()), (Trigger::Idle, 2));
    assert!(open.take(ms(0)).is_none());
    assert!(!open.is_idle());
    open.finished(1);
    assert!(open.is_idle());
}

#[test]
fn with_something_in_flight_messages_gather_for_the_linger() {
    let mut open = OpenBatches::new(LINGER, Duration::ZERO);
    open.push(small(1), ms(0));
    open.take(ms(0)).unwrap();
    assert_eq!(open.deadline(), None);
    open.push(small(2), ms(1));
    open.push(small(3), ms(4));
    assert_eq!(open.deadline(), Some(ms(6)));
    assert!(open.take(ms(5)).is_none());
    let (flush, trigger) = open.take(ms(6)).unwrap();
    assert_eq!((trigger, flush.topics[&TopicId(1)].batched.len()), (Trigger::Linger, 2));
    open.push(small(4), ms(7));
    assert!(open.take(ms(7)).is_none());
    open.finished(2);
    assert_eq!(open.take(ms(7)).unwrap().1, Trigger::Idle);
}

#[test]
fn what_is_full_leaves_and_large_requests_leave_alone() {
    let mut open = OpenBatches::new(LINGER, Duration::ZERO);
    open.push(small(1), ms(0));
    open.take(ms(0)).unwrap();
    open.push(small(2), ms(0));
    open.push(request(3, 1, &[0], 5, ENTRY_TARGET_BYTES / 4, None), ms(0));
    let (first, trigger) = open.take(ms(0)).unwrap();
    assert_eq!((trigger, first.topics[&TopicId(1)].batched.len()), (Trigger::Full, 1));
    let (second, trigger) = open.take(ms(0)).unwrap();
    assert_eq!((trigger, second.topics[&TopicId(1)].batched[0].waiting), (Trigger::Full, 3));
    assert!(open.take(ms(0)).is_none());
}

#[test]
fn so_many_are_in_flight_at_most_and_the_rest_waits_in_line() {
    let mut open = OpenBatches::new(LINGER, Duration::ZERO);
    let first = MAX_FLIGHTS as u32;
    for number in 0..first + 4 {
        open.push(request(number, 1, &[0], 1, ENTRY_TARGET_BYTES, None), ms(0));
    }
    let taken = std::iter::from_fn(|| open.take(ms(100))).count();
    assert_eq!((taken, open.deadline()), (MAX_FLIGHTS, None));
    open.finished(3);
    let numbers: Vec<_> =
        std::iter::from_fn(|| open.take(ms(100))).map(|(f, _)| f.topics[&TopicId(1)].batched[0].waiting).collect();
    assert_eq!(numbers, [first, first + 1, first + 2]);
}

#[test]
fn flushes_that_are_not_full_keep_their_pace() {
    let mut open = OpenBatches::new(LINGER, ms(250));
    open.push(small(1), ms(1_000));
    assert_eq!(open.take(ms(1_000)).unwrap().1, Trigger::Idle, "the first of a quiet time leaves at once");
    open.finished(1);
    open.push(small(2), ms(1_010));
    assert!(open.take(ms(1_249)).is_none());
    assert_eq!(open.deadline(), Some(ms(1_250)));
    assert_eq!(open.take(ms(1_250)).unwrap().1, Trigger::Idle);
    open.push(small(3), ms(1_498));
    assert_eq!(open.deadline(), Some(ms(1_503)), "the linger may be later than the pace");
    open.push(request(4, 1, &[0], 1, ENTRY_TARGET_BYTES, None), ms(1_499));
    assert_eq!(open.take(ms(1_499)).unwrap().1, Trigger::Full);
    assert_eq!(open.take(ms(1_499)).unwrap().1, Trigger::Full);
    open.push(small(5), ms(1_500));
    open.drain();
    assert_eq!(open.take(ms(1_500)).unwrap().1, Trigger::Drain);
}

#[test]
fn draining_waits_for_no_linger() {
    let mut open = OpenBatches::new(LINGER, Duration::ZERO);
    open.push(small(1), ms(0));
    open.take(ms(0)).unwrap();
    open.push(small(2), ms(0));
    open.drain();
    assert_eq!(open.take(ms(0)).unwrap().1, Trigger::Drain);
}

/// What a request asks for: topic, partitions, rows, bytes of a message, and a key.
type Wish = (u64, Vec<u32>, u32, usize, Option<u8>);

fn wish() -> impl Strategy<Value = Wish> {
    let partitions = proptest::sample::subsequence(vec![0u32, 1, 2, 3], 1..4).prop_shuffle();
    (
        1..4u64,
        partitions,
        1..5u32,
        prop_oneof![20 => 8..200usize, 1 => Just(ENTRY_TARGET_BYTES / 3)],
        proptest::option::of(0..20u8),
    )
}

fn topics() -> ShardState {
    let mut state = ShardState::default();
    let settings = TopicSettings { partitions: 4, ..TopicSettings::default() };
    let create =
        |n| Command::CreateTopic { name: TopicName::new(&format!("t{n}")).unwrap(), settings: settings.clone() };
    let value = Value { time_ms: 1, commands: (1..4).map(create).collect(), marks: Vec::new() };
    state.apply(&value, Sequence(1), 0);
    state
}

/// Applies a flush and checks that every request's rows are where the outcome says, whole and in order.
fn check_flush(state: &mut ShardState, flush: Flush<u32>, wishes: &[Wish]) -> Vec<u32> {
    let (Encoded { commands, body, topics }, problem) = encode_flush(flush);
    assert!(problem.is_none());
    let body = body.concat();
    let sequence = state.applied.next();
    let value = Value { time_ms: 1, commands: commands.clone(), marks: Vec::new() };
    let (outcomes, _) = state.apply(&value, sequence, 100);
    let mut seen = Vec::new();
    for ((topic, command), outcome) in topics.iter().zip(&commands).zip(&outcomes) {
        let (Command::Publish(publish), Ok(Outcome::Published(published))) = (command, outcome) else {
            panic!("published: {outcome:?}")
        };
        let batches: Vec<_> = publish
            .batches
            .iter()
            .zip(&topic.batches)
            .map(|(batch, sent)| {
                let bytes = body[batch.at as usize..][..batch.len as usize].to_vec();
                assert_eq!((sent.at, sent.crc, &sent.bytes[..]), (batch.at, batch.crc, &bytes[..]));
                decode(&bytes.into()).unwrap()
            })
            .collect();
        for batched in &topic.batched {
            let wish = &wishes[batched.waiting as usize];
            assert_eq!((topic.topic.0, batched.spans.len()), (wish.0, wish.1.len()));
            for (span, partition) in batched.spans.iter().zip(&wish.1) {
                let batch = &publish.batches[span.batch as usize];
                assert_eq!(batch.partition.0, *partition);
                for row in 0..wish.2 {
                    let value = batches[span.batch as usize].value((span.first + row) as usize).unwrap();
                    assert_eq!(value[..8], [batched.waiting.to_le_bytes(), row.to_le_bytes()].concat());
                    check_offset(state, topic.topic, published, batched, *span, row, batch.partition);
                }
            }
            seen.push(batched.waiting);
        }
    }
    seen
}

fn check_offset(
    state: &ShardState,
    topic: TopicId,
    published: &Published,
    batched: &Batched<u32>,
    span: Span,
    row: u32,
    partition: Partition,
) {
    let stored = published.batches[span.batch as usize]
        .iter()
        .find(|run| (run.first..run.first + run.rows).contains(&(span.first + row)));
    let outcome = batched.request.map(|index| &published.requests[index as usize]);
    if let Some(RequestOutcome::Duplicate(_)) = outcome {
        assert!(stored.is_none(), "rows of a duplicate are dropped");
        return;
    }
    let stored = stored.expect("stored");
    let offset = Offset(stored.base.0 + u64::from(span.first + row - stored.first));
    if let Some(RequestOutcome::Stored(placement)) = outcome {
        let base = placement.bases.iter().find(|(at, ..)| *at == partition).unwrap();
        assert_eq!(offset, base.1.plus(u64::from(row)));
    }
    let run = state.topic(topic).unwrap().partition(partition).unwrap().runs_from(offset)[0];
    assert_eq!(u64::from(run.first_row) + offset.0 - run.base.0, u64::from(span.first + row));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_request_is_found_whole_and_in_order(
        wishes in proptest::collection::vec(wish(), 1..40),
        steps in proptest::collection::vec((0..4u8, 0..4u64), 1..80),
    ) {
        let mut open = OpenBatches::new(LINGER, Duration::ZERO);
        let (mut state, mut now, mut flying) = (topics(), ms(0), 0);
        let mut queue = wishes.iter().enumerate();
        let mut seen = Vec::new();
        let (mut pushed, mut identities) = (Vec::new(), std::collections::BTreeSet::new());
        // The given steps, and then enough of them to finish.
        for (what, amount) in steps.into_iter().chain((0..200).map(|at| (at % 3, 1))) {
            match what {
                0 => if let Some((number, (topic, parts, rows, bytes, key))) = queue.next() {
                    let key = key.filter(|key| identities.insert((*topic, *key)) || flying == 0 && open.is_idle());
                    let key = key.map(|key| key.to_string());
                    open.push(request(number as u32, *topic, parts, *rows, *bytes, key.as_deref()), now);
                    pushed.push(number as u32);
                },
                1 => {
                    while let Some((flush, _)) = open.take(now) {
                        flying += 1;
                        let bytes: usize = flush.topics.values().flat_map(|t| &t.batches).map(|b| b.columns.bytes()).sum();
                        prop_assert_eq!(flush.bytes, bytes);
                        prop_assert!(bytes <= ENTRY_TARGET_BYTES || flush.topics.values().map(|t| t.batched.len()).sum::<usize>() == 1);
                        seen.extend(check_flush(&mut state, flush, &wishes));
                    }
                }
                2 => {
                    let over = flying.min(amount as usize);
                    open.finished(over);
                    flying -= over;
                }
                _ => now += ms(amount),
            }
            prop_assert!(flying <= MAX_FLIGHTS);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, pushed);
    }
}
