//! Transactions against a model that says which of them have happened: each is seen whole or not at all (I17).

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    batch::AttributeSet,
    command::{
        Applied, BatchRef, Command, DeadLetter, DeadReason, IdempotentRequest, Identity, Mode, Outcome, OwnedRows,
        Placement, QueueSettings, Rejection, SettingsPatch, SettlePartition, TopicSettings, Transact,
    },
    format::{decode_snapshot, encode_snapshot},
    ids::{Offset, Partition, SubscriptionId, WriteId},
    limits::{MAX_DECIDED_PLACES, MAX_PREPARED_MS},
    names::{SubscriptionName, TopicName},
    state::{ShardState, tests::apply},
};

/// Where bodies begin in the entries of these tests.
const BODY_AT: u64 = 100;

fn id(number: u8) -> TransactionId {
    TransactionId::new(&format!("t{number}")).unwrap()
}

fn queue_name() -> SubscriptionName {
    SubscriptionName::new("q").unwrap()
}

fn create_topic(state: &mut ShardState, name: &str) -> TopicId {
    let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
    match apply(state, 0, Command::CreateTopic { name: TopicName::new(name).unwrap(), settings }) {
        Ok(Outcome::TopicCreated(id)) => id,
        other => panic!("{other:?}"),
    }
}

fn create_queue(state: &mut ShardState, topic: TopicId) -> SubscriptionId {
    let settings = QueueSettings::default();
    let create = Command::CreateQueue { topic, name: queue_name(), settings, secret: [7; 32], positions: Vec::new() };
    match apply(state, 0, create) {
        Ok(Outcome::QueueCreated(id)) => id,
        other => panic!("{other:?}"),
    }
}

/// A publish whose one request owns every row, or with another partition than there is.
fn publish(topic: TopicId, rows: [u32; 2], key: &str) -> Publish {
    let batch = |(partition, rows): (u32, u32)| BatchRef {
        partition: Partition(partition),
        at: u64::from(10 * partition),
        len: 10,
        crc: 0,
        rows,
        payload_bytes: u64::from(rows),
        min_timestamp_ms: 0,
        max_timestamp_ms: 0,
        owned: vec![OwnedRows { first: 0, rows, request: 0 }],
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    };
    let identity = Identity::Key(key.into());
    Publish {
        topic,
        requests: vec![IdempotentRequest { identity, partition_count: 2, keyless: Partition(0) }],
        batches: (0..).zip(rows).filter(|(_, rows)| *rows > 0).map(batch).collect(),
    }
}

fn settle(topic: TopicId, subscription: SubscriptionId, offsets: &BTreeSet<u64>) -> Settle {
    let settled = offsets.iter().map(|offset| (Offset(*offset), 1)).collect();
    let part = SettlePartition { settled, ..SettlePartition::new(Partition(0)) };
    Settle { topic, name: queue_name(), subscription, partitions: vec![part] }
}

/// What is wrong with a transaction besides the messages that it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Topic,
    Partition,
    Subscription,
    Behind,
    Unowned,
    TopicTwice,
    PreparedDead,
    TooLong,
}

#[derive(Clone, Debug)]
enum Step {
    Publish([u32; 2]),
    Transact { id: u8, rows: [[u32; 2]; 2], acks: BTreeSet<u64>, prepare: bool, flaw: Option<Flaw> },
    Decide(u8, bool),
    Settle(BTreeSet<u64>),
    Seek(u64),
    Grow,
    DeleteTarget,
    RecreateQueue,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let flaws = prop::sample::select(&[
        Flaw::Topic,
        Flaw::Partition,
        Flaw::Subscription,
        Flaw::Behind,
        Flaw::Unowned,
        Flaw::TopicTwice,
        Flaw::PreparedDead,
        Flaw::TooLong,
    ]);
    let acks = || prop::collection::btree_set(0..12u64, 0..3);
    let rows = [[0..3u32, 0..3u32], [0..3u32, 0..3u32]];
    let transact = (0..6u8, rows, acks(), any::<bool>(), prop::option::weighted(0.2, flaws))
        .prop_map(|(id, rows, acks, prepare, flaw)| Step::Transact { id, rows, acks, prepare, flaw });
    prop_oneof![
        3 => [0..4u32, 0..4u32].prop_map(Step::Publish),
        12 => transact,
        6 => (0..6u8, any::<bool>()).prop_map(|(id, commit)| Step::Decide(id, commit)),
        2 => acks().prop_map(Step::Settle),
        1 => (0..12u64).prop_map(Step::Seek),
        1 => Just(Step::Grow),
        1 => Just(Step::DeleteTarget),
        1 => Just(Step::RecreateQueue),
        1 => Just(Step::Snapshot),
    ]
}

