//! Objects whose bytes never change.
//!
//! Fields for clusters of several regions were added to version 1 before its first release, without a new version:
//! a protobuf reader skips tags it does not know, and a missing field decodes to what it meant when nobody wrote it.
//! Hence three kinds of golden objects:
//! - `takeover` and `commit`: read, and written today as ever;
//! - `floor`, `snapshot` and `identity`: from before that, hence only read. Today more is written;
//! - `install` and those that end in `-regions`: written and read since then;
//! - those that end in `-queues`: queue subscriptions and transactions, which were added in the same way.
//! - those that end in `-attributes`: likewise, since messages have attributes and deduplication ids.
//! - those that end in `-archive`: likewise, since there are archive files and retention.
//!
//! No file is ever edited. What must be written differently once more gets a new file beside the old one.

use std::collections::BTreeSet;

use super::*;
use crate::{
    archive::{ArchiveFile, SetHash},
    command::{
        Archived, CheckBack, Claim, ClaimPart, DeadLetter, DeadReason, Expired, Fairness, Located, Mode, Prepare,
        PushSettings, QueuePatch, QueueSettings, Replace, Retry, Settle, SettlePartition, Transact, Trim,
    },
    ids::{FileId, SubscriptionId},
    names::TransactionId,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/test-data/v1/");
const BALLOT: Ballot = Ballot { round: 3, nonce: 4 };
const PARENT: Slot = Slot { ballot: Ballot { round: 2, nonce: 1 }, index: 8 };

fn golden(name: &str) -> Bytes {
    std::fs::read(format!("{FOLDER}{name}")).unwrap().into()
}

fn set(regions: &[u16]) -> RegionSet {
    RegionSet::new(regions.iter().copied().map(RegionNo).collect()).unwrap()
}

fn mark(region: u16, sequence: u64) -> Mark {
    Mark { region: RegionNo(region), ballot: BALLOT, sequence: Sequence(sequence) }
}

fn record(number: u16, name: &str) -> RegionRecord {
    RegionRecord {
        number: RegionNo(number),
        name: RegionName::new(name).unwrap(),
        url: format!("s3://brigade-{name}/orders"),
        region_id: WriteId(100 + u128::from(number)).to_string(),
    }
}

fn founders() -> [RegionRecord; 3] {
    [record(0, "eu-central"), record(1, "eu-north"), record(2, "eu-west")]
}

fn value() -> Value {
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
        attributes: AttributeSet::default(),
        ids: Vec::new(),
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
        marks: Vec::new(),
    }
}

/// A region takes the place of another: both changes of the set of regions, and how far each had come.
fn regions_value() -> Value {
    Value {
        time_ms: 1_700_000_000_500,
        commands: vec![
            Command::AddRegion(record(3, "us-east")),
            Command::SetVoters(set(&[0, 1, 3])),
            Command::RemoveRegion(RegionNo(300)),
        ],
        marks: vec![mark(0, 8), mark(1, 7), mark(3, 0)],
    }
}

fn settle(settled: &[(u64, u32)]) -> Settle {
    let settled = settled.iter().map(|(first, count)| (Offset(*first), *count)).collect();
    Settle {
        topic: TopicId(1),
        name: SubscriptionName::new("ship").unwrap(),
        subscription: SubscriptionId(1),
        partitions: vec![SettlePartition { settled, ..SettlePartition::new(Partition(0)) }],
    }
}

/// Two messages of one request.
fn batch() -> BatchRef {
    BatchRef {
        partition: Partition(1),
        at: 0,
        len: 4,
        crc: checksum(b"body"),
        rows: 2,
        payload_bytes: 20,
        min_timestamp_ms: 5,
        max_timestamp_ms: 6,
        owned: vec![OwnedRows { first: 0, rows: 2, request: 0 }],
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    }
}

/// A transaction that publishes two messages.
fn transact(id: &str, settles: Vec<Settle>, mode: Mode) -> Command {
    let identity = Identity::Key("transaction ID".into());
    let request = IdempotentRequest { identity, partition_count: 2, keyless: Partition(1) };
    let publishes = vec![Publish { topic: TopicId(1), requests: vec![request], batches: vec![batch()] }];
    Command::Transact(Transact { id: TransactionId::new(id).unwrap(), publishes, settles, mode })
}

