//! The archive against a model that keeps one letter for each message: what is claimed, replaced, dropped and deleted.

mod check;
mod model;
mod promises;
mod rules;

use model::{File, Model, Part, Status, TopicModel};
use proptest::{collection::vec, prelude::*};

use crate::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    command::{
        Applied, Archived, BatchRef, Claim, ClaimPart, Command, DeadLetter, DeadReason, Located, Mode, Outcome,
        Prepare, Publish, QueueSettings, Rejection, Replace, Retention, RetentionPatch, SettingsPatch, Settle,
        SettlePartition, TopicSettings, Transact, Trim,
    },
    format::{Value, decode_snapshot, encode_snapshot},
    ids::{Ballot, FileId, Offset, Partition, RegionNo, TopicId, WriteId},
    names::{RegionName, SubscriptionName, TopicName, TransactionId},
    region::RegionRecord,
    state::{Regions, ShardState, tests::apply},
};

const PARTITIONS: u32 = 2;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        topic: u64,
        partition: u32,
        rows: u32,
    },
    /// Deletes the topic and creates another one under its name.
    Recreate {
        topic: u64,
    },
    Claim {
        parts: Vec<(u64, u32, u64, u64, bool)>,
    },
    Replace {
        claims: Vec<u64>,
        how: How,
    },
    Release {
        claim: u64,
    },
    Locate {
        region: u16,
    },
    Trim {
        topic: u64,
        partition: u32,
        to: u64,
        acknowledged: bool,
        /// By a retention that the topic has not.
        outdated: bool,
    },
    /// Changes the retention of a topic.
    Retain {
        topic: u64,
        time_ms: u64,
    },
    Deleted {
        garbage: u64,
    },
    Subscribe {
        topic: u64,
        queue: bool,
    },
    Commit {
        topic: u64,
        partition: u32,
        to: u64,
    },
    Settle {
        topic: u64,
        partition: u32,
        first: u64,
        count: u32,
        what: What,
    },
    Decide {
        commit: bool,
    },
    Restart,
}

/// What a queue does with messages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Settle,
    Dead,
    Restore,
    Hold,
}

/// How a Replace is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Whole,
    /// Every message whose bit is set is left out.
    Compacted(u64),
    /// The same, by a retention that the topic has not.
    Outdated(u64),
    /// A message is missing, and nothing says so.
    Missing,
    /// One too many.
    Surplus,
    OtherRange,
    OtherMessages,
    NoRegion,
    /// Too few regions have it, or such as are not there.
    FewRegions,
    Twice,
}

impl How {
    fn compacts(self) -> bool {
        matches!(self, Self::Compacted(_) | Self::Outdated(_))
    }
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3u64, 0..PARTITIONS);
    let claimed = (0..3u64, 0..PARTITIONS, 0..8u64, 0..6u64, prop::bool::weighted(0.1));
    let how = prop_oneof![
        8 => Just(How::Whole),
        4 => any::<u64>().prop_map(How::Compacted),
        1 => Just(How::Compacted(u64::MAX)),
        1 => any::<u64>().prop_map(How::Outdated),
        1 => Just(How::Missing),
        1 => Just(How::Surplus),
        1 => Just(How::OtherRange),
        1 => Just(How::OtherMessages),
        1 => Just(How::NoRegion),
        1 => Just(How::FewRegions),
        1 => Just(How::Twice),
    ];
    let what =
        prop_oneof![4 => Just(What::Settle), 1 => Just(What::Dead), 1 => Just(What::Restore), 1 => Just(What::Hold)];
    prop_oneof![
        10 => (place(), 1..5u32).prop_map(|((topic, partition), rows)| Step::Publish { topic, partition, rows }),
        1 => (0..3u64).prop_map(|topic| Step::Recreate { topic }),
        8 => vec(claimed, 1..4).prop_map(|parts| Step::Claim { parts }),
        8 => (vec(0..40u64, 1..4), how).prop_map(|(claims, how)| Step::Replace { claims, how }),
        2 => (0..40u64).prop_map(|claim| Step::Release { claim }),
        1 => (0..4u16).prop_map(|region| Step::Locate { region }),
        4 => (place(), 0..40u64, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|((topic, partition), to, acknowledged, outdated)| {
                Step::Trim { topic, partition, to, acknowledged, outdated }
            }),
        1 => (0..3u64, 0..4u64).prop_map(|(topic, time_ms)| Step::Retain { topic, time_ms }),
        2 => (0..40u64).prop_map(|garbage| Step::Deleted { garbage }),
        1 => (0..3u64, any::<bool>()).prop_map(|(topic, queue)| Step::Subscribe { topic, queue }),
        3 => (place(), 0..40u64).prop_map(|((topic, partition), to)| Step::Commit { topic, partition, to }),
        6 => (place(), 0..30u64, 1..6u32, what)
            .prop_map(|((topic, partition), first, count, what)| Step::Settle { topic, partition, first, count, what }),
        1 => any::<bool>().prop_map(|commit| Step::Decide { commit }),
        1 => Just(Step::Restart),
    ]
}