/// A transaction as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    sequence: Sequence,
    rows: [[u32; 2]; 2],
    acks: BTreeSet<u64>,
    topics: [TopicId; 2],
    subscription: SubscriptionId,
    fate: Option<bool>,
    answer: Option<Fate>,
}

/// Two topics, a queue on the first partition of the first.
struct World {
    state: ShardState,
    topics: [TopicId; 2],
    subscription: SubscriptionId,
    settled: BTreeSet<u64>,
    held: BTreeSet<u64>,
    known: BTreeMap<u8, Known>,
}

impl World {
    fn new() -> Self {
        let mut state = ShardState::default();
        let topics = [create_topic(&mut state, "a"), create_topic(&mut state, "b")];
        let subscription = create_queue(&mut state, topics[0]);
        let (settled, held, known) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { state, topics, subscription, settled, held, known }
    }

    fn apply(&mut self, command: Command) -> Applied {
        apply(&mut self.state, 0, command)
    }

    fn end(&self) -> u64 {
        self.state.topic(self.topics[0]).unwrap().partitions[0].high_watermark.0
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(rows) => {
                for topic in self.topics {
                    // A client's key that reads like a transaction's is another one.
                    let mut publish = publish(topic, *rows, "");
                    publish.requests.clear();
                    publish.batches.iter_mut().for_each(|batch| batch.owned.clear());
                    self.apply(Command::Publish(publish)).unwrap();
                }
            }
            Step::Transact { id, rows, acks, prepare, flaw } => self.transact(*id, *rows, acks, *prepare, *flaw),
            Step::Decide(id, commit) => self.decide(*id, *commit),
            Step::Settle(offsets) if offsets.iter().all(|offset| *offset < self.end()) => {
                self.apply(Command::Settle(settle(self.topics[0], self.subscription, offsets))).unwrap();
                self.settle(offsets);
            }
            Step::Seek(offset) if *offset <= self.end() => {
                let (topic, positions) = (self.topics[0], vec![(Partition(0), Offset(*offset))]);
                self.apply(Command::CommitPositions { topic, name: queue_name(), positions, seek: true }).unwrap();
                self.settled = (0..*offset).collect();
                self.held.retain(|held| held >= offset);
            }
            Step::Settle(_) | Step::Seek(_) => {}
            Step::Grow => {
                let partitions = Some(self.state.topic(self.topics[1]).unwrap().settings.partitions + 1);
                let patch = SettingsPatch { partitions, ..SettingsPatch::default() };
                self.apply(Command::AlterTopic { topic: self.topics[1], patch }).unwrap();
            }
            Step::DeleteTarget => {
                let topic = self.topics[1];
                let waits = |known: &Known| known.fate.is_none() && known.topics[1] == topic && known.rows[1] != [0, 0];
                match self.apply(Command::DeleteTopic { topic }) {
                    Err(Rejection::TransactionPending(_)) => assert!(self.known.values().any(waits)),
                    other => {
                        assert!(other.is_ok() && !self.known.values().any(waits), "{other:?}");
                        self.topics[1] = create_topic(&mut self.state, "b");
                    }
                }
            }
            Step::RecreateQueue => {
                self.apply(Command::DeleteSubscription { topic: self.topics[0], name: queue_name() }).unwrap();
                self.subscription = create_queue(&mut self.state, self.topics[0]);
                self.settled.clear();
                self.held.clear();
            }
            Step::Snapshot => {
                let read = decode_snapshot(&encode_snapshot(&self.state, WriteId(1))).unwrap();
                assert_eq!(read, self.state);
                self.state = read;
            }
        }
    }

    fn settle(&mut self, offsets: &BTreeSet<u64>) {
        self.settled.extend(offsets);
        self.held.retain(|held| !offsets.contains(held));
    }

    fn command(&self, number: u8, rows: [[u32; 2]; 2], acks: &BTreeSet<u64>, prepare: bool) -> Transact {
        let parts = self.topics.iter().zip(rows).filter(|(_, rows)| *rows != [0, 0]);
        let publishes = parts.map(|(topic, rows)| publish(*topic, rows, "transaction key")).collect();
        let settles = if acks.is_empty() { vec![] } else { vec![settle(self.topics[0], self.subscription, acks)] };
        let mode = if prepare { Mode::Prepare(Prepare { expires_ms: 1, check_back: None }) } else { Mode::Commit };
        Transact { id: id(number), publishes, settles, mode }
    }

    fn transact(&mut self, number: u8, rows: [[u32; 2]; 2], acks: &BTreeSet<u64>, prepare: bool, flaw: Option<Flaw>) {
        let mut transact = self.command(number, rows, acks, prepare);
        let flawed = flaw.is_some_and(|flaw| spoil(&mut transact, flaw));
        let outcome = self.apply(Command::Transact(transact));
        if let Some(known) = self.known.get(&number) {
            // Repeated, with whatever content: the first answer.
            let first = known.answer.clone().unwrap_or(Fate::Prepared);
            assert_eq!(outcome, Ok(Outcome::Transaction(first)));
            return;
        }
        let open = |offset: &u64| *offset < self.end() && !self.settled.contains(offset) && !self.held.contains(offset);
        if flawed || !acks.iter().all(open) {
            outcome.unwrap_err();
            return;
        }
        let known = Known {
            sequence: self.state.applied,
            rows,
            acks: acks.clone(),
            topics: self.topics,
            subscription: self.subscription,
            fate: None,
            answer: None,
        };
        self.known.insert(number, known);
        if prepare {
            assert_eq!(outcome, Ok(Outcome::Transaction(Fate::Prepared)));
            self.held.extend(acks);
        } else {
            self.decided(number, true, outcome);
        }
    }

    fn decide(&mut self, number: u8, commit: bool) {
        let outcome = self.apply(Command::Decide { id: id(number), commit });
        let Some(known) = self.known.get(&number) else {
            assert_eq!(outcome, Err(Rejection::TransactionNotFound));
            return;
        };
        match (known.fate, known.answer.clone()) {
            (Some(before), Some(answer)) if before == commit => assert_eq!(outcome, Ok(Outcome::Transaction(answer))),
            (Some(_), Some(answer)) => assert_eq!(outcome, Err(Rejection::TransactionDecided(answer))),
            _ => {
                let held = known.acks.clone();
                if known.subscription == self.subscription {
                    self.held.retain(|offset| !held.contains(offset));
                }
                self.decided(number, commit, outcome);
            }
        }
    }

    fn decided(&mut self, number: u8, commit: bool, outcome: Applied) {
        let Ok(Outcome::Transaction(fate)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(commit, matches!(fate, Fate::Committed(_)));
        let known = self.known.get_mut(&number).unwrap();
        (known.fate, known.answer) = (Some(commit), Some(fate));
        if commit && known.subscription == self.subscription {
            let acks = known.acks.clone();
            self.settle(&acks);
        }
    }

    /// What readers see, and what the queue holds back.
    fn check(&self) {
        for known in self.known.values() {
            for ((topic, rows), part) in known.topics.iter().zip(known.rows).zip(0..) {
                // Its messages went with the topic.
                let Some(topic) = self.state.topic(*topic) else { continue };
                for (partition, rows) in rows.into_iter().enumerate() {
                    let runs = topic.partitions[partition].runs();
                    let seen: Vec<_> = runs.iter().filter(|run| run.batch.sequence == known.sequence).collect();
                    let wanted = if known.fate == Some(true) { rows } else { 0 };
                    assert_eq!(seen.iter().map(|run| run.rows).sum::<u32>(), wanted, "I17: part {part} of {known:?}");
                    let place = BODY_AT + 10 * partition as u64;
                    assert!(seen.iter().all(|run| run.batch.at == place && run.first_row == 0));
                    if let (Some(Fate::Committed(placed)), Some(run)) = (&known.answer, seen.first()) {
                        let (_, placement): &(_, std::sync::Arc<Placement>) =
                            placed.iter().find(|(id, _)| *id == topic.id).unwrap();
                        assert!(placement.bases.contains(&(Partition(partition as u32), run.base, rows)));
                    }
                }
            }
            let kept = self.state.bodies().any(|body| body == known.sequence);
            let waits = known.fate.is_none() && known.rows != [[0; 2]; 2];
            assert!(kept || !waits, "the body of a transaction that waits is needed: {known:?}");
        }
        assert!(self.state == self.state.recounted(), "what is kept up to date is what there is");
        let queue = self.state.topic(self.topics[0]).unwrap().subscriptions[&queue_name()].queue().unwrap();
        let part = queue.partition(Partition(0)).unwrap();
        for offset in 0..self.end() {
            let (settled, held) = (self.settled.contains(&offset), self.held.contains(&offset));
            assert_eq!(part.is_settled(Offset(offset)), settled, "{offset}");
            assert_eq!(part.is_open(Offset(offset)), !settled && !held, "{offset}");
        }
    }
}

