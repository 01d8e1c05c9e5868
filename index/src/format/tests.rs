//! Every stored format: round trips of arbitrary content, refusal of damage, and bytes that never change.

mod archive;
mod golden;
mod queue;
mod refused;

use std::sync::Arc;

use bytes::Bytes;
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
};

use super::*;
use crate::{
    batch::{AttributeSet, Compression},
    command::{
        BatchRef, Command, IdRow, IdempotentRequest, Identity, OwnedRows, Publish, Retention, RetentionPatch,
        SettingsPatch, TopicSettings,
    },
    ids::{Ballot, Offset, Partition, RegionNo, Sequence, TopicId, WriteId},
    keys::Slot,
    names::{ProducerId, RegionName, SubscriptionName, TopicName},
    region::{Mark, RegionRecord, RegionSet},
    state::{Regions, ShardState},
};

fn ballot() -> impl Strategy<Value = Ballot> {
    any::<(u64, u64)>().prop_map(|(round, nonce)| Ballot { round, nonce })
}

fn slot() -> impl Strategy<Value = Slot> {
    (ballot(), any::<u64>()).prop_map(|(ballot, index)| Slot { ballot, index })
}

fn head() -> impl Strategy<Value = Head> {
    let kinds = prop::sample::select(&[Kind::Commit, Kind::Install, Kind::Takeover, Kind::Floor, Kind::Snapshot]);
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

fn region_set() -> impl Strategy<Value = RegionSet> {
    btree_set(any::<u16>().prop_map(RegionNo), 1..6).prop_map(|regions| RegionSet::new(regions).unwrap())
}

fn region() -> impl Strategy<Value = RegionRecord> {
    (any::<u16>(), name(), ".{0,30}", "[0-9a-f]{32}").prop_map(|(number, name, url, region_id)| RegionRecord {
        number: RegionNo(number),
        name: RegionName::new(&name).unwrap(),
        url,
        region_id,
    })
}

fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let mark = (any::<u16>(), ballot(), any::<u64>()).prop_map(|(region, ballot, sequence)| Mark {
        region: RegionNo(region),
        ballot,
        sequence: Sequence(sequence),
    });
    vec(mark, 0..4)
}

