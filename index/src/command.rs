//! Commands: what an entry asks of the shard's state, and what came of it.

mod archive;
mod queue;
mod transaction;

use std::sync::Arc;

pub use archive::{Archived, Claim, ClaimPart, Located, Replace, Retention, RetentionPatch, Trim};
pub use queue::{
    DeadLetter, DeadReason, Expired, Fairness, PushSettings, QueuePatch, QueueSettings, Retry, Settle, SettlePartition,
};
pub use transaction::{CheckBack, Fate, Mode, Prepare, Transact};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    batch::{AttributeSet, Compression},
    ids::{FileId, Offset, Partition, RegionNo, SubscriptionId, TopicId},
    limits::{
        DEFAULT_DEDUPLICATION_WINDOW_MS, DEFAULT_MAX_MESSAGE_BYTES, MAX_DEDUPLICATION_WINDOW_MS, MAX_MESSAGE_BYTES,
        MAX_PARTITIONS,
    },
    names::{ProducerId, SubscriptionName, TopicName, TransactionId},
    region::{RegionRecord, RegionSet},
};

/// Settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Number of partitions, 1 to [`MAX_PARTITIONS`]; it can only grow.
    pub partitions: u32,
    /// Largest message accepted: key, value and headers together, in bytes.
    pub max_message_bytes: u32,
    /// Compression of batches.
    pub compression: Compression,
    /// How long a deduplication id is remembered, in milliseconds of the leader's clock; 0 remembers none.
    pub deduplication_window_ms: u32,
    /// How long messages are kept and which.
    pub retention: Retention,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 1,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES as u32,
            compression: Compression::default(),
            deduplication_window_ms: DEFAULT_DEDUPLICATION_WINDOW_MS,
            retention: Retention::default(),
        }
    }
}

impl TopicSettings {
    /// What is wrong with these settings, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            Some("partitions must be between 1 and 1024")
        } else if self.max_message_bytes == 0 || self.max_message_bytes as usize > MAX_MESSAGE_BYTES {
            Some("max_message_bytes must be between 1 and 16777216")
        } else if self.deduplication_window_ms > MAX_DEDUPLICATION_WINDOW_MS {
            Some("deduplication_window_ms must be between 0 and 86400000")
        } else {
            self.retention.problem()
        }
    }

    /// These settings with those of `patch` that are given.
    #[must_use]
    pub fn patched(&self, patch: &SettingsPatch) -> Self {
        Self {
            partitions: patch.partitions.unwrap_or(self.partitions),
            max_message_bytes: patch.max_message_bytes.unwrap_or(self.max_message_bytes),
            compression: patch.compression.unwrap_or(self.compression),
            deduplication_window_ms: patch.deduplication_window_ms.unwrap_or(self.deduplication_window_ms),
            retention: self.retention.patched(&patch.retention),
        }
    }
}

/// A change of settings: only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsPatch {
    /// See [`TopicSettings::partitions`].
    pub partitions: Option<u32>,
    /// See [`TopicSettings::max_message_bytes`].
    pub max_message_bytes: Option<u32>,
    /// See [`TopicSettings::compression`].
    pub compression: Option<Compression>,
    /// See [`TopicSettings::deduplication_window_ms`].
    pub deduplication_window_ms: Option<u32>,
    /// See [`TopicSettings::retention`].
    pub retention: RetentionPatch,
}

