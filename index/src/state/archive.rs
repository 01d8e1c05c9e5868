//! What is to be written into the archive, and what of it is to be deleted.

use std::collections::BTreeMap;

use super::{FileTotals, Regions, ShardState};
use crate::{
    command::ClaimPart,
    ids::{Ballot, FileId, Offset, Partition, TopicId},
    keys::{self, Key},
    names::TopicName,
};

/// A claim that is not settled: somebody writes, or wrote, an archive file for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The reign of the claimant.
    pub owner: Ballot,
    /// What is claimed.
    pub part: ClaimPart,
}

/// An object of the archive that nothing refers to any more. That it is here is the intent to delete it: whoever leads
/// carries that out, in every region, and says so with [`crate::command::Command::Deleted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Name of its topic, which may be gone.
    pub name: TopicName,
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: Partition,
    /// First offset that it covered.
    pub first: Offset,
    /// Its size in bytes; 0 if it may never have been written.
    pub bytes: u64,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl Garbage {
    /// Key of its object.
    pub fn key(&self, id: FileId) -> Key {
        keys::archive_file(&self.name, self.topic, self.partition, self.first, id)
    }
}

/// Claims and garbage of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// The last identity given to an archive file. One that is not above it, and neither referenced nor claimed, will
    /// never be.
    pub(crate) last: FileId,
    pub(crate) claims: BTreeMap<FileId, Claimed>,
    pub(crate) garbage: BTreeMap<FileId, Garbage>,
    /// Bytes of the garbage; it follows from that.
    pub(crate) garbage_bytes: u64,
}

impl Archive {
    /// Claims that are not settled.
    pub fn claims(&self) -> &BTreeMap<FileId, Claimed> {
        &self.claims
    }

    /// What is to be deleted.
    pub fn garbage(&self) -> &BTreeMap<FileId, Garbage> {
        &self.garbage
    }

    /// Bytes of what is to be deleted, as far as they are known.
    pub fn garbage_bytes(&self) -> u64 {
        self.garbage_bytes
    }

    /// An object is to be deleted.
    pub(crate) fn discard(&mut self, id: FileId, garbage: Garbage) {
        // They wrap around, since a damaged snapshot may name any; what is added is taken away alike.
        self.garbage_bytes = self.garbage_bytes.wrapping_add(garbage.bytes);
        if let Some(before) = self.garbage.insert(id, garbage) {
            self.garbage_bytes = self.garbage_bytes.wrapping_sub(before.bytes);
        }
    }

    /// An object is deleted.
    pub(super) fn forget(&mut self, id: FileId) {
        let bytes = self.garbage.remove(&id).map_or(0, |garbage| garbage.bytes);
        self.garbage_bytes = self.garbage_bytes.wrapping_sub(bytes);
    }

    /// What may have been written for a claim is garbage.
    pub(super) fn give_up(&mut self, id: FileId, name: TopicName, since_ms: i64) {
        if let Some(Claimed { part, .. }) = self.claims.remove(&id) {
            let ClaimPart { topic, partition, first, .. } = part;
            self.discard(id, Garbage { name, topic, partition, first, bytes: 0, since_ms });
        }
    }

    /// The last identity given to an archive file.
    pub fn last(&self) -> FileId {
        self.last
    }
}

impl ShardState {
    /// The state of a cluster that is restored from this one's: its regions are these, all of which hold every archive file,
    /// whose checksums are as given where they have changed.
    #[must_use]
    pub fn restored(mut self, regions: Regions, checksums: &BTreeMap<FileId, u32>) -> Self {
        let holders: Vec<_> = regions.iter().map(|record| record.number).collect();
        self.regions = regions;
        let logs = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        for log in logs {
            for file in &mut log.files {
                file.regions.clone_from(&holders);
                file.crc = checksums.get(&file.id).copied().unwrap_or(file.crc);
            }
            log.file_totals = FileTotals::of(&log.files);
        }
        self
    }
}

#[cfg(test)]
mod tests;
