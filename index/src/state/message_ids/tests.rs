//! Publishes with deduplication ids against a model that keeps every message.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    batch::AttributeSet,
    command::{
        Command, IdRow, IdempotentRequest, Identity, Outcome, OwnedRows, Placement, Publish, Published, RequestOutcome,
        SettingsPatch, StoredRows, TopicSettings,
    },
    format::{Value, decode_snapshot, encode_snapshot},
    ids::{TopicId, WriteId},
    names::TopicName,
    state::{Known, ShardState},
};

const PARTITIONS: u32 = 3;
const WINDOW_MS: u32 = 100;

/// A request: an identity if it has one, and for each message its partition and the number of its id.
#[derive(Clone, Debug)]
struct Request {
    identity: Option<u8>,
    messages: Vec<(u32, Option<u8>)>,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let message = (0..PARTITIONS, option::weighted(0.7, 0..12u8));
    let request = (option::of(0..6u8), vec(message, 1..8));
    vec(request.prop_map(|(identity, messages)| Request { identity, messages }), 1..5)
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<Request>, i64),
    Window(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        9 => (requests(), 0..60i64).prop_map(|(requests, later)| Step::Publish(requests, later)),
        1 => prop_oneof![Just(0), Just(WINDOW_MS), Just(2 * WINDOW_MS)].prop_map(Step::Window),
    ];
    vec(step, 1..15)
}

/// One publish, as the batcher builds it: one batch a partition, the rows of a request one after the other.
fn publish_of(requests: &[Request]) -> Publish {
    let mut publish = Publish { topic: TopicId(1), requests: Vec::new(), batches: Vec::new() };
    let mut owners = Vec::new();
    for request in requests {
        owners.push(request.identity.map(|number| {
            let identity = Identity::Key(Arc::from(number.to_string()));
            publish.requests.push(IdempotentRequest { identity, partition_count: PARTITIONS, keyless: Partition(0) });
            (publish.requests.len() - 1) as u32
        }));
    }
    for partition in 0..PARTITIONS {
        let (mut rows, mut owned, mut ids) = (0, Vec::new(), Vec::new());
        for (request, owner) in requests.iter().zip(&owners) {
            let first = rows;
            for (_, id) in request.messages.iter().filter(|(to, _)| *to == partition) {
                ids.extend(id.map(|id| IdRow { row: rows, hash: IdRow::hash(&id.to_string()) }));
                rows += 1;
            }
            owned.extend(owner.filter(|_| rows > first).map(|request| OwnedRows {
                first,
                rows: rows - first,
                request,
            }));
        }
        if rows > 0 {
            publish.batches.push(BatchRef {
                partition: Partition(partition),
                at: 0,
                len: 1,
                crc: 0,
                rows,
                payload_bytes: 1,
                min_timestamp_ms: 0,
                max_timestamp_ms: 0,
                owned,
                attributes: AttributeSet::default(),
                ids,
            });
        }
    }
    publish
}

/// Where each message is, and whether it was a duplicate; by partition, then in order.
type Answer = BTreeMap<u32, Vec<(Partition, Offset, bool)>>;

#[derive(Default)]
struct Model {
    next: [u64; PARTITIONS as usize],
    /// Ids with time and place.
    ids: Vec<(u8, i64, Partition, Offset)>,
    answers: BTreeMap<u8, Answer>,
}

impl Model {
    /// What the messages of each request are answered. Requests stored before are answered as then.
    fn publish(&mut self, requests: &[Request], now_ms: i64, window_ms: u32) -> Vec<Answer> {
        self.ids.retain(|(_, time_ms, ..)| now_ms < time_ms + i64::from(window_ms));
        let known = self.answers.clone();
        let mut answers = vec![Answer::new(); requests.len()];
        for partition in 0..PARTITIONS {
            for (request, answer) in requests.iter().zip(&mut answers) {
                if request.identity.is_some_and(|identity| known.contains_key(&identity)) {
                    continue;
                }
                for (_, id) in request.messages.iter().filter(|(to, _)| *to == partition) {
                    let placed = self.place(partition, *id, now_ms, window_ms);
                    answer.entry(partition).or_default().push(placed);
                }
            }
        }
        for (request, answer) in requests.iter().zip(&mut answers) {
            let Some(identity) = request.identity else { continue };
            *answer = self.answers.entry(identity).or_insert_with(|| answer.clone()).clone();
        }
        answers
    }