/// One command of an entry. Commands of an entry are applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates a topic; rejected if one of that name exists.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// Its settings.
        settings: TopicSettings,
    },
    /// Changes the settings of a topic.
    AlterTopic {
        /// The topic.
        topic: TopicId,
        /// What changes.
        patch: SettingsPatch,
    },
    /// Deletes a topic with its messages and subscriptions.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Adds messages to partitions of one topic.
    Publish(Publish),
    /// Creates a `stream` subscription; rejected if one of that name exists.
    CreateSubscription {
        /// The topic.
        topic: TopicId,
        /// Its name.
        name: SubscriptionName,
        /// Where each partition starts; partitions not named start at their log start.
        positions: Vec<(Partition, Offset)>,
    },
    /// Creates a queue subscription; rejected if a subscription of that name exists.
    CreateQueue {
        /// The topic.
        topic: TopicId,
        /// Its name.
        name: SubscriptionName,
        /// Its settings.
        settings: QueueSettings,
        /// Key that its receipts are sealed with: drawn at random by whoever creates it.
        secret: [u8; 32],
        /// Where each partition starts; partitions not named start at their log start.
        positions: Vec<(Partition, Offset)>,
    },
    /// Changes the settings of a queue subscription.
    AlterQueue {
        /// The topic.
        topic: TopicId,
        /// The subscription.
        name: SubscriptionName,
        /// What changes.
        patch: QueuePatch,
    },
    /// Settles messages of a queue subscription. Never rejected because of a single message: what is settled already stays.
    Settle(Settle),
    /// Moves dead letters to their topic: their copies are published and they are settled, or neither (I15).
    Bury {
        /// The copies, without requests.
        copies: Publish,
        /// What is settled; every message in it must be open.
        settle: Settle,
    },
    /// Publishes and settles together, now or when it is decided.
    Transact(Transact),
    /// Decides a transaction that was prepared.
    Decide {
        /// The transaction.
        id: TransactionId,
        /// Whether it takes effect; otherwise it never happened.
        commit: bool,
    },
    /// Deletes a subscription.
    DeleteSubscription {
        /// The topic.
        topic: TopicId,
        /// Its name.
        name: SubscriptionName,
    },
    /// Moves committed positions of a subscription. Of a queue subscription only by `seek`: everything before the position
    /// is settled, nothing behind it.
    CommitPositions {
        /// The topic.
        topic: TopicId,
        /// The subscription.
        name: SubscriptionName,
        /// Next offset to be read, for each partition named.
        positions: Vec<(Partition, Offset)>,
        /// Whether positions may move back.
        seek: bool,
    },
    /// Adds a region that is sent everything but does not vote yet.
    AddRegion(RegionRecord),
    /// Removes a region that does not vote.
    RemoveRegion(RegionNo),
    /// From behind this entry on, these regions vote; the entry itself needs a quorum of those before it, too.
    ///
    /// The leader sees to it that every one of them is known and caught up. Applying never rejects it, since the
    /// protocol has counted by it already.
    SetVoters(RegionSet),
    /// Claims offsets of partitions, each for an archive file to be written; rejected if any of them is claimed.
    Claim(Claim),
    /// Puts archive files in the place of what was claimed, all of them or none.
    Replace(Replace),
    /// Gives claims up. What may have been written for them is garbage.
    Release(Vec<FileId>),
    /// Regions hold archive files that they missed.
    Located(Located),
    /// Drops messages from the beginning of a partition.
    Trim(Trim),
    /// Archive files that were garbage are deleted in every region.
    Deleted(Vec<FileId>),
}

/// Messages for partitions of one topic: batches, and the idempotent requests that some of their rows belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The topic.
    pub topic: TopicId,
    /// The requests of this publish that carry an identity. The others leave no trace but their rows.
    pub requests: Vec<IdempotentRequest>,
    /// The batches, at most one a partition.
    pub batches: Vec<BatchRef>,
}

/// An idempotent publish request, and what is needed to give a duplicate the original's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Who it is.
    pub identity: Identity,
    /// Partition count by which its keys were hashed.
    pub partition_count: u32,
    /// Partition that its messages without a key went to.
    pub keyless: Partition,
}

/// By what a repeated request is recognised, within its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// A producer's id and the sequence number that it gave the request.
    Producer(ProducerId, u64),
    /// An idempotency key.
    Key(Arc<str>),
}

