//! The state of a shard: what its committed entries add up to.
//!
//! Pure: no store, no clock, no randomness. Applying the same entries in the same order gives the same state on every
//! node (I13); duplicates, fencing and offsets are decided in [`ShardState::apply`] and nowhere else.

mod apply;
mod archive;
mod bodies;
mod dedup;
mod files;
mod message_ids;
mod partition;
mod queue;
mod regions;
mod subscription;
mod transactions;

use std::{collections::BTreeMap, sync::Arc};

pub use apply::Touched;
pub use archive::{Archive, Claimed, Garbage};
pub(crate) use bodies::Bodies;
pub use dedup::{Deduplication, Known, ProducerWindow, RememberedKey};
pub use files::{FileTotals, Sum};
pub use message_ids::MessageIds;
pub(crate) use partition::batch_bytes;
pub use partition::{BatchLocation, PartitionLog, Run};
pub use queue::{Queue, QueuePartition, Retries};
pub use regions::Regions;
pub use subscription::{Kind, Subscription};
pub use transactions::{Decided, Prepared, Transactions};

use crate::{
    command::{ClaimPart, TopicSettings},
    ids::{Offset, Partition, Sequence, TopicId},
    names::{SubscriptionName, TopicName},
};

/// A topic and everything in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Its settings.
    pub settings: Arc<TopicSettings>,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionLog>,
    /// Recent idempotent requests.
    pub dedup: Deduplication,
    /// Recent deduplication ids of messages.
    pub ids: MessageIds,
    /// Its subscriptions.
    pub subscriptions: BTreeMap<SubscriptionName, Subscription>,
    /// How often its archive files changed.
    pub archive_version: u64,
    /// When they did last, milliseconds since the Unix epoch.
    pub archive_changed_ms: i64,
}

impl Topic {
    /// Its archive files have changed.
    fn archive_changed(&mut self, now: i64) {
        self.archive_version += 1;
        self.archive_changed_ms = now;
    }

    /// A partition, if the topic has it.
    pub fn partition(&self, partition: Partition) -> Option<&PartitionLog> {
        self.partitions.get(partition.0 as usize)
    }

    /// Up to where every subscription is done with a partition; `None` if there is no subscription.
    pub fn acknowledged(&self, partition: Partition) -> Option<Offset> {
        let number = partition.0 as usize;
        let start = self.partition(partition).map_or(Offset(0), |log| log.log_start);
        let done = self.subscriptions.values().map(|subscription| match &subscription.kind {
            Kind::Stream(positions) => positions.get(number).copied().unwrap_or(start),
            Kind::Queue(queue) => queue.partitions.get(number).map_or(start, QueuePartition::needed_from),
        });
        done.min()
    }
}

/// The state of a shard after its first [`Self::applied`] entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardState {
    /// Sequence of the last entry applied.
    pub applied: Sequence,
    /// Time of the last entry applied, milliseconds since the Unix epoch; never falls.
    pub time_ms: i64,
    /// The cluster's regions.
    pub regions: Regions,
    /// Transactions that are not decided, and those that were decided lately.
    pub transactions: Transactions,
    /// What is being written into the archive, and what is to be deleted from it.
    pub archive: Archive,
    next_topic: u64,
    next_subscription: u64,
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<TopicName, TopicId>,
    /// It follows from the topics and transactions.
    bodies: Bodies,
}

impl ShardState {
    /// The state before the first entry of a cluster with these regions.
    pub fn founded(regions: Regions) -> Self {
        Self { regions, ..Self::default() }
    }

    /// Puts a state together from its parts, as a snapshot stores them.
    pub(crate) fn from_parts(
        (applied, time_ms): (Sequence, i64),
        regions: Regions,
        (next_topic, next_subscription): (u64, u64),
        topics: Vec<Topic>,
        transactions: Transactions,
        archive: Archive,
    ) -> Self {
        let names = topics.iter().map(|topic| (topic.name.clone(), topic.id)).collect();
        let bodies = Bodies::of(topics.iter(), &transactions);
        let topics = topics.into_iter().map(|topic| (topic.id, topic)).collect();
        Self { applied, time_ms, regions, transactions, archive, next_topic, next_subscription, topics, names, bodies }
    }

    /// The last identities given to a topic and to a queue subscription.
    pub(crate) fn last_ids(&self) -> (u64, u64) {
        (self.next_topic, self.next_subscription)
    }

    /// The last identity given to a topic: one that is not above it and is not there will never be.
    pub fn last_topic(&self) -> TopicId {
        TopicId(self.next_topic)
    }

    /// Nothing has waited to be archived yet.
    #[cfg(test)]
    pub(crate) fn forget_waiting(&mut self) {
        let now = self.time_ms;
        let logs = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        logs.filter(|log| !log.runs.is_empty()).for_each(|log| log.waiting_since_ms = now);
    }

    /// Entries whose bodies hold batches that are still needed; those with several are named several times. Looks at every run:
    /// what is deleted is not judged by a count that is kept up to date.
    pub fn bodies(&self) -> impl Iterator<Item = Sequence> {
        let logs = self.topics().flat_map(|topic| &topic.partitions);
        let stored = logs.flat_map(|log| log.runs()).map(|run| run.batch.sequence);
        let waiting = self.transactions.prepared().values().filter(|prepared| prepared.references() > 0);
        stored.chain(waiting.map(|prepared| prepared.sequence))
    }

    /// How many entries that are. Costs nothing.
    pub fn bodies_needed(&self) -> usize {
        self.bodies.len()
    }

    /// The same with everything counted anew that is kept up to date as it changes.
    #[cfg(test)]
    pub(crate) fn recounted(&self) -> Self {
        let mut anew = self.clone();
        anew.bodies = Bodies::of(self.topics.values(), &self.transactions);
        anew.archive.garbage_bytes = self.archive.garbage.values().map(|garbage| garbage.bytes).sum();
        for log in anew.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            (log.journal_bytes, log.file_totals) = (batch_bytes(&log.runs), FileTotals::of(&log.files));
        }
        anew
    }

    /// Whether every identity of an archive file was given, and stands for one thing only: a file that is referenced, a
    /// claim on messages that are there, or garbage. Not so only in a damaged snapshot.
    pub(crate) fn knows_its_files(&self) -> bool {
        let Archive { last, claims, garbage, .. } = &self.archive;
        let files = self.topics().flat_map(|topic| &topic.partitions).flat_map(|log| &log.files).map(|file| &file.id);
        let mut ids: Vec<_> = files.chain(claims.keys()).chain(garbage.keys()).collect();
        ids.sort_unstable();
        let stands = |ClaimPart { topic, partition, first, end }: &ClaimPart| {
            let log = self.topic(*topic).and_then(|topic| topic.partition(*partition));
            log.is_some_and(|log| first < end && *end <= log.high_watermark && log.is_aligned(*first, *end))
        };
        ids.last().is_none_or(|highest| *highest <= last)
            && ids.windows(2).all(|pair| pair[0] < pair[1])
            && claims.values().all(|claimed| stands(&claimed.part))
    }

    /// The topic of that name.
    pub fn topic_named(&self, name: &TopicName) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// The topic with that identity.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// All topics, by identity.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.topics.values()
    }

    /// Topics in the order of their names, those after `after` if given.
    pub fn topics_by_name(&self, after: Option<&TopicName>) -> impl Iterator<Item = &Topic> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.names.range((from, Unbounded)).filter_map(|(_, id)| self.topics.get(id))
    }
}

#[cfg(test)]
pub(crate) mod tests;
