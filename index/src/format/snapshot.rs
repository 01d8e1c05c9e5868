//! Snapshots of a shard's state.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use roaring::RoaringTreemap;

use super::{
    archive::{StoredArchive, StoredFile, archive_from, file_from, store_archive},
    command::{StoredIdentity, StoredRegion, StoredRegionSet, StoredSettings, attributes_from, region_number},
    frame::{FrameError, Head, Kind as ObjectKind},
    placement::{StoredBase, StoredDuplicates, bases_from, duplicates_from, store_bases, store_duplicates},
    queue::{StoredDead, StoredQueueSettings, StoredRetry, secret_from},
    remembered::StoredMessageIds,
    transaction::{StoredDecided, StoredPrepared, store_transactions, transactions_from},
};
use crate::{
    archive::ArchiveFile,
    command::{Identity, Placement},
    ids::{Ballot, Offset, Partition, Sequence, SubscriptionId, TopicId, WriteId},
    keys::Slot,
    names::{ProducerId, SubscriptionName, TopicName, TransactionId},
    region::{RegionRecord, RegionSet},
    state::{
        self, BatchLocation, Deduplication, FileTotals, Kind, MessageIds, PartitionLog, ProducerWindow, Queue,
        QueuePartition, Regions, RememberedKey, Run, ShardState, Subscription, Topic,
    },
};