/// One batch inside an entry's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRef {
    /// Partition it belongs to.
    pub partition: Partition,
    /// Where it begins in the entry's body.
    pub at: u64,
    /// Its length in bytes.
    pub len: u32,
    /// CRC-32C of its bytes.
    pub crc: u32,
    /// Messages in it.
    pub rows: u32,
    /// Bytes of keys, values and headers in it.
    pub payload_bytes: u64,
    /// Smallest timestamp, milliseconds since the Unix epoch.
    pub min_timestamp_ms: i64,
    /// Largest timestamp, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// Which rows belong to idempotent requests, ascending and disjoint.
    pub owned: Vec<OwnedRows>,
    /// Which attributes its messages use.
    pub attributes: AttributeSet,
    /// Rows with a deduplication id, ascending.
    pub ids: Vec<IdRow>,
}

/// A row of a batch that is stored only if no message with its deduplication id was stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRow {
    /// The row.
    pub row: u32,
    /// Hash of the id, see [`Self::hash`].
    pub hash: u128,
}

impl IdRow {
    /// Hash of a deduplication id. So wide that two ids never have the same by chance, and so short that many can be
    /// remembered.
    pub fn hash(id: &str) -> u128 {
        xxh3_128(id.as_bytes())
    }
}

/// Rows of a batch that belong to an idempotent request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedRows {
    /// First row.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
    /// Index into [`Publish::requests`].
    pub request: u32,
}

/// What came of a command that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// The topic was created with this identity.
    TopicCreated(TopicId),
    /// Messages were published.
    Published(Published),
    /// Committed positions of all partitions, by partition.
    Positions(Vec<Offset>),
    /// The queue subscription was created with this identity.
    QueueCreated(SubscriptionId),
    /// What has become of a transaction, now or when it first came.
    Transaction(Fate),
    /// The offsets are claimed; the archive files are to have these identities, in the order of the claim's parts.
    Claimed(Vec<FileId>),
    /// The partition now starts here.
    Trimmed(Offset),
}

/// Where the rows of a publish ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// For each batch the runs of rows that were stored, ascending by row.
    pub batches: Vec<Vec<StoredRows>>,
    /// For each batch the rows that were dropped for their deduplication ids, ascending. Rows of requests that were
    /// stored before are not among them.
    pub duplicates: Vec<Vec<DuplicateRows>>,
    /// For each idempotent request what came of it.
    pub requests: Vec<RequestOutcome>,
}

/// A run of rows with consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRows {
    /// First row in the batch.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
    /// Offset of the first row.
    pub base: Offset,
}

impl StoredRows {
    /// What lies in the rows from `first` to before `end` of all that was stored (ascending): the offset of the first
    /// of them, if there is one, and their number. Their offsets are consecutive.
    pub fn within(stored: &[Self], first: u32, end: u32) -> (Option<Offset>, u32) {
        let from = stored.partition_point(|run| run.first + run.rows <= first);
        let (mut base, mut rows) = (None, 0);
        for run in stored[from..].iter().take_while(|run| run.first < end) {
            let (start, stop) = (run.first.max(first), (run.first + run.rows).min(end));
            base.get_or_insert(run.base.plus(u64::from(start - run.first)));
            rows += stop - start;
        }
        (base, rows)
    }
}

/// Consecutive rows that were dropped, because consecutive messages with the same deduplication ids were stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateRows {
    /// First row.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
    /// Partition of the messages stored before; not always the one that the rows were for.
    pub partition: Partition,
    /// Offset of the first of these messages.
    pub offset: Offset,
}

impl DuplicateRows {
    /// What lies in the rows from `first` to before `end` of all that was dropped (ascending), counted from `first`.
    pub fn within(dropped: &[Self], first: u32, end: u32) -> impl Iterator<Item = Self> {
        let from = dropped.partition_point(|run| run.first + run.rows <= first);
        dropped[from..].iter().take_while(move |run| run.first < end).map(move |run| {
            let (start, stop) = (run.first.max(first), (run.first + run.rows).min(end));
            let offset = run.offset.plus(u64::from(start - run.first));
            Self { first: start - first, rows: stop - start, partition: run.partition, offset }
        })
    }
}