/// After [`value`]: a queue, messages settled in every way, transactions in every state.
fn queues_value() -> Value {
    let name = || SubscriptionName::new("ship").unwrap();
    let push = PushSettings {
        url: "https://shop.example/ship".to_owned(),
        secret: "whsec_c2VjcmV0".to_owned(),
        timeout_ms: 5_000,
        max_in_flight: 8,
        max_per_second: 100,
        backoff_min_ms: 500,
        backoff_max_ms: 60_000,
    };
    let settings = QueueSettings {
        max_deliveries: 5,
        ordered: true,
        fairness: Fairness::Header("shop".to_owned()),
        expired: Expired::DeadLetter,
        filter: Some("type = \"order\"".to_owned()),
        push: Some(push),
        ..QueueSettings::default()
    };
    let patch = QueuePatch { retry_delay_ms: Some(250), filter: Some(None), ..QueuePatch::default() };
    let mut settled = settle(&[(0, 1)]);
    let part = &mut settled.partitions[0];
    part.retries = vec![(Offset(1), Retry { deliveries: 2, first_ms: 1_700_000_000_100, not_before_ms: 0 })];
    let letter = |reason| DeadLetter { reason, deliveries: 5, first_ms: 1_700_000_000_100, time_ms: 1_700_000_000_900 };
    part.dead = vec![(Offset(2), letter(DeadReason::MaxDeliveries)), (Offset(4), letter(DeadReason::Rejected))];
    let mut given_back = settle(&[]);
    (given_back.partitions[0].restored, given_back.partitions[0].purged) = (vec![Offset(4)], vec![Offset(9)]);
    let check_back = Some(CheckBack { url: "https://shop.example/check".to_owned(), every_ms: 5_000 });
    let prepare = |check_back| Mode::Prepare(Prepare { expires_ms: 1_700_000_060_000, check_back });
    let decide = |id: &str, commit| Command::Decide { id: TransactionId::new(id).unwrap(), commit };
    let rest = BatchRef { partition: Partition(0), at: 4, rows: 3, owned: Vec::new(), ..batch() };
    let three_more = Publish { topic: TopicId(1), requests: Vec::new(), batches: vec![rest] };
    Value {
        time_ms: 1_700_000_001_000,
        commands: vec![
            Command::Publish(three_more),
            Command::CreateQueue { topic: TopicId(1), name: name(), settings, secret: [9; 32], positions: Vec::new() },
            Command::AlterQueue { topic: TopicId(1), name: name(), patch },
            Command::Settle(settled),
            Command::Settle(given_back),
            transact("tx-committed", vec![settle(&[(3, 1)])], Mode::Commit),
            transact("tx-prepared", vec![settle(&[(4, 1)])], prepare(check_back)),
            transact("tx-decided", Vec::new(), prepare(None)),
            transact("tx-undone", Vec::new(), prepare(None)),
            decide("tx-decided", true),
            decide("tx-undone", false),
        ],
        marks: Vec::new(),
    }
}

fn queues_state() -> ShardState {
    let mut state = state();
    let (outcomes, _) = state.apply(&queues_value(), Sequence(2), 300);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    state
}

fn state() -> ShardState {
    let mut state = ShardState::default();
    state.apply(&value(), Sequence(1), 300);
    state
}

fn regions_state() -> ShardState {
    let mut state = ShardState::founded(Regions::founded(founders()));
    state.apply(&value(), Sequence(1), 300);
    state.apply(&regions_value(), Sequence(2), 300);
    state
}

