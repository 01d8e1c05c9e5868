//! Reading a region's path from its store, ahead of the fold.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use crate::{
    format::{Floor, FrameError, Record},
    ids::ShardId,
    keys::{self, Slot},
    store::{Component, RegionStore, StoreError},
};

/// First bytes read of every object: holds the section of all but the largest entries, so that recovery costs one GET an
/// entry and skips inline batches.
const FIRST_READ: u64 = 16 * 1024;

/// Most objects read ahead: at 30 ms a read these are 4,000 entries a second, and 2 MiB of memory.
const MAX_AHEAD: usize = 128;

/// Reads a path slot by slot, a growing number of slots ahead.
pub(super) struct PathReader {
    shard: ShardId,
    store: RegionStore,
    ahead: VecDeque<(Slot, Reading)>,
    depth: usize,
}

impl PathReader {
    pub(super) fn new(shard: ShardId, store: RegionStore) -> Self {
        Self { shard, store, ahead: VecDeque::new(), depth: 1 }
    }

    /// The record at `slot`, or `None` when there is no object.
    pub(super) async fn read(&mut self, slot: Slot) -> Result<Option<Record>, StartError> {
        if self.ahead.front().is_none_or(|(front, _)| *front != slot) {
            self.forget();
        }
        while self.ahead.len() < self.depth {
            let next = self.ahead.back().map_or(slot, |(last, _)| last.next());
            self.ahead.push_back((
                next,
                AbortOnDropHandle::new(tokio::spawn(first_bytes(self.shard, self.store.clone(), next))),
            ));
        }
        let Some((_, bytes)) = self.ahead.pop_front() else { return Ok(None) };
        let read = bytes.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let Some(bytes) = read? else {
            self.forget();
            return Ok(None);
        };
        // No more ahead than was read already, so that what is read past the end costs no more than the rest.
        self.depth = (self.depth + 1).min(MAX_AHEAD);
        let damaged =
            |error: FrameError| StartError::damaged(self.store.region(), &keys::journal(self.shard, slot), &error);
        Record::decode(&bytes).map(Some).map_err(damaged)
    }

    /// Forgets what was read ahead: it may be out of date.
    pub(super) fn forget(&mut self) {
        self.ahead.clear();
        self.depth = 1;
    }
}

/// A read that goes on by itself, and ends when nobody wants it any more.
type Reading = AbortOnDropHandle<Result<Option<Bytes>, StoreError>>;

/// The first bytes of the object at `slot`, to the end of its section.
async fn first_bytes(shard: ShardId, store: RegionStore, slot: Slot) -> Result<Option<Bytes>, StoreError> {
    let key = keys::journal(shard, slot);
    let Some(bytes) = store.get_range(Component::Journal, &key, 0..FIRST_READ).await? else { return Ok(None) };
    match Record::needed(&bytes) {
        Ok(needed) if needed > bytes.len() && bytes.len() as u64 == FIRST_READ => {
            store.get_range(Component::Journal, &key, 0..needed as u64).await
        }
        // Whole, or damaged: decoding tells.
        _ => Ok(Some(bytes)),
    }
}

/// The newest floor of the region, found by listing.
pub(super) async fn newest_floor(shard: ShardId, store: &RegionStore) -> Result<Option<Floor>, StartError> {
    Ok(floors(shard, store).await?.map(|(newest, _)| newest))
}

/// The newest floor of the region, found by listing, and the numbers of those before it that are still there.
pub(super) async fn floors(shard: ShardId, store: &RegionStore) -> Result<Option<(Floor, Vec<u64>)>, StartError> {
    // Between the two requests several others may be written, and this one deleted; not again and again, though.
    let mut attempts = 3;
    loop {
        let keys = store.list(Component::Journal, &keys::floors(shard)).await?;
        let mut numbers: Vec<_> = keys.iter().filter_map(|key| keys::parse_floor(shard, key)).collect();
        numbers.sort_unstable();
        let Some(newest) = numbers.pop() else { return Ok(None) };
        let key = keys::floor(shard, newest);
        attempts -= 1;
        match store.get(Component::Journal, &key).await? {
            Some(bytes) => {
                let floor = Floor::decode(&bytes);
                let floor = floor.map_err(|error| StartError::damaged(store.region(), &key, &error))?;
                return Ok(Some((floor, numbers)));
            }
            None if attempts > 0 => {}
            None => return Err(StartError::missing(store.region(), &key)),
        }
    }
}