    fn place(&mut self, to: u32, id: Option<u8>, now_ms: i64, window_ms: u32) -> (Partition, Offset, bool) {
        if let Some((.., partition, offset)) = self.ids.iter().find(|(known, ..)| Some(*known) == id) {
            return (*partition, *offset, true);
        }
        let next = &mut self.next[to as usize];
        let (partition, offset) = (Partition(to), Offset(*next));
        *next += 1;
        if window_ms > 0 {
            self.ids.extend(id.map(|id| (id, now_ms, partition, offset)));
        }
        (partition, offset, false)
    }
}

/// The answer that a placement stands for.
fn answer_of(placement: &Placement) -> Answer {
    let mut answer = Answer::new();
    for (partition, base, rows) in &placement.bases {
        let mut next = *base;
        let duplicates = placement.duplicates.iter().filter(|(to, _)| to == partition);
        let duplicates: Vec<_> = duplicates.map(|(_, run)| *run).collect();
        for row in 0..*rows {
            let placed = match duplicates.iter().find(|run| run.first <= row && row < run.first + run.rows) {
                Some(run) => (run.partition, run.offset.plus(u64::from(row - run.first)), true),
                None => {
                    next = next.next();
                    (*partition, Offset(next.0 - 1), false)
                }
            };
            answer.entry(partition.0).or_default().push(placed);
        }
    }
    answer
}

/// What a request without an identity finds in the outcome, by its rows in each batch.
fn answer_in(publish: &Publish, published: &Published, requests: &[Request], at: usize) -> Answer {
    let mut answer = Answer::new();
    for ((batch, stored), dropped) in publish.batches.iter().zip(&published.batches).zip(&published.duplicates) {
        let rows =
            |request: &Request| request.messages.iter().filter(|(to, _)| *to == batch.partition.0).count() as u32;
        let first: u32 = requests[..at].iter().map(rows).sum();
        let end = first + rows(&requests[at]);
        let (base, _) = StoredRows::within(stored, first, end);
        let placement = Placement {
            partition_count: PARTITIONS,
            keyless: Partition(0),
            bases: vec![(batch.partition, base.unwrap_or_default(), end - first)],
            duplicates: DuplicateRows::within(dropped, first, end).map(|run| (batch.partition, run)).collect(),
        };
        answer.extend(answer_of(&placement));
    }
    answer.retain(|_, placed| !placed.is_empty());
    answer
}

fn created(window_ms: u32) -> ShardState {
    let mut state = ShardState::default();
    let settings =
        TopicSettings { partitions: PARTITIONS, deduplication_window_ms: window_ms, ..TopicSettings::default() };
    apply(&mut state, 0, Command::CreateTopic { name: TopicName::new("t").unwrap(), settings });
    state
}

fn apply(state: &mut ShardState, time_ms: i64, command: Command) -> Outcome {
    let value = Value { time_ms, commands: vec![command], marks: Vec::new() };
    state.apply(&value, state.applied.next(), 100).0.remove(0).unwrap()
}

proptest! {
    /// However requests with and without an identity are mixed and repeated: each id is stored once within its window,
    /// every message is told its own place or its original's, and a repeated request gets its first answer. So it is
    /// too when the state was stored and read meanwhile.
    #[test]
    fn every_message_is_told_where_it_or_its_original_is(steps in steps()) {
        let mut state = created(WINDOW_MS);
        let (mut model, mut now_ms, mut window_ms) = (Model::default(), 0, WINDOW_MS);
        for step in steps {
            let (mut requests, later) = match step {
                Step::Publish(requests, later) => (requests, later),
                Step::Window(window) => {
                    window_ms = window;
                    let patch = SettingsPatch { deduplication_window_ms: Some(window), ..SettingsPatch::default() };
                    apply(&mut state, now_ms, Command::AlterTopic { topic: TopicId(1), patch });
                    model.ids.retain(|(_, time_ms, ..)| now_ms < time_ms + i64::from(window));
                    continue;
                }
            };
            let mut seen = Vec::new();
            requests.retain(|request| match request.identity {
                Some(identity) if seen.contains(&identity) => false,
                identity => { seen.extend(identity); true }
            });
            now_ms += later;
            // A repeated request repeats its messages.
            for request in &mut requests {
                let repeated = request.identity.and_then(|identity| model.answers.get(&identity));
                if let Some(answer) = repeated {
                    let rows = |(to, placed): (&u32, &Vec<_>)| vec![(*to, None); placed.len()];
                    request.messages = answer.iter().flat_map(rows).collect();
                }
            }
            let publish = publish_of(&requests);
            let expected = model.publish(&requests, now_ms, window_ms);
            let Outcome::Published(published) = apply(&mut state, now_ms, Command::Publish(publish.clone())) else {
                panic!("not a publish");
            };
            let mut outcomes = published.requests.iter();
            for (at, expected) in expected.iter().enumerate() {
                match requests[at].identity.and_then(|_| outcomes.next()) {
                    Some(RequestOutcome::Stored(placement) | RequestOutcome::Duplicate(placement)) => {
                        prop_assert_eq!(&answer_of(placement), expected);
                    }
                    Some(RequestOutcome::SequenceTooOld) => panic!("keys are never too old"),
                    None => prop_assert_eq!(&answer_in(&publish, &published, &requests, at), expected),
                }
            }
            let topic = state.topic(TopicId(1)).unwrap();
            for (log, next) in topic.partitions.iter().zip(model.next) {
                prop_assert_eq!(log.high_watermark, Offset(next));
            }
            prop_assert_eq!(topic.ids.len(), model.ids.len());
            state = decode_snapshot(&encode_snapshot(&state, WriteId(1))).unwrap();
        }
    }
}