/// Makes a transaction one that must be refused; says whether it could.
fn spoil(transact: &mut Transact, flaw: Flaw) -> bool {
    let last = transact.publishes.last_mut();
    let part = transact.settles.last_mut().map(|settle| &mut settle.partitions[0]);
    match (flaw, last, part, &mut transact.mode) {
        (Flaw::Topic, Some(publish), ..) => publish.topic = TopicId(999),
        (Flaw::Partition, Some(publish), ..) => publish.batches[0].partition = Partition(999),
        (Flaw::Unowned, Some(publish), ..) => publish.batches[0].owned.clear(),
        (Flaw::TopicTwice, Some(publish), ..) => {
            let twice = publish.clone();
            transact.publishes.push(twice);
        }
        (Flaw::Subscription, _, Some(_), _) => transact.settles[0].subscription = SubscriptionId(999),
        (Flaw::Behind, _, Some(part), _) => part.settled.push((Offset(1 << 40), 1)),
        (Flaw::PreparedDead, _, Some(part), Mode::Prepare(_)) => {
            let letter = DeadLetter { reason: DeadReason::Expired, deliveries: 1, first_ms: 0, time_ms: 0 };
            part.dead.push((Offset(0), letter));
        }
        (Flaw::TooLong, .., Mode::Prepare(prepare)) => prepare.expires_ms = MAX_PREPARED_MS + 1,
        _ => return false,
    }
    true
}