/// A topic of its own window, and a batch with attributes in which one of two ids is known.
fn attributes_value() -> Value {
    let batch = |at, partition| BatchRef {
        partition: Partition(partition),
        at,
        len: 4,
        crc: checksum(b"body"),
        rows: 3,
        payload_bytes: 30,
        min_timestamp_ms: 7,
        max_timestamp_ms: 9,
        owned: vec![OwnedRows { first: 0, rows: 3, request: 0 }],
        attributes: AttributeSet::GROUP.union(AttributeSet::EXPIRY),
        ids: vec![
            IdRow { row: 0, hash: IdRow::hash(&format!("order-{partition}")) },
            IdRow { row: 2, hash: IdRow::hash("order-7") },
        ],
    };
    let identity = Identity::Key(Arc::from("till-7/41"));
    let request = IdempotentRequest { identity, partition_count: 2, keyless: Partition(0) };
    let publish = Publish { topic: TopicId(1), requests: vec![request], batches: vec![batch(0, 1), batch(4, 0)] };
    let name = TopicName::new("jobs").unwrap();
    let settings = TopicSettings { deduplication_window_ms: 60_000, ..TopicSettings::default() };
    let patch = SettingsPatch { deduplication_window_ms: Some(0), ..SettingsPatch::default() };
    Value {
        time_ms: 1_700_000_000_700,
        commands: vec![
            Command::Publish(publish),
            Command::CreateTopic { name, settings },
            Command::AlterTopic { topic: TopicId(2), patch },
        ],
        marks: Vec::new(),
    }
}

fn attributes_state() -> ShardState {
    let mut state = state();
    state.apply(&attributes_value(), Sequence(2), 300);
    state
}

fn archive_file() -> ArchiveFile {
    ArchiveFile {
        id: FileId(1),
        first: Offset(0),
        end: Offset(3),
        rows: 3,
        bytes: 2_048,
        payload_bytes: 30,
        crc: 0x1234_5678,
        set_hash: SetHash(1 << 100 | 7),
        min_timestamp_ms: -5,
        max_timestamp_ms: 99,
        attributes: AttributeSet::EXPIRY,
        oldest_tombstone_ms: Some(40),
        merges: 1,
        compacted: true,
        regions: vec![RegionNo(0), RegionNo(1)],
    }
}

/// After [`value`]: retention, an archive file, a claim, garbage, and a log start behind messages that were dropped.
fn archive_value() -> Value {
    let retention = Retention {
        time_ms: 604_800_000,
        bytes: 10 << 30,
        after_ack: true,
        key_compaction: true,
        compaction_lag_ms: 60_000,
        tombstones_ms: 3_600_000,
    };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    // That of the topic as it is altered.
    let hour = Retention { time_ms: 3_600_000, key_compaction: true, ..Retention::default() };
    let trim = |to, acknowledged| {
        let to = Offset(to);
        Command::Trim(Trim { topic: TopicId(1), partition: Partition(0), to, acknowledged, retention: hour })
    };
    let (time_ms, bytes, key_compaction) = (Some(3_600_000), Some(0), Some(true));
    let patch = RetentionPatch { time_ms, bytes, key_compaction, ..RetentionPatch::default() };
    let patch = SettingsPatch { retention: patch, ..SettingsPatch::default() };
    let more = |partition| BatchRef { partition: Partition(partition), owned: Vec::new(), ..batch() };
    let more = Publish { topic: TopicId(1), requests: Vec::new(), batches: vec![more(0), more(1)] };
    let part = |partition, first, end| {
        let (partition, first, end) = (Partition(partition), Offset(first), Offset(end));
        ClaimPart { topic: TopicId(1), partition, first, end }
    };
    let archived = Archived { id: FileId(1), file: Some(archive_file()), compacted: Some(hour) };
    let files = vec![(TopicId(1), Partition(0), FileId(1))];
    Value {
        time_ms: 1_700_000_000_800,
        commands: vec![
            Command::CreateTopic { name: TopicName::new("cars").unwrap(), settings },
            Command::AlterTopic { topic: TopicId(1), patch },
            Command::Claim(Claim { owner: BALLOT, parts: vec![part(0, 0, 3)] }),
            Command::Replace(Replace { parts: vec![archived] }),
            Command::Publish(more),
            Command::Claim(Claim { owner: BALLOT, parts: vec![part(0, 3, 5), part(1, 0, 2)] }),
            Command::Release(vec![FileId(2)]),
            Command::Located(Located { region: RegionNo(2), files }),
            trim(1, false),
            trim(5, true),
            Command::Deleted(vec![FileId(9)]),
        ],
        marks: Vec::new(),
    }
}

fn archive_state() -> ShardState {
    let mut state = ShardState::founded(Regions::founded(founders()));
    state.apply(&value(), Sequence(1), 300);
    let (outcomes, _) = state.apply(&archive_value(), Sequence(2), 300);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    state
}

fn leader() -> Leader {
    Leader { node: "node-a".to_owned(), address: "http://a:7070".to_owned(), time_ms: 17 }
}

