//! Every stored format: round trips of arbitrary content, refusal of damage, and bytes that never change.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    batch::Compression,
    command::{BatchRef, Command, IdempotentRequest, Identity, OwnedRows, Publish, SettingsPatch, TopicSettings},
    ids::{Ballot, Offset, Partition, Sequence, TopicId, WriteId},
    keys::Slot,
    names::{ProducerId, SubscriptionName, TopicName},
    state::ShardState,
};

fn ballot() -> impl Strategy<Value = Ballot> {
    any::<(u64, u64)>().prop_map(|(round, nonce)| Ballot { round, nonce })
}

fn slot() -> impl Strategy<Value = Slot> {
    (ballot(), any::<u64>()).prop_map(|(ballot, index)| Slot { ballot, index })
}

fn head() -> impl Strategy<Value = Head> {
    let kinds = prop_oneof![Just(Kind::Commit), Just(Kind::Takeover), Just(Kind::Floor), Just(Kind::Snapshot)];
    (kinds, any::<(u128, u64, u64, u64)>(), ballot(), slot()).prop_map(
        |(kind, (id, n, c, body_len), ballot, parent)| {
            let (sequence, committed) = (Sequence(n), Sequence(c));
            Head {
                kind,
                id: WriteId(id),
                ballot,
                parent,
                sequence,
                committed,
                section_len: 0,
                section_crc: 0,
                body_len,
            }
        },
    )
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9._-]{0,12}"
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

fn positions() -> impl Strategy<Value = Vec<(Partition, Offset)>> {
    vec(any::<(u32, u64)>().prop_map(|(partition, offset)| (Partition(partition), Offset(offset))), 0..4)
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        (name(), any::<u64>()).prop_map(|(id, n)| Identity::Producer(ProducerId::new(&id).unwrap(), n)),
        ".{1,20}".prop_map(|key| Identity::Key(Arc::from(key))),
    ]
}

prop_compose! {
    fn batch()(
        (partition, at, len, crc, rows) in any::<(u32, u64, u32, u32, u32)>(),
        (payload_bytes, min_timestamp_ms, max_timestamp_ms) in any::<(u64, i64, i64)>(),
        owned in vec(any::<(u32, u32, u32)>().prop_map(|(first, rows, request)| OwnedRows { first, rows, request }), 0..3),
    ) -> BatchRef {
        let partition = Partition(partition);
        BatchRef { partition, at, len, crc, rows, payload_bytes, min_timestamp_ms, max_timestamp_ms, owned }
    }
}