#[derive(Clone, PartialEq, Message)]
struct StoredRun {
    #[prost(uint32, tag = "1")]
    first_row: u32,
    #[prost(uint32, tag = "2")]
    rows: u32,
    // Tag 3 was the index of a ballot; an entry is found by its sequence alone.
    #[prost(uint64, tag = "4")]
    sequence: u64,
    #[prost(uint64, tag = "5")]
    at: u64,
    #[prost(uint32, tag = "6")]
    len: u32,
    #[prost(fixed32, tag = "7")]
    crc: u32,
    #[prost(sint64, tag = "8")]
    min_timestamp_ms: i64,
    /// Relative to the smallest.
    #[prost(sint64, tag = "9")]
    timestamp_span_ms: i64,
    #[prost(uint32, tag = "10")]
    attributes: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPartition {
    #[prost(uint64, tag = "1")]
    log_start: u64,
    #[prost(uint64, tag = "2")]
    high_watermark: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    /// Offset of the first run; each further one begins where its predecessor ends.
    #[prost(uint64, tag = "4")]
    first: u64,
    #[prost(message, repeated, tag = "5")]
    runs: Vec<StoredRun>,
    #[prost(uint32, tag = "6")]
    attributes: u32,
    #[prost(message, repeated, tag = "7")]
    files: Vec<StoredFile>,
    /// For how long runs had waited to be archived when the snapshot was taken; one that says nothing of it is from before
    /// there was an archive.
    #[prost(sint64, tag = "8")]
    waited_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPlacement {
    #[prost(message, required, tag = "1")]
    identity: StoredIdentity,
    #[prost(sint64, tag = "2")]
    time_ms: i64,
    #[prost(uint32, tag = "3")]
    partition_count: u32,
    #[prost(uint32, tag = "4")]
    keyless: u32,
    #[prost(message, repeated, tag = "5")]
    bases: Vec<StoredBase>,
    #[prost(message, repeated, tag = "6")]
    duplicates: Vec<StoredDuplicates>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredProducer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(sint64, tag = "2")]
    last_ms: i64,
    #[prost(uint64, tag = "3")]
    forgotten_below: u64,
    #[prost(message, repeated, tag = "4")]
    recent: Vec<StoredPlacement>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSubscription {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    created_ms: i64,
    #[prost(uint64, repeated, tag = "3")]
    positions: Vec<u64>,
    /// Present when it is a queue.
    #[prost(message, optional, tag = "4")]
    queue: Option<StoredQueue>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredQueue {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, required, tag = "2")]
    settings: StoredQueueSettings,
    #[prost(bytes = "vec", tag = "3")]
    secret: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    partitions: Vec<StoredQueuePartition>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredQueuePartition {
    #[prost(uint64, tag = "1")]
    floor: u64,
    /// What is settled behind the floor, in the portable format of roaring bitmaps; empty when nothing is.
    #[prost(bytes = "vec", tag = "2")]
    settled: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    retries: Vec<StoredRetry>,
    #[prost(message, repeated, tag = "4")]
    dead: Vec<StoredDead>,
    #[prost(message, repeated, tag = "5")]
    held: Vec<StoredHeld>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredHeld {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(string, tag = "2")]
    transaction: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTopic {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(sint64, tag = "3")]
    created_ms: i64,
    #[prost(message, required, tag = "4")]
    settings: StoredSettings,
    #[prost(message, repeated, tag = "5")]
    partitions: Vec<StoredPartition>,
    #[prost(message, repeated, tag = "6")]
    producers: Vec<StoredProducer>,
    /// Idempotency keys, oldest first.
    #[prost(message, repeated, tag = "7")]
    keys: Vec<StoredPlacement>,
    #[prost(message, repeated, tag = "8")]
    subscriptions: Vec<StoredSubscription>,
    #[prost(message, optional, tag = "9")]
    ids: Option<StoredMessageIds>,
    #[prost(uint64, tag = "10")]
    archive_version: u64,
    #[prost(sint64, tag = "11")]
    archive_changed_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredState {
    #[prost(sint64, tag = "1")]
    time_ms: i64,
    #[prost(uint64, tag = "2")]
    next_topic: u64,
    // Tag 3 held ballots.
    #[prost(message, repeated, tag = "4")]
    topics: Vec<StoredTopic>,
    /// Regions: all, those that vote, and the number of the next.
    #[prost(message, repeated, tag = "5")]
    regions: Vec<StoredRegion>,
    #[prost(message, optional, tag = "6")]
    voters: Option<StoredRegionSet>,
    #[prost(uint32, tag = "7")]
    next_region: u32,
    #[prost(uint64, tag = "8")]
    next_subscription: u64,
    #[prost(message, repeated, tag = "9")]
    prepared: Vec<StoredPrepared>,
    /// Decided transactions, oldest first.
    #[prost(message, repeated, tag = "10")]
    decided: Vec<StoredDecided>,
    #[prost(message, optional, tag = "11")]
    archive: Option<StoredArchive>,
}

/// Encodes the state as a snapshot object.
pub fn encode_snapshot(state: &ShardState, id: WriteId) -> Bytes {
    let (next_topic, next_subscription) = state.last_ids();
    let (prepared, decided) = store_transactions(&state.transactions);
    let stored = StoredState {
        time_ms: state.time_ms,
        next_topic,
        topics: state.topics().map(|topic| store_topic(topic, state.time_ms)).collect(),
        regions: state.regions.iter().map(Into::into).collect(),
        voters: state.regions.voters().map(Into::into),
        next_region: state.regions.next_number().0.into(),
        next_subscription,
        prepared,
        decided,
        archive: store_archive(&state.archive),
    };
    let head = Head {
        kind: ObjectKind::Snapshot,
        id,
        ballot: Ballot::BOOTSTRAP,
        parent: Slot::default(),
        sequence: state.applied,
        committed: state.applied,
        section_len: 0,
        section_crc: 0,
        body_len: 0,
    };
    head.encode(&stored.encode_to_vec()).into()
}

/// Decodes what [`encode_snapshot`] made.
///
/// # Errors
/// When the bytes are no snapshot or damaged.
pub fn decode_snapshot(bytes: &[u8]) -> Result<ShardState, FrameError> {
    let head = Head::decode(bytes)?;
    if head.kind != ObjectKind::Snapshot {
        return Err(FrameError::Malformed("kind of a snapshot"));
    }
    let stored = StoredState::decode(head.section(bytes)?).map_err(|_| FrameError::Malformed("snapshot"))?;
    let time_ms = stored.time_ms;
    let topics = stored.topics.into_iter().map(|topic| topic_from(topic, time_ms)).collect::<Result<_, _>>()?;
    let records = stored.regions.into_iter().map(RegionRecord::try_from).collect::<Result<_, _>>()?;
    let voters = stored.voters.map(RegionSet::try_from).transpose()?;
    let regions = Regions::from_parts(records, voters, region_number(stored.next_region)?);
    let transactions = transactions_from(stored.prepared, stored.decided)?;
    let last_ids = (stored.next_topic, stored.next_subscription);
    let archive = stored.archive.map(archive_from).transpose()?.unwrap_or_default();
    let applied = (head.sequence, stored.time_ms);
    let state = ShardState::from_parts(applied, regions, last_ids, topics, transactions, archive);
    if !state.knows_its_files() {
        return Err(FrameError::Malformed("identities of archive files"));
    }
    if state.can_decide() { Ok(state) } else { Err(FrameError::Malformed("prepared transaction")) }
}

fn store_topic(topic: &Topic, time_ms: i64) -> StoredTopic {
    let dedup = &topic.dedup;
    let producer = |(id, window): (&ProducerId, &ProducerWindow)| StoredProducer {
        id: id.to_string(),
        last_ms: window.last_ms,
        forgotten_below: window.forgotten_below,
        recent: window
            .recent
            .iter()
            .map(|(sequence, placement)| store_placement(&Identity::Producer(id.clone(), *sequence), placement, 0))
            .collect(),
    };
    let key = |key: &Arc<str>| {
        let remembered = dedup.keys.get(key)?;
        Some(store_placement(&Identity::Key(key.clone()), &remembered.placement, remembered.time_ms))
    };
    let subscription = |(name, subscription): (&SubscriptionName, &Subscription)| StoredSubscription {
        name: name.to_string(),
        created_ms: subscription.created_ms,
        positions: subscription.stream().unwrap_or_default().iter().map(|offset| offset.0).collect(),
        queue: subscription.queue().map(store_queue),
    };
    StoredTopic {
        id: topic.id.0,
        name: topic.name.to_string(),
        created_ms: topic.created_ms,
        settings: topic.settings.as_ref().into(),
        partitions: topic.partitions.iter().map(|log| store_partition(log, time_ms)).collect(),
        producers: dedup.producers.iter().map(producer).collect(),
        keys: dedup.key_order.iter().filter_map(key).collect(),
        subscriptions: topic.subscriptions.iter().map(subscription).collect(),
        ids: (!topic.ids.is_empty()).then(|| (&topic.ids).into()),
        archive_version: topic.archive_version,
        archive_changed_ms: topic.archive_changed_ms,
    }
}

fn store_partition(log: &PartitionLog, time_ms: i64) -> StoredPartition {
    let run = |run: &Run| StoredRun {
        first_row: run.first_row,
        rows: run.rows,
        sequence: run.batch.sequence.0,
        at: run.batch.at,
        len: run.batch.len,
        crc: run.batch.crc,
        min_timestamp_ms: run.min_timestamp_ms,
        timestamp_span_ms: run.max_timestamp_ms.wrapping_sub(run.min_timestamp_ms),
        attributes: run.attributes.0.into(),
    };
    StoredPartition {
        log_start: log.log_start.0,
        high_watermark: log.high_watermark.0,
        bytes: log.bytes,
        attributes: log.attributes.0.into(),
        first: log.runs().first().map_or(0, |run| run.base.0),
        runs: log.runs().iter().map(run).collect(),
        files: log.files().iter().map(Into::into).collect(),
        waited_ms: log.waiting_since_ms().map_or(0, |since| time_ms.wrapping_sub(since)),
    }
}

fn store_queue(queue: &Queue) -> StoredQueue {
    let held = |(offset, transaction): (&Offset, &TransactionId)| StoredHeld {
        offset: offset.0,
        transaction: transaction.to_string(),
    };
    let partition = |part: &QueuePartition| StoredQueuePartition {
        floor: part.floor.0,
        settled: store_settled(&part.settled),
        retries: part.retries.iter().map(Into::into).collect(),
        dead: part.dead.iter().map(Into::into).collect(),
        held: part.held.iter().map(held).collect(),
    };
    StoredQueue {
        id: queue.id.0,
        settings: queue.settings.as_ref().into(),
        secret: queue.secret.to_vec(),
        partitions: queue.partitions.iter().map(partition).collect(),
    }
}

fn store_settled(settled: &RoaringTreemap) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !settled.is_empty() {
        let mut settled = settled.clone();
        settled.optimize();
        settled.serialize_into(&mut bytes).expect("a vector takes every write");
    }
    bytes
}

fn queue_from(stored: StoredQueue) -> Result<Queue, FrameError> {
    let held = |held: StoredHeld| Ok((Offset(held.offset), TransactionId::new(&held.transaction)?));
    let partition = |part: StoredQueuePartition| {
        let settled = match &*part.settled {
            [] => RoaringTreemap::new(),
            bytes => RoaringTreemap::deserialize_from(bytes).map_err(|_| FrameError::Malformed("settled messages"))?,
        };
        Ok(QueuePartition {
            floor: Offset(part.floor),
            settled,
            retries: part.retries.into_iter().map(Into::into).collect(),
            dead: part.dead.into_iter().map(TryInto::try_into).collect::<Result<_, FrameError>>()?,
            held: part.held.into_iter().map(held).collect::<Result<_, FrameError>>()?,
        })
    };
    Ok(Queue {
        id: SubscriptionId(stored.id),
        settings: Arc::new(stored.settings.settings()?),
        secret: Arc::new(secret_from(&stored.secret)?),
        partitions: stored.partitions.into_iter().map(partition).collect::<Result<_, FrameError>>()?,
    })
}

fn store_placement(identity: &Identity, placement: &Placement, time_ms: i64) -> StoredPlacement {
    StoredPlacement {
        identity: identity.into(),
        time_ms,
        partition_count: placement.partition_count,
        keyless: placement.keyless.0,
        bases: store_bases(&placement.bases),
        duplicates: store_duplicates(&placement.duplicates),
    }
}

fn placement_from(stored: StoredPlacement) -> (StoredIdentity, i64, Arc<Placement>) {
    let placement = Placement {
        partition_count: stored.partition_count,
        keyless: Partition(stored.keyless),
        bases: bases_from(stored.bases),
        duplicates: duplicates_from(stored.duplicates),
    };
    (stored.identity, stored.time_ms, Arc::new(placement))
}

fn topic_from(stored: StoredTopic, time_ms: i64) -> Result<Topic, FrameError> {
    let mut producers = BTreeMap::new();
    for producer in stored.producers {
        let sequence = |placement| {
            let (identity, _, placement) = placement_from(placement);
            (identity.sequence, placement)
        };
        let window = ProducerWindow {
            last_ms: producer.last_ms,
            forgotten_below: producer.forgotten_below,
            recent: producer.recent.into_iter().map(sequence).collect(),
        };
        producers.insert(ProducerId::new(&producer.id)?, window);
    }
    let key = |stored| {
        let (identity, time_ms, placement) = placement_from(stored);
        let key: Arc<str> = identity.key.ok_or(FrameError::Malformed("idempotency key"))?.into();
        Ok((key, RememberedKey { time_ms, placement }))
    };
    let keys = stored.keys.into_iter().map(key).collect::<Result<_, FrameError>>()?;
    let mut subscriptions = BTreeMap::new();
    for stored in stored.subscriptions {
        let kind = match stored.queue {
            None => Kind::Stream(stored.positions.into_iter().map(Offset).collect()),
            Some(queue) => Kind::Queue(Box::new(queue_from(queue)?)),
        };
        let subscription = Subscription { created_ms: stored.created_ms, kind };
        subscriptions.insert(SubscriptionName::new(&stored.name)?, subscription);
    }
    Ok(Topic {
        id: TopicId(stored.id),
        name: TopicName::new(&stored.name)?,
        created_ms: stored.created_ms,
        settings: Arc::new(stored.settings.settings()?),
        partitions: stored.partitions.into_iter().map(|log| partition_from(log, time_ms)).collect::<Result<_, _>>()?,
        dedup: Deduplication::from_parts(producers, keys),
        ids: stored.ids.map(MessageIds::try_from).transpose()?.unwrap_or_default(),
        subscriptions,
        archive_version: stored.archive_version,
        archive_changed_ms: stored.archive_changed_ms,
    })
}

/// Files in the order of their offsets, all of them before the first run.
fn files_from(stored: Vec<StoredFile>, first_run: Offset) -> Result<Vec<ArchiveFile>, FrameError> {
    let files = stored.into_iter().map(file_from).collect::<Result<Vec<_>, _>>()?;
    let ends = files.iter().skip(1).map(|file| file.first).chain([first_run]);
    if files.iter().zip(ends).any(|(file, next)| file.end > next) {
        return Err(FrameError::Malformed("archive files overlap"));
    }
    Ok(files)
}

fn partition_from(stored: StoredPartition, time_ms: i64) -> Result<PartitionLog, FrameError> {
    let mut runs = Vec::with_capacity(stored.runs.len());
    let mut base = Offset(stored.first);
    for run in stored.runs {
        let sequence = Sequence(run.sequence);
        runs.push(Run {
            base,
            first_row: run.first_row,
            rows: run.rows,
            batch: BatchLocation { sequence, at: run.at, len: run.len, crc: run.crc },
            min_timestamp_ms: run.min_timestamp_ms,
            max_timestamp_ms: run.min_timestamp_ms.wrapping_add(run.timestamp_span_ms),
            attributes: attributes_from(run.attributes),
        });
        base = base.0.checked_add(run.rows.into()).map(Offset).ok_or(FrameError::Malformed("offsets of runs"))?;
    }
    if stored.log_start > stored.high_watermark {
        return Err(FrameError::Malformed("log start"));
    }
    if !runs.is_empty() && base.0 != stored.high_watermark {
        return Err(FrameError::Malformed("high watermark"));
    }
    let first = runs.first().map_or(Offset(stored.high_watermark), |run| run.base);
    let files = files_from(stored.files, first)?;
    Ok(PartitionLog {
        log_start: Offset(stored.log_start),
        high_watermark: Offset(stored.high_watermark),
        bytes: stored.bytes,
        attributes: attributes_from(stored.attributes),
        file_totals: FileTotals::of(&files),
        files,
        journal_bytes: state::batch_bytes(&runs),
        waiting_since_ms: if runs.is_empty() { 0 } else { time_ms.wrapping_sub(stored.waited_ms) },
        runs,
    })
}