fn region(number: u16) -> RegionRecord {
    let (name, region_id) = (RegionName::new(&format!("r{number}")).unwrap(), WriteId(number.into()).to_string());
    RegionRecord { number: RegionNo(number), name, url: "memory:".to_owned(), region_id }
}

fn founded() -> ShardState {
    ShardState::founded(Regions::founded((0..3).map(region)))
}

/// Key compaction is allowed in the topic of that number, unless it is the last.
fn retention(number: u64) -> Retention {
    Retention { key_compaction: number < 2, ..Retention::default() }
}

fn create(number: u64) -> Command {
    let settings = TopicSettings { partitions: PARTITIONS, retention: retention(number), ..TopicSettings::default() };
    Command::CreateTopic { name: TopicName::new(&format!("t{number}")).unwrap(), settings }
}

/// Another one, which allows as much.
fn other(retention: &Retention) -> Retention {
    Retention { time_ms: retention.time_ms + 1, ..*retention }
}

fn publish(topic: TopicId, partition: u32, rows: u32) -> Command {
    let batch = BatchRef {
        partition: Partition(partition),
        at: 0,
        len: 10,
        crc: 0,
        rows,
        payload_bytes: u64::from(rows),
        min_timestamp_ms: 1,
        max_timestamp_ms: 2,
        owned: Vec::new(),
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    };
    Command::Publish(Publish { topic, requests: Vec::new(), batches: vec![batch] })
}

fn stream() -> SubscriptionName {
    SubscriptionName::new("s").unwrap()
}

fn queue() -> SubscriptionName {
    SubscriptionName::new("q").unwrap()
}