fn publish_ids(state: &mut ShardState, time_ms: i64, ids: &[(u32, u8)]) -> Published {
    let messages = ids.iter().map(|(partition, id)| (*partition, Some(*id))).collect();
    match apply(state, time_ms, Command::Publish(publish_of(&[Request { identity: None, messages }]))) {
        Outcome::Published(published) => published,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_id_is_forgotten_when_its_window_is_over_and_not_before() {
    let mut state = created(WINDOW_MS);
    let dropped = |published: &Published| published.duplicates.iter().flatten().count();
    assert_eq!(dropped(&publish_ids(&mut state, 5, &[(0, 1)])), 0);
    let again = publish_ids(&mut state, 104, &[(2, 1)]);
    assert_eq!(again.duplicates, [[DuplicateRows { first: 0, rows: 1, partition: Partition(0), offset: Offset(0) }]]);
    assert!(again.batches[0].is_empty());
    // The duplicate did not renew it.
    assert_eq!(dropped(&publish_ids(&mut state, 105, &[(2, 1)])), 0);
    assert_eq!(state.topic(TopicId(1)).unwrap().ids.len(), 1);
}

#[test]
fn a_window_of_zero_forgets_everything() {
    let mut state = created(WINDOW_MS);
    publish_ids(&mut state, 0, &[(0, 1)]);
    let patch = SettingsPatch { deduplication_window_ms: Some(0), ..SettingsPatch::default() };
    apply(&mut state, 0, Command::AlterTopic { topic: TopicId(1), patch });
    assert!(state.topic(TopicId(1)).unwrap().ids.is_empty());
    let published = publish_ids(&mut state, 0, &[(0, 1), (0, 1)]);
    assert_eq!(published.batches, [[StoredRows { first: 0, rows: 2, base: Offset(1) }]]);
}

#[test]
fn only_the_newest_are_remembered() {
    let mut ids = MessageIds::default();
    for hash in 0..=MAX_DEDUPLICATION_IDS as u128 {
        ids.remember(7, hash, (Partition(0), Offset(hash as u64)));
    }
    assert_eq!((ids.len(), ids.look_up(0)), (MAX_DEDUPLICATION_IDS, None));
    assert_eq!(ids.look_up(1), Some((Partition(0), Offset(1))));
}

#[test]
fn the_oldest_requests_are_forgotten_when_too_many_duplicates_are_remembered() {
    use crate::{limits::MAX_REMEMBERED_DUPLICATES, names::ProducerId, state::Deduplication};
    let run = DuplicateRows { first: 0, rows: 1, partition: Partition(0), offset: Offset(0) };
    let half = vec![(Partition(0), run); MAX_REMEMBERED_DUPLICATES / 2];
    let (partition_count, keyless) = (1, Partition(0));
    let half = Arc::new(Placement { partition_count, keyless, bases: Vec::new(), duplicates: half });
    let mut dedup = Deduplication::default();
    let key = |text: &str| Identity::Key(Arc::from(text));
    let sequence = |number| Identity::Producer(ProducerId::new("p").unwrap(), number);
    [key("a"), key("b"), key("c")].iter().for_each(|identity| dedup.remember(identity, half.clone(), 0));
    assert_eq!(dedup.look_up(&key("a")), Known::New);
    assert_eq!(dedup.look_up(&key("b")), Known::Duplicate(half.clone()));
    [sequence(1), sequence(2)].iter().for_each(|identity| dedup.remember(identity, half.clone(), 1));
    assert_eq!(dedup.look_up(&key("b")), Known::New);
    // Of a producer nobody can then say that it was not stored.
    assert_eq!(dedup.look_up(&sequence(1)), Known::TooOld);
    assert_eq!(dedup.look_up(&sequence(2)), Known::Duplicate(half.clone()));
    assert_eq!(dedup.look_up(&key("c")), Known::Duplicate(half));
}
