//! Stored form of commands: protobuf messages, so that fields can be added and readers of the neighbouring version go on.

use std::sync::Arc;

use prost::{Message, Oneof};

use super::{
    archive::{
        StoredClaim, StoredFiles, StoredLocated, StoredReplace, StoredRetention, StoredTrim, patch_from, store_patch,
        store_retention,
    },
    frame::FrameError,
    queue::{StoredQueueCommand, StoredSettle},
    transaction::{StoredDecide, StoredTransact},
};
use crate::{
    batch::{AttributeSet, Compression},
    command::{
        BatchRef, Command, IdRow, IdempotentRequest, Identity, OwnedRows, Publish, SettingsPatch, TopicSettings,
    },
    ids::{Offset, Partition, RegionNo, TopicId},
    limits::DEFAULT_DEDUPLICATION_WINDOW_MS,
    names::{NameError, ProducerId, RegionName, SubscriptionName, TopicName, TransactionId},
    region::{RegionRecord, RegionSet},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSettings {
    #[prost(uint32, optional, tag = "1")]
    pub(super) partitions: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) max_message_bytes: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub(super) compression: Option<u32>,
    /// In a topic's settings only if it is not the default.
    #[prost(uint32, optional, tag = "4")]
    pub(super) deduplication_window_ms: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub(super) retention: Option<StoredRetention>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPosition {
    #[prost(uint32, tag = "1")]
    pub(super) partition: u32,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredIdentity {
    #[prost(string, optional, tag = "1")]
    pub(super) producer: Option<String>,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    #[prost(string, optional, tag = "3")]
    pub(super) key: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRequest {
    #[prost(message, required, tag = "1")]
    identity: StoredIdentity,
    #[prost(uint32, tag = "2")]
    partition_count: u32,
    #[prost(uint32, tag = "3")]
    keyless: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOwned {
    #[prost(uint32, tag = "1")]
    first: u32,
    #[prost(uint32, tag = "2")]
    rows: u32,
    #[prost(uint32, tag = "3")]
    request: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBatch {
    #[prost(uint32, tag = "1")]
    partition: u32,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(uint32, tag = "3")]
    len: u32,
    #[prost(fixed32, tag = "4")]
    crc: u32,
    #[prost(uint32, tag = "5")]
    rows: u32,
    #[prost(sint64, tag = "6")]
    min_timestamp_ms: i64,
    #[prost(sint64, tag = "7")]
    max_timestamp_ms: i64,
    #[prost(message, repeated, tag = "8")]
    owned: Vec<StoredOwned>,
    #[prost(uint64, tag = "9")]
    payload_bytes: u64,
    #[prost(uint32, tag = "10")]
    attributes: u32,
    #[prost(message, optional, tag = "11")]
    ids: Option<StoredIds>,
}

/// Rows with a deduplication id.
#[derive(Clone, PartialEq, Message)]
struct StoredIds {
    #[prost(uint32, repeated, tag = "1")]
    rows: Vec<u32>,
    /// Their hashes end to end, 16 bytes each, big-endian.
    #[prost(bytes = "vec", tag = "2")]
    hashes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateTopic {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, required, tag = "2")]
    settings: StoredSettings,
}

#[derive(Clone, PartialEq, Message)]
struct AlterTopic {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(message, required, tag = "2")]
    settings: StoredSettings,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteTopic {
    #[prost(uint64, tag = "1")]
    topic: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPublish {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(message, repeated, tag = "2")]
    requests: Vec<StoredRequest>,
    #[prost(message, repeated, tag = "3")]
    batches: Vec<StoredBatch>,
}

/// A subscription command: create, delete and move share their fields.
#[derive(Clone, PartialEq, Message)]
struct StoredSubscription {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    positions: Vec<StoredPosition>,
    #[prost(bool, tag = "4")]
    seek: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRegion {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) url: String,
    #[prost(string, tag = "4")]
    pub(super) region_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRegionSet {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) regions: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct RemoveRegion {
    #[prost(uint32, tag = "1")]
    number: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBury {
    #[prost(message, required, tag = "1")]
    copies: StoredPublish,
    #[prost(message, required, tag = "2")]
    settle: StoredSettle,
}

#[derive(Clone, PartialEq, Oneof)]
enum Stored {
    #[prost(message, tag = "1")]
    CreateTopic(CreateTopic),
    #[prost(message, tag = "2")]
    AlterTopic(AlterTopic),
    #[prost(message, tag = "3")]
    DeleteTopic(DeleteTopic),
    #[prost(message, tag = "4")]
    Publish(StoredPublish),
    #[prost(message, tag = "5")]
    CreateSubscription(StoredSubscription),
    #[prost(message, tag = "6")]
    DeleteSubscription(StoredSubscription),
    #[prost(message, tag = "7")]
    CommitPositions(StoredSubscription),
    #[prost(message, tag = "8")]
    AddRegion(StoredRegion),
    #[prost(message, tag = "9")]
    RemoveRegion(RemoveRegion),
    #[prost(message, tag = "10")]
    SetVoters(StoredRegionSet),
    #[prost(message, tag = "11")]
    CreateQueue(StoredQueueCommand),
    #[prost(message, tag = "12")]
    AlterQueue(StoredQueueCommand),
    #[prost(message, tag = "13")]
    Settle(StoredSettle),
    #[prost(message, tag = "14")]
    Transact(StoredTransact),
    #[prost(message, tag = "15")]
    Decide(StoredDecide),
    #[prost(message, tag = "16")]
    Bury(StoredBury),
    #[prost(message, tag = "17")]
    Claim(StoredClaim),
    #[prost(message, tag = "18")]
    Replace(StoredReplace),
    #[prost(message, tag = "19")]
    Release(StoredFiles),
    #[prost(message, tag = "20")]
    Located(StoredLocated),
    #[prost(message, tag = "21")]
    Trim(StoredTrim),
    #[prost(message, tag = "22")]
    Deleted(StoredFiles),
}

/// One stored command.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredCommand {
    #[prost(oneof = "Stored", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22")]
    command: Option<Stored>,
}

pub(super) fn region_number(number: u32) -> Result<RegionNo, FrameError> {
    u16::try_from(number).map(RegionNo).map_err(|_| FrameError::Malformed("number of a region"))
}

impl From<&RegionRecord> for StoredRegion {
    fn from(region: &RegionRecord) -> Self {
        let RegionRecord { number, name, url, region_id } = region;
        Self { number: number.0.into(), name: name.to_string(), url: url.clone(), region_id: region_id.clone() }
    }
}

impl TryFrom<StoredRegion> for RegionRecord {
    type Error = FrameError;

    fn try_from(stored: StoredRegion) -> Result<Self, FrameError> {
        let StoredRegion { number, name, url, region_id } = stored;
        Ok(Self { number: region_number(number)?, name: RegionName::new(&name)?, url, region_id })
    }
}

impl From<&RegionSet> for StoredRegionSet {
    fn from(set: &RegionSet) -> Self {
        Self { regions: set.iter().map(|region| region.0.into()).collect() }
    }
}

impl TryFrom<StoredRegionSet> for RegionSet {
    type Error = FrameError;

    fn try_from(stored: StoredRegionSet) -> Result<Self, FrameError> {
        let regions = stored.regions.into_iter().map(region_number).collect::<Result<_, _>>()?;
        Self::new(regions).ok_or(FrameError::Malformed("set of regions"))
    }
}

impl From<NameError> for FrameError {
    fn from(_: NameError) -> Self {
        Self::Malformed("name")
    }
}

pub(super) fn compression_number(compression: Compression) -> u32 {
    match compression {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    }
}

pub(super) fn compression_from(number: u32) -> Result<Compression, FrameError> {
    match number {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Lz4),
        2 => Ok(Compression::Zstd),
        _ => Err(FrameError::Malformed("compression")),
    }
}

impl From<&TopicSettings> for StoredSettings {
    fn from(settings: &TopicSettings) -> Self {
        Self {
            partitions: Some(settings.partitions),
            max_message_bytes: Some(settings.max_message_bytes),
            compression: Some(compression_number(settings.compression)),
            deduplication_window_ms: Some(settings.deduplication_window_ms)
                .filter(|window| *window != DEFAULT_DEDUPLICATION_WINDOW_MS),
            retention: store_retention(&settings.retention),
        }
    }
}

impl StoredSettings {
    fn patch(&self) -> Result<SettingsPatch, FrameError> {
        Ok(SettingsPatch {
            partitions: self.partitions,
            max_message_bytes: self.max_message_bytes,
            compression: self.compression.map(compression_from).transpose()?,
            deduplication_window_ms: self.deduplication_window_ms,
            retention: patch_from(self.retention.as_ref()),
        })
    }

    /// Settings in full; what an older writer left out has its default.
    pub(super) fn settings(&self) -> Result<TopicSettings, FrameError> {
        Ok(TopicSettings::default().patched(&self.patch()?))
    }
}

impl From<&Identity> for StoredIdentity {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Producer(id, sequence) => Self { producer: Some(id.to_string()), sequence: *sequence, key: None },
            Identity::Key(key) => Self { producer: None, sequence: 0, key: Some(key.to_string()) },
        }
    }
}

impl StoredIdentity {
    fn identity(self) -> Result<Identity, FrameError> {
        match (self.producer, self.key) {
            (Some(id), None) => Ok(Identity::Producer(ProducerId::new(&id)?, self.sequence)),
            (None, Some(key)) => Ok(Identity::Key(Arc::from(key))),
            _ => Err(FrameError::Malformed("request identity")),
        }
    }
}

pub(super) fn store_positions(positions: &[(Partition, Offset)]) -> Vec<StoredPosition> {
    positions.iter().map(|(partition, offset)| StoredPosition { partition: partition.0, offset: offset.0 }).collect()
}

pub(super) fn positions_from(stored: Vec<StoredPosition>) -> Vec<(Partition, Offset)> {
    stored.into_iter().map(|position| (Partition(position.partition), Offset(position.offset))).collect()
}

/// Bits that only a newer version knows are passed over.
pub(super) fn attributes_from(bits: u32) -> AttributeSet {
    AttributeSet(bits as u8 & AttributeSet::ALL.0)
}

fn store_ids(ids: &[IdRow]) -> Option<StoredIds> {
    let rows = ids.iter().map(|id| id.row).collect();
    let hashes = ids.iter().flat_map(|id| id.hash.to_be_bytes()).collect();
    (!ids.is_empty()).then_some(StoredIds { rows, hashes })
}

fn ids_from(stored: StoredIds) -> Result<Vec<IdRow>, FrameError> {
    let hashes = hashes_from(&stored.hashes, stored.rows.len())?;
    Ok(stored.rows.into_iter().zip(hashes).map(|(row, hash)| IdRow { row, hash }).collect())
}

/// So many hashes of deduplication ids, 16 bytes each.
pub(super) fn hashes_from(bytes: &[u8], count: usize) -> Result<impl Iterator<Item = u128>, FrameError> {
    let (hashes, rest) = bytes.as_chunks::<16>();
    if hashes.len() != count || !rest.is_empty() {
        return Err(FrameError::Malformed("deduplication ids"));
    }
    Ok(hashes.iter().map(|hash| u128::from_be_bytes(*hash)))
}

pub(super) fn store_publish(publish: &Publish) -> StoredPublish {
    let request = |request: &IdempotentRequest| StoredRequest {
        identity: (&request.identity).into(),
        partition_count: request.partition_count,
        keyless: request.keyless.0,
    };
    let owned = |owned: &OwnedRows| StoredOwned { first: owned.first, rows: owned.rows, request: owned.request };
    let batch = |batch: &BatchRef| StoredBatch {
        partition: batch.partition.0,
        at: batch.at,
        len: batch.len,
        crc: batch.crc,
        rows: batch.rows,
        payload_bytes: batch.payload_bytes,
        min_timestamp_ms: batch.min_timestamp_ms,
        max_timestamp_ms: batch.max_timestamp_ms,
        owned: batch.owned.iter().map(owned).collect(),
        attributes: batch.attributes.0.into(),
        ids: store_ids(&batch.ids),
    };
    StoredPublish {
        topic: publish.topic.0,
        requests: publish.requests.iter().map(request).collect(),
        batches: publish.batches.iter().map(batch).collect(),
    }
}

pub(super) fn publish_from(stored: StoredPublish) -> Result<Publish, FrameError> {
    let request = |request: StoredRequest| {
        Ok(IdempotentRequest {
            identity: request.identity.identity()?,
            partition_count: request.partition_count,
            keyless: Partition(request.keyless),
        })
    };
    let owned = |owned: StoredOwned| OwnedRows { first: owned.first, rows: owned.rows, request: owned.request };
    let batch = |batch: StoredBatch| {
        Ok(BatchRef {
            partition: Partition(batch.partition),
            at: batch.at,
            len: batch.len,
            crc: batch.crc,
            rows: batch.rows,
            payload_bytes: batch.payload_bytes,
            min_timestamp_ms: batch.min_timestamp_ms,
            max_timestamp_ms: batch.max_timestamp_ms,
            owned: batch.owned.into_iter().map(owned).collect(),
            attributes: attributes_from(batch.attributes),
            ids: ids_from(batch.ids.unwrap_or_default())?,
        })
    };
    Ok(Publish {
        topic: TopicId(stored.topic),
        requests: stored.requests.into_iter().map(request).collect::<Result<_, FrameError>>()?,
        batches: stored.batches.into_iter().map(batch).collect::<Result<_, FrameError>>()?,
    })
}

impl From<&Command> for StoredCommand {
    fn from(command: &Command) -> Self {
        let subscription = |topic: &TopicId, name: &SubscriptionName, positions: &[_], seek| StoredSubscription {
            topic: topic.0,
            name: name.to_string(),
            positions: store_positions(positions),
            seek,
        };
        let stored = match command {
            Command::CreateTopic { name, settings } => {
                Stored::CreateTopic(CreateTopic { name: name.to_string(), settings: settings.into() })
            }
            Command::AlterTopic { topic, patch } => {
                let settings = StoredSettings {
                    partitions: patch.partitions,
                    max_message_bytes: patch.max_message_bytes,
                    compression: patch.compression.map(compression_number),
                    deduplication_window_ms: patch.deduplication_window_ms,
                    retention: store_patch(&patch.retention),
                };
                Stored::AlterTopic(AlterTopic { topic: topic.0, settings })
            }
            Command::DeleteTopic { topic } => Stored::DeleteTopic(DeleteTopic { topic: topic.0 }),
            Command::Publish(publish) => Stored::Publish(store_publish(publish)),
            Command::CreateSubscription { topic, name, positions } => {
                Stored::CreateSubscription(subscription(topic, name, positions, false))
            }
            Command::DeleteSubscription { topic, name } => {
                Stored::DeleteSubscription(subscription(topic, name, &[], false))
            }
            Command::CommitPositions { topic, name, positions, seek } => {
                Stored::CommitPositions(subscription(topic, name, positions, *seek))
            }
            Command::AddRegion(region) => Stored::AddRegion(region.into()),
            Command::RemoveRegion(number) => Stored::RemoveRegion(RemoveRegion { number: number.0.into() }),
            Command::SetVoters(voters) => Stored::SetVoters(voters.into()),
            Command::CreateQueue { topic, name, settings, secret, positions } => {
                Stored::CreateQueue(StoredQueueCommand::create(*topic, name, settings, secret, positions))
            }
            Command::AlterQueue { topic, name, patch } => {
                Stored::AlterQueue(StoredQueueCommand::alter(*topic, name, patch))
            }
            Command::Settle(settle) => Stored::Settle(settle.into()),
            Command::Bury { copies, settle } => {
                Stored::Bury(StoredBury { copies: store_publish(copies), settle: settle.into() })
            }
            Command::Transact(transact) => Stored::Transact(transact.into()),
            Command::Decide { id, commit } => Stored::Decide(StoredDecide { id: id.to_string(), commit: *commit }),
            Command::Claim(claim) => Stored::Claim(claim.into()),
            Command::Replace(replace) => Stored::Replace(replace.into()),
            Command::Release(ids) => Stored::Release(ids.into()),
            Command::Located(located) => Stored::Located(located.into()),
            Command::Trim(trim) => Stored::Trim(trim.into()),
            Command::Deleted(ids) => Stored::Deleted(ids.into()),
        };
        Self { command: Some(stored) }
    }
}

impl TryFrom<StoredCommand> for Command {
    type Error = FrameError;

    fn try_from(stored: StoredCommand) -> Result<Self, FrameError> {
        Ok(match stored.command.ok_or(FrameError::Malformed("command"))? {
            Stored::CreateTopic(create) => {
                Self::CreateTopic { name: TopicName::new(&create.name)?, settings: create.settings.settings()? }
            }
            Stored::AlterTopic(alter) => {
                Self::AlterTopic { topic: TopicId(alter.topic), patch: alter.settings.patch()? }
            }
            Stored::DeleteTopic(delete) => Self::DeleteTopic { topic: TopicId(delete.topic) },
            Stored::Publish(publish) => Self::Publish(publish_from(publish)?),
            Stored::CreateSubscription(create) => Self::CreateSubscription {
                topic: TopicId(create.topic),
                name: SubscriptionName::new(&create.name)?,
                positions: positions_from(create.positions),
            },
            Stored::DeleteSubscription(delete) => {
                Self::DeleteSubscription { topic: TopicId(delete.topic), name: SubscriptionName::new(&delete.name)? }
            }
            Stored::CommitPositions(commit) => Self::CommitPositions {
                topic: TopicId(commit.topic),
                name: SubscriptionName::new(&commit.name)?,
                positions: positions_from(commit.positions),
                seek: commit.seek,
            },
            Stored::AddRegion(region) => Self::AddRegion(region.try_into()?),
            Stored::RemoveRegion(remove) => Self::RemoveRegion(region_number(remove.number)?),
            Stored::SetVoters(voters) => Self::SetVoters(voters.try_into()?),
            Stored::CreateQueue(create) => create.into_create()?,
            Stored::AlterQueue(alter) => alter.into_alter()?,
            Stored::Settle(settle) => Self::Settle(settle.try_into()?),
            Stored::Bury(bury) => Self::Bury { copies: publish_from(bury.copies)?, settle: bury.settle.try_into()? },
            Stored::Transact(transact) => Self::Transact(transact.try_into()?),
            Stored::Decide(decide) => Self::Decide { id: TransactionId::new(&decide.id)?, commit: decide.commit },
            Stored::Claim(claim) => Self::Claim(claim.into()),
            Stored::Replace(replace) => Self::Replace(replace.try_into()?),
            Stored::Release(files) => Self::Release(files.ids()),
            Stored::Located(located) => Self::Located(located.try_into()?),
            Stored::Trim(trim) => Self::Trim(trim.into()),
            Stored::Deleted(files) => Self::Deleted(files.ids()),
        })
    }
}