/// What came of an idempotent request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Stored now.
    Stored(Arc<Placement>),
    /// Stored before; its rows in this entry were dropped.
    Duplicate(Arc<Placement>),
    /// Its sequence lies before the producer's window, so nobody can tell whether it was stored. Not stored now.
    SequenceTooOld,
}

/// Where the messages of an idempotent request are; with the request's own messages this gives each one's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Partition count by which its keys were hashed.
    pub partition_count: u32,
    /// Partition that its messages without a key went to.
    pub keyless: Partition,
    /// For each partition the offset of the request's first message stored there, and the number of its messages,
    /// stored or duplicates.
    pub bases: Vec<(Partition, Offset, u32)>,
    /// Its messages that were dropped for their deduplication ids, with the partition that they were for; a row is the
    /// number of a message among those of the request for that partition. In the order of `bases`, then ascending.
    pub duplicates: Vec<(Partition, DuplicateRows)>,
}

/// Why a command was not carried out. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A topic of this name exists.
    #[error("a topic of this name exists")]
    TopicExists(TopicId),
    /// No such topic.
    #[error("there is no such topic")]
    TopicNotFound,
    /// The cluster has as many topics as it may.
    #[error("the cluster has as many topics as it may have")]
    TooManyTopics,
    /// Settings that no topic can have.
    #[error("{0}")]
    InvalidSettings(&'static str),
    /// A subscription of this name exists.
    #[error("a subscription of this name exists")]
    SubscriptionExists,
    /// No such subscription.
    #[error("there is no such subscription")]
    SubscriptionNotFound,
    /// The topic has as many subscriptions as it may.
    #[error("the topic has as many subscriptions as it may have")]
    TooManySubscriptions,
    /// A partition that the topic does not have.
    #[error("the topic has no partition {0}")]
    PartitionNotFound(Partition),
    /// A position outside the partition's log.
    #[error("offset {offset} of partition {partition} is outside {log_start} to {high_watermark}")]
    InvalidPosition {
        /// The partition.
        partition: Partition,
        /// The position asked for.
        offset: Offset,
        /// First offset of the partition.
        log_start: Offset,
        /// High watermark of the partition.
        high_watermark: Offset,
    },
    /// The subscription is of another kind.
    #[error("the subscription is of kind {0}")]
    WrongKind(&'static str),
    /// The dead-letter topic does not exist, or leads back to the topic itself.
    #[error("{0}")]
    DeadLetterTopic(&'static str),
    /// A message that a transaction acknowledges is settled already, or held by another transaction.
    #[error("message {offset} of partition {partition} is not open any more")]
    NotOpen {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
    },
    /// No such transaction is known, any more.
    #[error("there is no such transaction")]
    TransactionNotFound,
    /// The transaction was decided otherwise.
    #[error("the transaction was decided otherwise")]
    TransactionDecided(Fate),
    /// There are as many undecided transactions as there may be.
    #[error("there are as many undecided transactions as there may be")]
    TooManyTransactions,
    /// The topic cannot be deleted while a transaction that is not decided publishes to it.
    #[error("transaction {0}, which is not decided, publishes to the topic")]
    TransactionPending(TransactionId),
    /// Another compactor has claimed some of the offsets.
    #[error("offsets are claimed for archive file {0}")]
    Claimed(FileId),
    /// The claim is not there any more: it was released, or what was claimed is gone.
    #[error("the claim for archive file {0} is not there any more")]
    ClaimLost(FileId),
    /// The topic's retention is not the one that messages were to be dropped by.
    #[error("the retention of the topic has changed")]
    RetentionChanged,
    /// A command that contradicts itself; only a faulty writer makes one.
    #[error("malformed command: {0}")]
    Malformed(&'static str),
}

/// What came of one command.
pub type Applied = Result<Outcome, Rejection>;
