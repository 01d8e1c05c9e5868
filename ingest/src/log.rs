//! The shard as this crate uses it. Tests put a log in memory in its place.

use std::{future::Future, ops::Range};

use brigade_index::{
    ids::{Ballot, Offset, Partition, RegionNo, TopicId},
    keys::Key,
    shard::{FetchError, Proposal, ProposeError, Shard},
    state::{BatchLocation, ShardState},
    store::Component,
};
use bytes::Bytes;
use parking_lot::RwLockReadGuard;

#[cfg(test)]
pub(crate) mod memory;

/// Where messages go and come from. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Log {
    /// A shard.
    Shard(Shard),
    /// A log in memory.
    #[cfg(test)]
    Memory(std::sync::Arc<memory::MemoryLog>),
}

impl Log {
    pub(crate) async fn submit(&self, proposal: Proposal) {
        match self {
            Self::Shard(shard) => shard.submit(proposal).await,
            #[cfg(test)]
            Self::Memory(memory) => memory.submit(proposal),
        }
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, ShardState> {
        match self {
            Self::Shard(shard) => shard.state(),
            #[cfg(test)]
            Self::Memory(memory) => memory.state.read(),
        }
    }

    pub(crate) fn grown_past(
        &self,
        topic: TopicId,
        partition: Partition,
        offset: Offset,
    ) -> impl Future<Output = ()> + Send + use<> {
        let log = self.clone();
        async move {
            match log {
                Self::Shard(shard) => shard.grown_past(topic, partition, offset).await,
                #[cfg(test)]
                Self::Memory(memory) => memory.grown_past(topic, partition, offset).await,
            }
        }
    }

    /// Resolves when the topic has the partition, or is gone, or the shard stops leading.
    pub(crate) fn has_partition(
        &self,
        topic: TopicId,
        partition: Partition,
    ) -> impl Future<Output = ()> + Send + use<> {
        let log = self.clone();
        async move {
            match log {
                Self::Shard(shard) => shard.has_partition(topic, partition).await,
                #[cfg(test)]
                Self::Memory(memory) => memory.has_partition(topic, partition).await,
            }
        }
    }

    pub(crate) async fn fetch(&self, batch: &BatchLocation) -> Result<Bytes, FetchError> {
        match self {
            Self::Shard(shard) => shard.fetch(batch).await,
            #[cfg(test)]
            Self::Memory(memory) => memory.fetch(batch).await,
        }
    }

    /// Bytes `range` of an archive file, from the nearest of the regions that hold it.
    pub(crate) async fn fetch_file(
        &self,
        key: &Key,
        holders: &[RegionNo],
        range: Range<u64>,
    ) -> Result<Bytes, FetchError> {
        match self {
            Self::Shard(shard) => shard.fetch_file(Component::Read, key, holders, range).await,
            #[cfg(test)]
            Self::Memory(memory) => memory.fetch_file(key, holders, range).await,
        }
    }

    /// Identity of the cluster.
    pub(crate) fn cluster(&self) -> &str {
        match self {
            Self::Shard(shard) => shard.cluster_id(),
            #[cfg(test)]
            Self::Memory(_) => memory::CLUSTER,
        }
    }

    pub(crate) fn ready(&self) -> Result<(), ProposeError> {
        match self {
            Self::Shard(shard) => shard.ready(),
            #[cfg(test)]
            Self::Memory(memory) => memory.ready(),
        }
    }

    /// The ballot of this reign.
    pub(crate) fn reign(&self) -> Ballot {
        match self {
            Self::Shard(shard) => shard.status().ballot,
            #[cfg(test)]
            Self::Memory(_) => Ballot { round: 1, nonce: 1 },
        }
    }

    /// Resolves when the reign is over.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let log = self.clone();
        async move {
            match log {
                Self::Shard(shard) => shard.ended().await,
                #[cfg(test)]
                Self::Memory(_) => std::future::pending().await,
            }
        }
    }
}