fn head(kind: Kind, id: u128, (sequence, committed): (u64, u64), body_len: u64) -> Head {
    Head {
        kind,
        id: WriteId(id),
        ballot: BALLOT,
        parent: PARENT,
        sequence: Sequence(sequence),
        committed: Sequence(committed),
        section_len: 0,
        section_crc: 0,
        body_len,
    }
}

/// The mark as it is read from an object of before regions were counted.
fn floor() -> Floor {
    Floor {
        k: 2,
        slot: Slot { ballot: BALLOT, index: 7 },
        parent: PARENT,
        promised: BALLOT,
        snapshot: SnapshotRef { id: WriteId(12), sequence: Sequence(7) },
        extents: vec![Extent { first: Sequence(1), ballot: BALLOT, origin: 1 }],
        voters: None,
        marks: Vec::new(),
        leader: None,
        truncated: Sequence(0),
    }
}

fn regions_floor() -> Floor {
    let copies = Extent { first: Sequence(1), ballot: Ballot::BOOTSTRAP, origin: 0 };
    let extent = Extent { first: Sequence(5), ballot: BALLOT, origin: 4 };
    let (voters, marks) = (Some(set(&[0, 1, 3])), vec![mark(0, 7), mark(1, 7)]);
    Floor { extents: vec![copies, extent], voters, marks, ..floor() }
}

fn install() -> Install {
    Install { snapshot: SnapshotRef { id: WriteId(14), sequence: Sequence(7) }, voters: set(&[0, 1, 3]) }
}

fn identity() -> RegionIdentity {
    RegionIdentity {
        region_id: WriteId(100).to_string(),
        cluster_id: WriteId(99).to_string(),
        region: "eu-central".to_owned(),
        number: 0,
        voters: Vec::new(),
        founders: Vec::new(),
        format: 1,
        created_ms: 1_700_000_000_000,
    }
}

fn regions_identity() -> RegionIdentity {
    let voter = |record: &RegionRecord| FoundingRegion {
        number: record.number.0,
        region: record.name.to_string(),
        region_id: record.region_id.clone(),
        url: record.url.clone(),
    };
    let (region_id, region) = (WriteId(101).to_string(), "eu-north".to_owned());
    RegionIdentity { region_id, region, number: 1, voters: founders().iter().map(voter).collect(), ..identity() }
}

#[test]
fn objects_of_the_journal_still_decode() {
    let takeover = Record::decode(&golden("takeover")).unwrap();
    assert_eq!(takeover.section, Section::Takeover(leader()));
    let commit = Record::decode(&golden("commit")).unwrap();
    assert_eq!((commit.head.sequence, commit.head.committed, commit.head.body_len), (Sequence(7), Sequence(6), 4));
    assert_eq!(commit.section, Section::Commit(value()));
    let commit = Record::decode(&golden("commit-regions")).unwrap();
    assert_eq!((commit.head.sequence, commit.head.committed, commit.head.body_len), (Sequence(9), Sequence(8), 0));
    assert_eq!(commit.section, Section::Commit(regions_value()));
    let commit = Record::decode(&golden("commit-queues")).unwrap();
    assert_eq!((commit.head.sequence, commit.head.committed, commit.head.body_len), (Sequence(9), Sequence(8), 0));
    assert_eq!(commit.section, Section::Commit(queues_value()));
    let commit = Record::decode(&golden("commit-attributes")).unwrap();
    assert_eq!(commit.section, Section::Commit(attributes_value()));
    let commit = Record::decode(&golden("commit-archive")).unwrap();
    assert_eq!(commit.section, Section::Commit(archive_value()));
    let install = Record::decode(&golden("install")).unwrap();
    assert_eq!((install.head.kind, install.head.sequence), (Kind::Install, Sequence(7)));
    assert_eq!(install.section, Section::Install(self::install()));
}

/// The state as a snapshot from before there was an archive gives it: nothing has waited for that yet.
fn unwaited(mut state: ShardState) -> ShardState {
    state.forget_waiting();
    state
}