fn publish() -> impl Strategy<Value = Publish> {
    let request = (identity(), any::<(u32, u32)>()).prop_map(|(identity, (partition_count, keyless))| {
        IdempotentRequest { identity, partition_count, keyless: Partition(keyless) }
    });
    (any::<u64>(), vec(request, 0..3), vec(batch(), 0..3)).prop_map(|(topic, requests, batches)| Publish {
        topic: TopicId(topic),
        requests,
        batches,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let topic = || any::<u64>().prop_map(TopicId);
    let subscription = || name().prop_map(|name| SubscriptionName::new(&name).unwrap());
    let create = (name(), any::<(u32, u32)>(), compression()).prop_map(|(name, (partitions, bytes), compression)| {
        let settings = TopicSettings { partitions, max_message_bytes: bytes, compression };
        Command::CreateTopic { name: TopicName::new(&name).unwrap(), settings }
    });
    let alter = (topic(), option::of(any::<u32>()), option::of(any::<u32>()), option::of(compression())).prop_map(
        |(topic, partitions, max_message_bytes, compression)| Command::AlterTopic {
            topic,
            patch: SettingsPatch { partitions, max_message_bytes, compression },
        },
    );
    prop_oneof![
        create,
        alter,
        topic().prop_map(|topic| Command::DeleteTopic { topic }),
        publish().prop_map(Command::Publish),
        (topic(), subscription(), positions()).prop_map(|(topic, name, positions)| Command::CreateSubscription {
            topic,
            name,
            positions
        }),
        (topic(), subscription()).prop_map(|(topic, name)| Command::DeleteSubscription { topic, name }),
        (topic(), subscription(), positions(), any::<bool>())
            .prop_map(|(topic, name, positions, seek)| Command::CommitPositions { topic, name, positions, seek }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    (any::<i64>(), vec(command(), 0..5)).prop_map(|(time_ms, commands)| Value { time_ms, commands })
}

fn floor() -> impl Strategy<Value = Floor> {
    let reign = (ballot(), any::<u64>()).prop_map(|(ballot, origin)| ReignStart { ballot, origin });
    (any::<(u64, u128, u64)>(), slot(), slot(), ballot(), vec(reign, 0..4)).prop_map(
        |((k, id, sequence), slot, parent, promised, reigns)| {
            let snapshot = SnapshotRef { id: WriteId(id), sequence: Sequence(sequence) };
            Floor { k, slot, parent, promised, snapshot, reigns }
        },
    )
}

/// A state that arbitrary entries add up to, most of them made to fit.
fn state() -> impl Strategy<Value = ShardState> {
    vec((value(), 1..4u64), 0..12).prop_map(|values| {
        let mut state = ShardState::default();
        for (mut value, topic) in values {
            for command in &mut value.commands {
                fit(command, topic);
            }
            state.apply(&value, Ballot { round: topic, nonce: 9 }, state.applied.next(), 200);
        }
        state
    })
}

fn fit(command: &mut Command, id: u64) {
    match command {
        Command::CreateTopic { settings, .. } => {
            settings.partitions = 1 + settings.partitions % 3;
            settings.max_message_bytes = 1 + settings.max_message_bytes % 1000;
        }
        Command::AlterTopic { topic, patch } => {
            *topic = TopicId(id);
            patch.partitions = patch.partitions.map(|partitions| 1 + partitions % 5);
        }
        Command::Publish(publish) => {
            publish.topic = TopicId(id);
            for batch in &mut publish.batches {
                batch.partition = Partition(batch.partition.0 % 3);
                batch.rows = 1 + batch.rows % 10;
                batch.payload_bytes %= 1000;
                let requests = publish.requests.len() as u32;
                batch.owned.truncate(usize::from(requests > 0));
                for owned in &mut batch.owned {
                    *owned = OwnedRows { first: 0, rows: 1, request: owned.request % requests };
                }
            }
        }
        Command::DeleteTopic { topic } => *topic = TopicId(topic.0 % 10),
        Command::CreateSubscription { topic, positions, .. } | Command::CommitPositions { topic, positions, .. } => {
            *topic = TopicId(id);
            positions.iter_mut().for_each(|(partition, offset)| {
                (*partition, *offset) = (Partition(partition.0 % 3), Offset(offset.0 % 5));
            });
        }
        Command::DeleteSubscription { topic, .. } => *topic = TopicId(id),
    }
}

proptest! {
    #[test]
    fn heads_round_trip(head in head(), section in vec(any::<u8>(), 0..60)) {
        let bytes = head.clone().encode(&section);
        let decoded = Head::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.section(&bytes).unwrap(), &section);
        prop_assert_eq!(&bytes[ID_RANGE], &head.id.0.to_be_bytes());
        prop_assert_eq!(Head { section_len: 0, section_crc: 0, ..decoded }, head);
    }

    #[test]
    fn values_round_trip(value in value()) {
        prop_assert_eq!(Value::decode(&value.encode()).unwrap(), value);
    }

    #[test]
    fn floors_round_trip(floor in floor()) {
        prop_assert_eq!(Floor::decode(&floor.encode(WriteId(1))).unwrap(), floor);
    }

    #[test]
    fn snapshots_round_trip(state in state()) {
        prop_assert_eq!(decode_snapshot(&encode_snapshot(&state, WriteId(1))).unwrap(), state);
    }

    /// Whatever one flipped byte or cut does to an object, it is refused: nothing passes as data (bytes of the body are
    /// covered by the checksums of the batches).
    #[test]
    fn damage_is_refused(value in value(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<bool>()) {
        let head = Head {
            kind: Kind::Commit, id: WriteId(5), ballot: Ballot::default(), parent: Slot::default(),
            sequence: Sequence(1), committed: Sequence(0), section_len: 0, section_crc: 0, body_len: 0,
        };
        let mut bytes = head.encode(&value.encode());
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        prop_assert!(Record::decode(&bytes.into()).is_err());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Value::decode(&bytes);
        let _ = SnapshotRef::decode(&bytes);
        let _ = Floor::decode(&bytes);
        let _ = RegionIdentity::decode(&bytes);
        let _ = decode_snapshot(&bytes);
        let _ = Record::decode(&Bytes::from(bytes.clone()));
        // With a good head, so that the section's parser is reached.
        for kind in [Kind::Commit, Kind::Install, Kind::Takeover, Kind::Floor, Kind::Snapshot] {
            let head = Head {
                kind, id: WriteId(5), ballot: Ballot::default(), parent: Slot::default(),
                sequence: Sequence(1), committed: Sequence(0), section_len: 0, section_crc: 0, body_len: 0,
            };
            let object = Bytes::from(head.encode(&bytes));
            let _ = Record::decode(&object);
            let _ = Floor::decode(&object);
            let _ = decode_snapshot(&object);
        }
    }
}

#[test]
fn a_region_identity_round_trips_and_is_readable() {
    let identity = RegionIdentity {
        region_id: WriteId(3).to_string(),
        cluster_id: "c".to_owned(),
        region: "eu".to_owned(),
        format: 1,
        created_ms: 5,
    };
    let bytes = identity.encode(WriteId(3));
    assert_eq!(RegionIdentity::decode(&bytes).unwrap(), identity);
    assert_eq!(&bytes[ID_RANGE], &3_u128.to_be_bytes());
    assert!(RegionIdentity::decode(b"{}").is_err());
}

/// Objects as version 1 wrote them. These files are never edited: a newer program must still read them.
#[test]
fn golden_objects_still_decode() {
    let takeover = Bytes::from_static(include_bytes!("../../test-data/v1/takeover"));
    let Section::Takeover(leader) = Record::decode(&takeover).unwrap().section else { panic!("no takeover") };
    assert_eq!((leader.node.as_str(), leader.address.as_str(), leader.time_ms), ("node-a", "http://a:7070", 17));
    let commit = Bytes::from_static(include_bytes!("../../test-data/v1/commit"));
    let record = Record::decode(&commit).unwrap();
    assert_eq!((record.head.sequence, record.head.committed, record.head.body_len), (Sequence(7), Sequence(6), 4));
    assert_eq!(record.section, Section::Commit(golden_value()));
    let floor = Floor::decode(include_bytes!("../../test-data/v1/floor")).unwrap();
    assert_eq!((floor.k, floor.slot.index, floor.snapshot.sequence), (2, 7, Sequence(7)));
    let snapshot = decode_snapshot(include_bytes!("../../test-data/v1/snapshot")).unwrap();
    assert_eq!(snapshot, golden_state());
}

fn golden_value() -> Value {
    let name = TopicName::new("orders").unwrap();
    let batch = BatchRef {
        partition: Partition(0),
        at: 0,
        len: 4,
        crc: checksum(b"body"),
        rows: 3,
        payload_bytes: 30,
        min_timestamp_ms: -5,
        max_timestamp_ms: 99,
        owned: vec![OwnedRows { first: 1, rows: 2, request: 0 }],
    };
    let identity = Identity::Producer(ProducerId::new("till-7").unwrap(), 41);
    let request = IdempotentRequest { identity, partition_count: 2, keyless: Partition(0) };
    let publish = Publish { topic: TopicId(1), requests: vec![request], batches: vec![batch] };
    let subscription = SubscriptionName::new("billing").unwrap();
    let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
    let positions = vec![(Partition(0), Offset(2))];
    Value {
        time_ms: 1_700_000_000_000,
        commands: vec![
            Command::CreateTopic { name, settings },
            Command::Publish(publish),
            Command::CreateSubscription { topic: TopicId(1), name: subscription, positions },
        ],
    }
}

fn golden_state() -> ShardState {
    let mut state = ShardState::default();
    state.apply(&golden_value(), Ballot { round: 3, nonce: 4 }, Sequence(1), 300);
    state
}

/// What is written today is what version 1 wrote, to the byte. A format that must differ is a new version, with golden
/// objects of its own.
#[test]
fn golden_objects_are_still_written_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/test-data/v1/");
    let check = |name: &str, bytes: &[u8]| {
        let golden = std::fs::read(format!("{folder}{name}")).unwrap();
        assert!(golden == bytes, "{name} is written otherwise than before");
    };
    let (ballot, parent) = (Ballot { round: 3, nonce: 4 }, Slot { ballot: Ballot { round: 2, nonce: 1 }, index: 8 });
    let leader = Leader { node: "node-a".to_owned(), address: "http://a:7070".to_owned(), time_ms: 17 };
    check("takeover", &leader.takeover(ballot, parent, WriteId(10)));
    let head = Head {
        kind: Kind::Commit,
        id: WriteId(11),
        ballot,
        parent,
        sequence: Sequence(7),
        committed: Sequence(6),
        section_len: 0,
        section_crc: 0,
        body_len: 4,
    };
    let mut commit = head.encode(&golden_value().encode());
    commit.extend_from_slice(b"body");
    check("commit", &commit);
    let snapshot = SnapshotRef { id: WriteId(12), sequence: Sequence(7) };
    let reigns = vec![ReignStart { ballot, origin: 1 }];
    let floor = Floor { k: 2, slot: Slot { ballot, index: 7 }, parent, promised: ballot, snapshot, reigns };
    check("floor", &floor.encode(WriteId(13)));
    check("snapshot", &encode_snapshot(&golden_state(), WriteId(14)));
}
