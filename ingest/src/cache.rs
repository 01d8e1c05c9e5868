//! Batches kept for readers, bounded by bytes.
//!
//! Three shelves: the tail (what was published last, put there before its publish is acknowledged, so that following
//! readers never go to the store), what was fetched from the store (each batch and each block of an archive file once,
//! however many wait for it), and a few decoded batches, because a reader that takes a thousand messages at a time comes
//! back to the same batch. Catching up fills the second and third shelf and leaves the tail alone. Blocks of archive
//! files are kept decoded: reading the same one again is common, and they decode slowly. For who catches up the row
//! groups that come next are kept as they are in the file.

use std::collections::{HashMap, VecDeque};

use brigade_index::{
    archive::Footer,
    batch::{Messages, decode},
    ids::FileId,
    shard::FetchError,
    state::BatchLocation,
};
use bytes::Bytes;
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3Builder;

use self::{flight::Flights, groups::Coming};
use crate::{IngestMetrics, chunk::Chunk, log::Log};

mod files;
mod flight;
mod groups;

pub(crate) use files::Found;

/// Bookkeeping of one cached batch, in bytes, so that very many tiny batches are bounded too.
const OVERHEAD: usize = 256;

/// First in, first out by bytes. The map is looked up, never iterated.
#[derive(Debug)]
struct Shelf<V> {
    items: HashMap<BatchLocation, (V, usize), Xxh3Builder>,
    order: VecDeque<BatchLocation>,
    bytes: usize,
    limit: usize,
}

impl<V: Clone> Shelf<V> {
    fn new(limit: usize) -> Self {
        Self { items: HashMap::with_hasher(Xxh3Builder::new()), order: VecDeque::new(), bytes: 0, limit }
    }

    fn get(&self, location: &BatchLocation) -> Option<V> {
        self.items.get(location).map(|(value, _)| value.clone())
    }

    fn put(&mut self, location: BatchLocation, value: V, bytes: usize) {
        let bytes = bytes + OVERHEAD;
        if bytes > self.limit || self.items.contains_key(&location) {
            return;
        }
        while self.bytes + bytes > self.limit
            && let Some((_, freed)) = self.order.pop_front().and_then(|oldest| self.items.remove(&oldest))
        {
            self.bytes -= freed;
        }
        self.items.insert(location, (value, bytes));
        self.order.push_back(location);
        self.bytes += bytes;
    }
}

/// What is fetched from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Batch(BatchLocation),
    Footer(FileId),
    /// A row group, as it is in the file.
    Group(FileId, usize),
    Block(FileId, usize),
}

/// What was fetched.
#[derive(Clone)]
enum Fetched {
    Batch(Bytes),
    Footer(Footer),
    Group(Bytes),
    Block(Chunk),
}

impl Fetched {
    fn memory(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Batch(bytes) | Self::Group(bytes) => bytes.len(),
                Self::Footer(footer) => footer.memory(),
                Self::Block(chunk) => chunk.memory(),
            }
    }
}

/// The cache in front of a shard's batches and archive files.
pub(crate) struct BatchCache {
    log: Log,
    metrics: IngestMetrics,
    tail: Mutex<Shelf<Bytes>>,
    fetched: Cache<Wanted, Fetched, Xxh3Builder>,
    /// What is being fetched.
    flights: Flights<Wanted, Result<Fetched, FetchError>>,
    decoded: Mutex<Shelf<Messages>>,
    /// Row groups that are on their way.
    coming: Coming,
}

