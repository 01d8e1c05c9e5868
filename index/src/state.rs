//! The state of a shard: what its committed entries add up to.
//!
//! Pure: no store, no clock, no randomness. Applying the same entries in the same order gives the same state on every
//! node (I13); duplicates, fencing and offsets are decided in [`ShardState::apply`] and nowhere else.

mod apply;
mod dedup;
mod message_ids;
mod partition;
mod regions;
mod subscription;

use std::{collections::BTreeMap, sync::Arc};

pub use apply::Touched;
pub use dedup::{Deduplication, Known, ProducerWindow, RememberedKey};
pub use message_ids::MessageIds;
pub use partition::{BatchLocation, PartitionLog, Run};
pub use regions::Regions;
pub use subscription::Subscription;

use crate::{
    command::TopicSettings,
    ids::{Partition, Sequence, TopicId},
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
}

impl Topic {
    /// A partition, if the topic has it.
    pub fn partition(&self, partition: Partition) -> Option<&PartitionLog> {
        self.partitions.get(partition.0 as usize)
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
    next_topic: u64,
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<TopicName, TopicId>,
}

impl ShardState {
    /// The state before the first entry of a cluster with these regions.
    pub fn founded(regions: Regions) -> Self {
        Self { regions, ..Self::default() }
    }

    /// Puts a state together from its parts, as a snapshot stores them.
    pub(crate) fn from_parts(
        applied: Sequence,
        time_ms: i64,
        regions: Regions,
        next_topic: u64,
        topics: Vec<Topic>,
    ) -> Self {
        let names = topics.iter().map(|topic| (topic.name.clone(), topic.id)).collect();
        let topics = topics.into_iter().map(|topic| (topic.id, topic)).collect();
        Self { applied, time_ms, regions, next_topic, topics, names }
    }

    pub(crate) fn next_topic(&self) -> u64 {
        self.next_topic
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
mod tests;
