//! Whole row groups of archive files, fetched ahead for who reads on and on: one request instead of one or two for each
//! block, and kept as they are in the file, which is several times smaller than decoded.
//!
//! They are a short cut and nothing else: a block that cannot be decoded out of one is fetched by itself.

use std::{collections::HashSet, ops::Range, sync::Arc};

use brigade_index::{
    archive::{ArchiveFile, Footer},
    ids::{FileId, Partition, TopicId},
    shard::FetchError,
};
use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3Builder;

use super::{BatchCache, Fetched, Wanted, files::Place};

/// Row groups that are on their way, by their files and numbers.
pub(super) type Coming = Arc<Mutex<HashSet<(FileId, usize), Xxh3Builder>>>;

/// A row group that is being fetched, for as long as this lives: who needs a block of it waits for it.
pub(crate) struct GroupTicket {
    coming: Coming,
    group: (FileId, usize),
}

impl Drop for GroupTicket {
    fn drop(&mut self) {
        self.coming.lock().remove(&self.group);
    }
}

impl BatchCache {
    /// Announces that a row group will be fetched; `None` if somebody else has.
    pub(crate) fn announce_group(&self, file: FileId, number: usize) -> Option<GroupTicket> {
        let group = (file, number);
        self.coming.lock().insert(group).then(|| GroupTicket { coming: self.coming.clone(), group })
    }

    /// Fetches a row group that was announced.
    pub(crate) async fn fetch_group(
        &self,
        topic: TopicId,
        partition: Partition,
        file: &Arc<ArchiveFile>,
        ticket: GroupTicket,
    ) -> Result<(), FetchError> {
        let place = self.place(topic, partition, file)?;
        let footer = self.footer(&place).await?;
        self.group(&place, &footer, ticket.group.1).await.map(|_| ())
    }

    /// Whether a row group is at hand or on its way. It counts as used, so that it is not pushed out by what was read.
    pub(crate) fn keep_group(&self, file: FileId, number: usize) -> bool {
        self.fetched.get(&Wanted::Group(file, number)).is_some() || self.coming.lock().contains(&(file, number))
    }

    /// The bytes of a row group and where they are in the file, if they are at hand or on their way.
    pub(super) async fn group_at_hand(
        &self,
        place: &Place,
        footer: &Footer,
        number: usize,
    ) -> Option<(Range<u64>, Bytes)> {
        let bytes = if self.coming.lock().contains(&(place.file.id, number)) {
            self.group(place, footer, number).await.ok()?
        } else {
            match self.fetched.get(&Wanted::Group(place.file.id, number))? {
                Fetched::Group(bytes) => bytes,
                Fetched::Batch(_) | Fetched::Footer(_) | Fetched::Block(_) => return None,
            }
        };
        Some((footer.group_range(number), bytes))
    }

    async fn group(&self, place: &Place, footer: &Footer, number: usize) -> Result<Bytes, FetchError> {
        let fetch = async {
            self.metrics.cache_miss();
            let range = footer.group_range(number);
            self.log.fetch_file(&place.key, &place.file.regions, range).await.map(Fetched::Group)
        };
        match self.fetch(Wanted::Group(place.file.id, number), fetch).await? {
            Fetched::Group(bytes) => Ok(bytes),
            Fetched::Batch(_) | Fetched::Footer(_) | Fetched::Block(_) => {
                unreachable!("what is kept is what was wanted")
            }
        }
    }
}
