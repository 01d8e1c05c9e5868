//! One region as a reign sees it, for everybody who reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use object_store::path::Path;

use crate::{
    ids::{Sequence, ShardId},
    journal::{Extents, Place},
    keys,
    region::RegionRecord,
    store::RegionStore,
};

/// A region that has joined a reign.
#[derive(Debug)]
pub(super) struct View {
    pub(super) record: RegionRecord,
    pub(super) store: RegionStore,
    /// Where it holds which entry.
    pub(super) extents: Extents,
    /// It has accepted all entries up to here.
    accepted: AtomicU64,
    /// Number of its newest floor.
    pub(super) floor: AtomicU64,
    /// How long reads from it take, in microseconds, averaged over the recent ones.
    latency_us: AtomicU64,
    /// Entries that it misses although a snapshot says that it has them; copies of them are on their way.
    pub(super) copies_missing: AtomicU64,
}

impl View {
    pub(super) fn new(
        record: RegionRecord,
        store: RegionStore,
        extents: Extents,
        accepted: Sequence,
        floor: u64,
    ) -> Self {
        let (latency_us, copies_missing) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { record, store, extents, accepted: accepted.0.into(), floor: floor.into(), latency_us, copies_missing }
    }

    pub(super) fn accepted(&self) -> Sequence {
        Sequence(self.accepted.load(Relaxed))
    }

    pub(super) fn set_accepted(&self, accepted: Sequence) {
        self.accepted.store(accepted.0, Relaxed);
    }

    /// Key of the object that holds an entry, if the region has it.
    pub(super) fn key_of(&self, shard: ShardId, sequence: Sequence) -> Option<Path> {
        if sequence > self.accepted() {
            return None;
        }
        Some(match self.extents.find(sequence)? {
            Place::Journal(slot) => keys::journal(shard, slot),
            Place::Copy => keys::copy(shard, sequence),
        })
    }

    pub(super) fn latency_us(&self) -> u64 {
        self.latency_us.load(Relaxed)
    }

    /// Takes in how long a read took. A read that failed counts as a slow one.
    pub(super) fn observe(&self, us: u64) {
        let before = self.latency_us();
        let now = if before == 0 { us } else { before - before / 8 + us / 8 };
        self.latency_us.store(now.max(1), Relaxed);
    }
}