proptest! {
    #[test]
    fn a_transaction_is_seen_whole_or_not_at_all(steps in vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.state.clone();
            world.step(step);
            world.check();
            if let Step::Transact { flaw: Some(_), .. } = step && world.state.transactions == before.transactions {
                // Nothing but the number of entries has changed.
                let unchanged = ShardState { applied: world.state.applied, ..before };
                prop_assert_eq!(&world.state, &unchanged);
            }
        }
    }
}

#[test]
fn what_was_decided_is_forgotten_after_a_day_and_by_places() {
    let fate = |places: usize| {
        let bases = vec![(Partition(0), Offset(0), 1); places];
        let placement = Placement { partition_count: 1, keyless: Partition(0), bases, duplicates: Vec::new() };
        Fate::Committed(vec![(TopicId(1), placement.into())])
    };
    let mut transactions = Transactions::default();
    transactions.decide(id(0), fate(1), 0);
    transactions.decide(id(1), Fate::RolledBack, DEDUPLICATION_WINDOW_MS);
    assert!(transactions.fate(&id(0)).is_some());
    transactions.decide(id(2), fate(MAX_DECIDED_PLACES / 2), DEDUPLICATION_WINDOW_MS + 1);
    assert!(transactions.fate(&id(0)).is_none() && transactions.fate(&id(1)).is_some());
    transactions.decide(id(3), fate(MAX_DECIDED_PLACES / 2), DEDUPLICATION_WINDOW_MS + 1);
    let left: Vec<_> = (0..4).map(|number| transactions.fate(&id(number)).is_some()).collect();
    assert_eq!(left, [false, false, false, true]);
    assert_eq!(transactions.places, MAX_DECIDED_PLACES / 2 + 1);
}