impl BatchCache {
    /// Half of `bytes` is for the tail, three eighths for what is fetched, an eighth for what is decoded.
    pub(crate) fn new(log: Log, bytes: u64, metrics: IngestMetrics) -> Self {
        let eighth = usize::try_from(bytes / 8).unwrap_or(usize::MAX / 8);
        let fetched = Cache::builder()
            .max_capacity(3 * eighth as u64)
            .weigher(|_, fetched: &Fetched| u32::try_from(fetched.memory()).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(Xxh3Builder::new());
        let (tail, decoded) = (Mutex::new(Shelf::new(4 * eighth)), Mutex::new(Shelf::new(eighth)));
        Self { log, metrics, tail, fetched, flights: Flights::default(), decoded, coming: Coming::default() }
    }

    /// Keeps a batch that was just published. Called on the shard's task: quick.
    pub(crate) fn published(&self, location: BatchLocation, bytes: Bytes) {
        let len = bytes.len();
        self.metrics.batch_committed(len);
        self.tail.lock().put(location, bytes, len);
    }

    /// The messages of a batch, from the nearest shelf or the store.
    pub(crate) async fn messages(&self, location: &BatchLocation) -> Result<Messages, FetchError> {
        if let Some(messages) = self.decoded.lock().get(location) {
            self.metrics.cache_hit();
            return Ok(messages);
        }
        let bytes = self.bytes(location).await?;
        let messages = decode(&bytes).map_err(|problem| FetchError::Damaged {
            key: format!("entry {}, batch at {}", location.sequence, location.at),
            problem: problem.to_string(),
        })?;
        self.decoded.lock().put(*location, messages.clone(), messages.memory());
        Ok(messages)
    }

    async fn bytes(&self, location: &BatchLocation) -> Result<Bytes, FetchError> {
        if let Some(bytes) = self.tail.lock().get(location) {
            self.metrics.cache_hit();
            return Ok(bytes);
        }
        let fetch = async {
            self.metrics.cache_miss();
            // A copy of its own: what the store hands out may be a slice of something larger, which it would keep alive.
            self.log.fetch(location).await.map(|bytes| Fetched::Batch(Bytes::copy_from_slice(&bytes)))
        };
        match self.fetch(Wanted::Batch(*location), fetch).await? {
            Fetched::Batch(bytes) => Ok(bytes),
            Fetched::Footer(_) | Fetched::Group(_) | Fetched::Block(_) => {
                unreachable!("what is kept is what was wanted")
            }
        }
    }

    /// What is wanted, from the second shelf or else from the store: once, however many wait for it.
    async fn fetch(
        &self,
        wanted: Wanted,
        fetch: impl Future<Output = Result<Fetched, FetchError>>,
    ) -> Result<Fetched, FetchError> {
        if let Some(fetched) = self.fetched.get(&wanted) {
            self.metrics.cache_hit();
            return Ok(fetched);
        }
        // In a box: what waits for one fetch within another grows large.
        let fetch = Box::pin(async {
            // Somebody else may have put it there just now.
            if let Some(fetched) = self.fetched.get(&wanted) {
                self.metrics.cache_hit();
                return Ok(fetched);
            }
            let fetched = fetch.await?;
            self.fetched.insert(wanted, fetched.clone());
            // What is too much goes now, not when the cache next looks at the clock: memory stays within its limit, and a
            // simulation depends on nothing but itself.
            self.fetched.run_pending_tasks();
            Ok(fetched)
        });
        self.flights.join(wanted, fetch).await
    }

    /// Most bytes of what is fetched.
    pub(crate) fn room(&self) -> u64 {
        self.fetched.policy().max_capacity().unwrap_or_default()
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> u64 {
        self.fetched.weighted_size() + (self.tail.lock().bytes + self.decoded.lock().bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use brigade_index::ids::Sequence;
    use proptest::prelude::*;

    use super::*;

    fn location(at: u64) -> BatchLocation {
        BatchLocation { sequence: Sequence(1), at, len: 1, crc: 0 }
    }

    proptest! {
        #[test]
        fn a_shelf_holds_the_newest_within_its_limit(puts in proptest::collection::vec((0..40u64, 0..3_000usize), 0..80)) {
            let mut shelf = Shelf::new(8_000);
            for (at, bytes) in puts {
                shelf.put(location(at), at, bytes);
                prop_assert!(shelf.bytes <= 8_000);
                prop_assert_eq!(shelf.get(&location(at)), Some(at));
                prop_assert_eq!(shelf.items.len(), shelf.order.len());
                prop_assert_eq!(shelf.bytes, shelf.items.values().map(|(_, bytes)| bytes).sum::<usize>());
            }
        }
    }

    #[test]
    fn what_is_larger_than_the_shelf_pushes_nothing_out() {
        let mut shelf = Shelf::new(1_000);
        shelf.put(location(1), 1, 100);
        shelf.put(location(2), 2, 1_000);
        assert_eq!((shelf.get(&location(1)), shelf.get(&location(2))), (Some(1), None));
    }
}