fn snapshot_ref() -> impl Strategy<Value = SnapshotRef> {
    any::<(u128, u64)>().prop_map(|(id, sequence)| SnapshotRef { id: WriteId(id), sequence: Sequence(sequence) })
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
        attributes in (0..16u8).prop_map(AttributeSet),
        ids in vec((any::<u32>(), any::<u128>()).prop_map(|(row, hash)| IdRow { row, hash }), 0..4),
    ) -> BatchRef {
        let partition = Partition(partition);
        BatchRef {
            partition, at, len, crc, rows, payload_bytes, min_timestamp_ms, max_timestamp_ms, owned, attributes, ids,
        }
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
    let create = (name(), any::<(u32, u32, u32)>(), compression(), archive::patch());
    let create = create.prop_map(|(name, numbers, compression, retention)| {
        let (partitions, max_message_bytes, deduplication_window_ms) = numbers;
        let retention = Retention::default().patched(&retention);
        let settings = TopicSettings { partitions, max_message_bytes, compression, deduplication_window_ms, retention };
        Command::CreateTopic { name: TopicName::new(&name).unwrap(), settings }
    });
    let number = || option::of(any::<u32>());
    let alter = (topic(), number(), number(), option::of(compression()), number(), archive::patch()).prop_map(
        |(topic, partitions, max_message_bytes, compression, deduplication_window_ms, retention)| {
            let patch =
                SettingsPatch { partitions, max_message_bytes, compression, deduplication_window_ms, retention };
            Command::AlterTopic { topic, patch }
        },
    );
    prop_oneof![
        create,
        alter,
        queue::command(),
        archive::command(),
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
        region().prop_map(Command::AddRegion),
        any::<u16>().prop_map(|number| Command::RemoveRegion(RegionNo(number))),
        region_set().prop_map(Command::SetVoters),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    (any::<i64>(), vec(command(), 0..5), marks()).prop_map(|(time_ms, commands, marks)| Value {
        time_ms,
        commands,
        marks,
    })
}

fn install() -> impl Strategy<Value = Install> {
    (snapshot_ref(), region_set()).prop_map(|(snapshot, voters)| Install { snapshot, voters })
}

fn floor() -> impl Strategy<Value = Floor> {
    let extent = (any::<u64>(), ballot(), any::<u64>()).prop_map(|(first, ballot, origin)| Extent {
        first: Sequence(first),
        ballot,
        origin,
    });
    let place = (any::<u64>(), slot(), slot(), ballot(), any::<u64>());
    let leader = (name(), name(), any::<i64>()).prop_map(|(node, address, time_ms)| Leader { node, address, time_ms });
    (place, snapshot_ref(), vec(extent, 0..4), option::of(region_set()), marks(), option::of(leader)).prop_map(
        |((k, slot, parent, promised, truncated), snapshot, extents, voters, marks, leader)| Floor {
            k,
            slot,
            parent,
            promised,
            snapshot,
            extents,
            voters,
            marks,
            leader,
            truncated: Sequence(truncated),
        },
    )
}

fn region_identity() -> impl Strategy<Value = RegionIdentity> {
    let voter =
        || {
            (any::<u16>(), name(), "[0-9a-f]{32}", ".{0,30}")
                .prop_map(|(number, region, region_id, url)| FoundingRegion { number, region, region_id, url })
        };
    let lists = (vec(voter(), 0..6), vec(voter(), 0..6));
    (any::<(u128, u128, u16, i64)>(), name(), lists).prop_map(
        |((id, cluster, number, created_ms), region, (voters, founders))| RegionIdentity {
            region_id: WriteId(id).to_string(),
            cluster_id: WriteId(cluster).to_string(),
            region,
            number,
            voters,
            founders,
            format: 1,
            created_ms,
        },
    )
}

/// A state that arbitrary entries add up to, most of them made to fit.
fn state() -> impl Strategy<Value = ShardState> {
    let founders = vec(region(), 0..4).prop_map(|records| {
        Regions::founded(records.into_iter().enumerate().map(|(at, mut record)| {
            record.number = RegionNo(at as u16);
            record
        }))
    });
    (founders, vec((value(), 1..4u64), 0..12)).prop_map(|(regions, values)| {
        let mut state = ShardState::founded(regions);
        for (mut value, topic) in values {
            for command in &mut value.commands {
                fit(command, topic);
                if let Command::Trim(trim) = command
                    && let Some(topic) = state.topic(trim.topic)
                {
                    trim.retention = topic.settings.retention;
                }
            }
            state.apply(&value, state.applied.next(), 200);
        }
        state
    })
}

fn fit(command: &mut Command, id: u64) {
    match command {
        Command::CreateTopic { settings, .. } => {
            settings.partitions = 1 + settings.partitions % 3;
            settings.max_message_bytes = 1 + settings.max_message_bytes % 1000;
            settings.deduplication_window_ms %= 1 << 24;
            settings.retention.time_ms %= 1 << 40;
            settings.retention.bytes %= 1 << 50;
            settings.retention.compaction_lag_ms %= 1 << 40;
            settings.retention.tombstones_ms %= 1 << 40;
        }
        Command::AlterTopic { topic, patch } => {
            *topic = TopicId(id);
            patch.partitions = patch.partitions.map(|partitions| 1 + partitions % 5);
            patch.deduplication_window_ms = patch.deduplication_window_ms.map(|window| window % (1 << 24));
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
                batch.ids.truncate(batch.rows as usize);
                for (row, id) in (0..).zip(&mut batch.ids) {
                    *id = IdRow { row, hash: id.hash % 4 };
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
        other @ (Command::CreateQueue { .. }
        | Command::AlterQueue { .. }
        | Command::Settle(_)
        | Command::Bury { .. }
        | Command::Transact(_)
        | Command::Decide { .. }) => queue::fit(other, id),
        other @ (Command::Claim(_)
        | Command::Replace(_)
        | Command::Release(_)
        | Command::Located(_)
        | Command::Trim(_)
        | Command::Deleted(_)) => archive::fit(other, id),
        Command::AddRegion(region) => region.number.0 %= 20,
        Command::RemoveRegion(number) => number.0 %= 20,
        Command::SetVoters(voters) => {
            *voters = RegionSet::new(voters.iter().map(|region| RegionNo(region.0 % 20)).collect()).unwrap();
        }
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
    fn installs_round_trip(install in install()) {
        prop_assert_eq!(&Install::decode(&install.encode()).unwrap(), &install);
        let head = Head {
            kind: Kind::Install, id: WriteId(5), ballot: Ballot::default(), parent: Slot::default(),
            sequence: install.snapshot.sequence, committed: install.snapshot.sequence,
            section_len: 0, section_crc: 0, body_len: 0,
        };
        let record = Record::decode(&head.encode(&install.encode()).into()).unwrap();
        prop_assert_eq!(record.section, Section::Install(install));
    }

    #[test]
    fn region_identities_round_trip(identity in region_identity(), id in any::<u128>()) {
        let bytes = identity.encode(WriteId(id));
        prop_assert_eq!(&bytes[ID_RANGE], &id.to_be_bytes());
        prop_assert_eq!(RegionIdentity::decode(&bytes).unwrap(), identity);
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
        let _ = Install::decode(&bytes);
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
        number: 0,
        voters: Vec::new(),
        founders: Vec::new(),
        format: 1,
        created_ms: 5,
    };
    let bytes = identity.encode(WriteId(3));
    assert_eq!(RegionIdentity::decode(&bytes).unwrap(), identity);
    assert_eq!(&bytes[ID_RANGE], &3_u128.to_be_bytes());
    assert!(String::from_utf8_lossy(&bytes).contains("\"region\": \"eu\""), "people can read it");
    assert!(RegionIdentity::decode(b"{}").is_err());
}