#[test]
fn objects_outside_the_path_still_decode() {
    assert_eq!(Floor::decode(&golden("floor")).unwrap(), floor());
    assert_eq!(Floor::decode(&golden("floor-regions")).unwrap(), regions_floor());
    // Its ballots are passed over, and it knows no regions.
    assert_eq!(decode_snapshot(&golden("snapshot")).unwrap(), unwaited(state()));
    let queues = decode_snapshot(&golden("snapshot-queues")).unwrap();
    assert_eq!(queues, unwaited(queues_state()));
    assert_eq!((queues.transactions.prepared().len(), queues.topic(TopicId(1)).unwrap().subscriptions.len()), (1, 2));
    let regions = decode_snapshot(&golden("snapshot-regions")).unwrap();
    assert_eq!(regions, unwaited(regions_state()));
    assert_eq!(regions.regions.voters(), Some(&set(&[0, 1, 3])));
    let numbers: Vec<_> = regions.regions.iter().map(|record| record.number.0).collect();
    assert_eq!((numbers, regions.regions.next_number()), (vec![0, 1, 3], RegionNo(4)));
    let attributes = decode_snapshot(&golden("snapshot-attributes")).unwrap();
    assert_eq!(attributes, unwaited(attributes_state()));
    let known = attributes.topic(TopicId(1)).unwrap().ids.look_up(IdRow::hash("order-7"));
    assert_eq!(known, Some((Partition(1), Offset(2))));
    let archive = decode_snapshot(&golden("snapshot-archive")).unwrap();
    assert_eq!(archive, archive_state());
    let log = &archive.topic(TopicId(1)).unwrap().partitions[0];
    assert_eq!((log.log_start, log.archived_end(), log.high_watermark), (Offset(2), Offset(3), Offset(5)));
    assert_eq!(log.files()[0].regions, [0, 1, 2].map(RegionNo));
    assert!(archive.archive.claims().keys().eq([&FileId(3)]) && archive.archive.garbage().keys().eq([&FileId(2)]));
    assert_eq!(RegionIdentity::decode(&golden("identity")).unwrap(), identity());
    assert_eq!(RegionIdentity::decode(&golden("identity-regions")).unwrap(), regions_identity());
}

#[test]
fn objects_are_still_written_alike() {
    let check = |name: &str, bytes: &[u8]| assert!(golden(name) == bytes, "{name} is written otherwise than before");
    check("takeover", &leader().takeover(BALLOT, PARENT, WriteId(10)));
    let mut commit = head(Kind::Commit, 11, (7, 6), 4).encode(&value().encode());
    commit.extend_from_slice(b"body");
    check("commit", &commit);
    check("commit-regions", &head(Kind::Commit, 15, (9, 8), 0).encode(&regions_value().encode()));
    let mut commit = head(Kind::Commit, 17, (9, 8), 8).encode(&attributes_value().encode());
    commit.extend_from_slice(b"bodybody");
    check("commit-attributes", &commit);
    check("snapshot-attributes", &encode_snapshot(&unwaited(attributes_state()), WriteId(18)));
    check("install", &head(Kind::Install, 16, (7, 7), 0).encode(&install().encode()));
    check("floor-regions", &regions_floor().encode(WriteId(13)));
    check("snapshot-regions", &encode_snapshot(&unwaited(regions_state()), WriteId(14)));
    check("commit-queues", &head(Kind::Commit, 17, (9, 8), 0).encode(&queues_value().encode()));
    check("snapshot-queues", &encode_snapshot(&unwaited(queues_state()), WriteId(18)));
    check("commit-archive", &head(Kind::Commit, 17, (9, 8), 0).encode(&archive_value().encode()));
    check("snapshot-archive", &encode_snapshot(&archive_state(), WriteId(18)));
    check("identity-regions", &regions_identity().encode(WriteId(101)));
}

/// So that no file is left behind that nothing checks.
#[test]
fn every_golden_object_is_known() {
    let known = [
        "takeover",
        "commit",
        "commit-regions",
        "commit-queues",
        "commit-attributes",
        "commit-archive",
        "install",
        "floor",
        "floor-regions",
        "snapshot",
        "snapshot-regions",
        "snapshot-queues",
        "snapshot-attributes",
        "snapshot-archive",
        "identity",
        "identity-regions",
        // Checked where batches are.
        "batch",
        "batch-attributes",
        // And where archive files are.
        "archive.parquet",
    ];
    let found = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(found.collect::<BTreeSet<_>>(), known.map(str::to_owned).into());
}