/// The state, a replica of it that is restored from snapshots now and then, and the model.
struct World {
    state: ShardState,
    replica: ShardState,
    model: Model,
    time_ms: i64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { state: founded(), replica: founded(), model: Model::default(), time_ms: 0 };
        (0..3).for_each(|number| world.recreate(number));
        world
    }

    fn apply(&mut self, command: Command) -> Applied {
        self.time_ms += 1;
        let before = self.state.clone();
        let outcome = apply(&mut self.state, self.time_ms, command.clone());
        if outcome.is_err() {
            let unchanged = ShardState { applied: self.state.applied, time_ms: self.state.time_ms, ..before };
            assert_eq!(self.state, unchanged, "what is rejected changes nothing: {command:?}");
        }
        // As every other node reads it.
        let value = Value { time_ms: self.time_ms, commands: vec![command], marks: Vec::new() };
        let value = Value::decode(&value.encode()).unwrap();
        let (replicas, _) = self.replica.apply(&value, self.replica.applied.next(), 100);
        assert_eq!(replicas, std::slice::from_ref(&outcome), "I13");
        outcome
    }

    fn recreate(&mut self, number: u64) {
        if let Some(topic) = self.model.topics.get(&number) {
            let topic = topic.id;
            let published = self.state.topic(topic).is_some_and(|topic| topic.archive_version > 0);
            if self.apply(Command::DeleteTopic { topic }).is_ok() {
                self.model.delete_topic(number, published);
            }
        }
        match self.apply(create(number)) {
            Ok(Outcome::TopicCreated(id)) => self.model.create_topic(number, id),
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, parts: &[(u64, u32, u64, u64, bool)]) {
        let part = |(topic, partition, unit, units, askew): &(u64, u32, u64, u64, bool)| {
            let (first, end) = self.model.part(*topic, *partition).span(*unit, *units);
            let (topic, partition) = (self.model.topics[topic].id, Partition(*partition));
            ClaimPart { topic, partition, first: Offset(first + u64::from(*askew)), end: Offset(end) }
        };
        let parts: Vec<_> = parts.iter().map(part).collect();
        let claim = Claim { owner: Ballot { round: 1, nonce: 2 }, parts: parts.clone() };
        let (taken, makes_sense) = (self.model.overlapping(&parts), self.model.can_be_claimed(&parts));
        match self.apply(Command::Claim(claim)) {
            Ok(Outcome::Claimed(ids)) => {
                assert!(makes_sense && taken.is_empty(), "{parts:?} overlap {taken:?}");
                assert_eq!(ids.len(), parts.len());
                ids.into_iter().zip(parts).for_each(|(id, part)| self.model.claimed(id, part));
            }
            Err(Rejection::Claimed(id)) => assert!(taken.contains(&id)),
            Err(Rejection::Malformed(_)) => assert!(!makes_sense, "{parts:?}"),
            other => panic!("{other:?}"),
        }
    }

    fn replace(&mut self, picked: &[u64], how: How) {
        let last = self.state.archive.last().0;
        let mut ids: Vec<_> = picked.iter().map(|pick| FileId(1 + pick % last.max(1))).collect();
        ids.sort_unstable();
        // In any order, for the order of offsets does not matter to who claims.
        ids.dedup();
        ids.reverse();
        let mut parts: Vec<_> = ids.iter().map(|id| self.model.archived(*id, how)).collect();
        if how == How::Twice {
            parts.push(parts[0].clone());
        }
        let expected = self.model.may_replace(&parts, how);
        match (self.apply(Command::Replace(Replace { parts: parts.clone() })), expected) {
            (Ok(Outcome::Done), Ok(())) => self.model.replaced(&parts),
            (Err(Rejection::ClaimLost(id)), Err(_)) => {
                assert!(!matches!(self.model.ids.get(&id), Some(Status::Claimed(_))));
            }
            (Err(Rejection::RetentionChanged), Err(lost)) => assert!(!lost && matches!(how, How::Outdated(_))),
            (Err(Rejection::Malformed(_)), Err(lost)) => assert!(!lost, "a claim is lost: {parts:?}"),
            (outcome, expected) => panic!("{outcome:?} but {expected:?} for {parts:?}"),
        }
    }

    fn trim(&mut self, (topic, partition): (u64, u32), to: u64, acknowledged: bool, outdated: bool) {
        let TopicModel { id, retention, .. } = self.model.topics[&topic];
        let trim = Trim { topic: id, partition: Partition(partition), to: Offset(to), acknowledged, retention };
        if outdated {
            let trim = Trim { retention: other(&retention), ..trim };
            return assert_eq!(self.apply(Command::Trim(trim)), Err(Rejection::RetentionChanged));
        }
        let wanted = self.model.trimmed(topic, partition, to, acknowledged);
        assert_eq!(self.apply(Command::Trim(trim)), Ok(Outcome::Trimmed(Offset(wanted))));
    }

    fn settle(&mut self, (topic, partition): (u64, u32), (first, count): (u64, u32), what: What) {
        let (Some(known), high_watermark) =
            (self.model.topics[&topic].queue, self.model.part(topic, partition).high_watermark)
        else {
            return;
        };
        if first + u64::from(count) > high_watermark {
            return;
        }
        let mut part = SettlePartition::new(Partition(partition));
        let letter = DeadLetter { reason: DeadReason::Rejected, deliveries: 1, first_ms: 1, time_ms: 2 };
        match what {
            What::Settle | What::Hold => part.settled = vec![(Offset(first), count)],
            What::Dead => part.dead = vec![(Offset(first), letter)],
            What::Restore => part.restored = vec![Offset(first)],
        }
        let topic_id = self.model.topics[&topic].id;
        let settle = Settle { topic: topic_id, name: queue(), subscription: known, partitions: vec![part] };
        if what != What::Hold {
            assert_eq!(self.apply(Command::Settle(settle)), Ok(Outcome::Done));
            return self.model.settle((topic, partition), (first, count), what);
        }
        let id = TransactionId::new(&format!("tx-{}", self.time_ms)).unwrap();
        let mode = Mode::Prepare(Prepare { expires_ms: 1_000, check_back: None });
        let transact = Transact { id: id.clone(), publishes: Vec::new(), settles: vec![settle], mode };
        let open = self.model.is_open((topic, partition), (first, count));
        let outcome = self.apply(Command::Transact(transact));
        assert_eq!(outcome.is_ok(), open, "{outcome:?}");
        if open {
            self.model.hold((topic, partition), (first, count), id);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { topic, partition, rows } => {
                self.apply(publish(self.model.topics[topic].id, *partition, *rows)).unwrap();
                self.model.published(*topic, *partition, u64::from(*rows), self.state.applied);
            }
            Step::Recreate { topic } => self.recreate(*topic),
            Step::Claim { parts } => self.claim(parts),
            Step::Replace { claims, how } => self.replace(claims, *how),
            Step::Release { claim } => {
                let id = FileId(1 + claim % self.state.archive.last().0.max(1));
                assert_eq!(self.apply(Command::Release(vec![id])), Ok(Outcome::Done));
                self.model.give_up(|other, _| other == id);
            }
            Step::Locate { region } => {
                let files = self.model.referenced();
                let located = Located { region: RegionNo(*region), files };
                assert_eq!(self.apply(Command::Located(located)).is_ok(), *region < 3);
                if *region < 3 {
                    self.model.located(*region);
                }
            }
            Step::Trim { topic, partition, to, acknowledged, outdated } => {
                self.trim((*topic, *partition), *to, *acknowledged, *outdated);
            }
            Step::Retain { topic, time_ms } => {
                let known = self.model.topics.get_mut(topic).unwrap();
                known.retention.time_ms = *time_ms;
                let retention = RetentionPatch { time_ms: Some(*time_ms), ..RetentionPatch::default() };
                let patch = SettingsPatch { retention, ..SettingsPatch::default() };
                let alter = Command::AlterTopic { topic: known.id, patch };
                assert_eq!(self.apply(alter), Ok(Outcome::Done));
            }
            Step::Deleted { garbage } => {
                let id = FileId(1 + garbage % self.state.archive.last().0.max(1));
                assert_eq!(self.apply(Command::Deleted(vec![id])), Ok(Outcome::Done));
                self.model.deleted(id);
            }
            Step::Subscribe { topic, queue } => self.subscribe(*topic, *queue),
            Step::Commit { topic, partition, to } => self.commit((*topic, *partition), *to),
            Step::Settle { topic, partition, first, count, what } => {
                self.settle((*topic, *partition), (*first, *count), *what);
            }
            Step::Decide { commit } => {
                if let Some(id) = self.model.waiting.keys().next().cloned() {
                    assert!(self.apply(Command::Decide { id: id.clone(), commit: *commit }).is_ok());
                    self.model.decided(&id, *commit);
                }
            }
            Step::Restart => self.replica = decode_snapshot(&encode_snapshot(&self.replica, WriteId(1))).unwrap(),
        }
    }

    fn subscribe(&mut self, number: u64, is_queue: bool) {
        let topic = self.model.topics[&number].id;
        let positions = Vec::new();
        let created = if is_queue {
            let (settings, secret) = (QueueSettings::default(), [7; 32]);
            self.apply(Command::CreateQueue { topic, name: queue(), settings, secret, positions })
        } else {
            self.apply(Command::CreateSubscription { topic, name: stream(), positions })
        };
        match created {
            Ok(Outcome::QueueCreated(id)) => self.model.subscribed(number, Some(id)),
            Ok(Outcome::Positions(_)) => self.model.subscribed(number, None),
            Err(Rejection::SubscriptionExists) => {}
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, (number, partition): (u64, u32), to: u64) {
        let topic = self.model.topics[&number].id;
        let high_watermark = self.model.part(number, partition).high_watermark;
        let to = to.min(high_watermark);
        let positions = vec![(Partition(partition), Offset(to))];
        let commit = Command::CommitPositions { topic, name: stream(), positions, seek: false };
        let wanted = self.model.committed(number, partition, to);
        match (self.apply(commit), wanted) {
            (Ok(Outcome::Positions(positions)), Some(at)) => {
                assert_eq!(positions[partition as usize], Offset(at));
            }
            (Err(Rejection::SubscriptionNotFound), None) => {}
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_archive_is_what_its_messages_add_up_to(steps in vec(step(), 0..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.model.check(&world.state);
        }
        let bytes = encode_snapshot(&world.state, WriteId(1));
        prop_assert!(bytes == encode_snapshot(&world.replica, WriteId(1)), "I13: the same state has the same bytes");
        prop_assert_eq!(decode_snapshot(&bytes).unwrap(), world.state);
    }
}
