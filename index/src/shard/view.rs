//! One region as a reign sees it, for everybody who reads.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use object_store::path::Path;
use parking_lot::Mutex;

use super::{repairs::Copied, truncate::Truncation};
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
    /// Three of four appends take no longer than this, in microseconds; an estimate that moves with every append.
    append_us: AtomicU64,
    /// So many of the reign's objects were found to be there, from the first one on.
    pub(super) checked: AtomicU64,
    /// Entries that it misses although a snapshot says that it has them; copies of them are on their way.
    pub(super) copies_missing: AtomicU64,
    /// Objects of entries up to here may be gone from it, those whose bodies nobody needs.
    truncated: AtomicU64,
    /// What was deleted from it in this reign.
    pub(super) truncation: Mutex<Truncation>,
    /// What was copied to it in this reign.
    pub(super) repairs: Mutex<Copied>,
}

impl View {
    pub(super) fn new(
        record: RegionRecord,
        store: RegionStore,
        extents: Extents,
        accepted: Sequence,
        (floor, truncated): (u64, Sequence),
    ) -> Self {
        Self {
            record,
            store,
            extents,
            accepted: accepted.0.into(),
            floor: floor.into(),
            latency_us: 0.into(),
            append_us: 0.into(),
            checked: 0.into(),
            copies_missing: 0.into(),
            truncated: truncated.0.into(),
            truncation: Mutex::default(),
            repairs: Mutex::default(),
        }
    }

    /// Objects of entries up to here may be gone from it.
    pub(super) fn truncated(&self) -> Sequence {
        Sequence(self.truncated.load(Relaxed))
    }

    /// A mark in it says that objects of entries up to here may be gone.
    pub(super) fn set_truncated(&self, truncated: Sequence) {
        self.truncated.fetch_max(truncated.0, Relaxed);
    }

    /// It has every entry behind this one, up to what it has accepted: those before may be gone, or never were in it as
    /// entries, since it was given a snapshot in their place.
    pub(super) fn replays_from(&self) -> Sequence {
        replays_from(&self.extents, self.truncated(), self.accepted())
    }

    /// Where it holds which entry, without what was deleted.
    pub(super) fn extents_alive(&self) -> Extents {
        let truncation = self.truncation.lock();
        match truncation.clean() {
            Some((end, bodies)) => self.extents.without_dead(end, bodies),
            None => self.extents.clone(),
        }
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

    /// How long three of four appends take at most; zero before the first.
    pub(super) fn append_time(&self) -> Duration {
        Duration::from_micros(self.append_us.load(Relaxed))
    }

    /// Takes in how long an append took.
    pub(super) fn appended(&self, took: Duration) {
        let (us, before) = (u64::try_from(took.as_micros()).unwrap_or(u64::MAX), self.append_us.load(Relaxed));
        let step = before / APPEND_STEPS;
        let now = match before {
            0 => us,
            // Something has changed: there is no need to creep up to it.
            _ if us / 4 > before => before * 2,
            _ if us > before => before + (3 * step).min(us - before),
            _ => before - step.min(before - us),
        };
        self.append_us.store(now.max(1), Relaxed);
    }
}

/// See [`View::replays_from`].
pub(super) fn replays_from(extents: &Extents, truncated: Sequence, accepted: Sequence) -> Sequence {
    let copies = extents.copies(accepted.next());
    copies.last().map_or(truncated, |(_, end)| truncated.max(Sequence(end.0 - 1)))
}

/// An append moves the estimate of what appends take by one part in so many, or by three when it took longer: at rest when
/// one in four does.
const APPEND_STEPS: u64 = 64;

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::{
        env::Env,
        ids::RegionNo,
        names::RegionName,
        store::{StoreMetrics, StoreTiming},
    };

    #[test]
    fn the_usual_time_of_an_append_is_the_third_quartile() {
        let name = RegionName::new("a").unwrap();
        let env = Env::simulated(1, 0);
        let store = std::sync::Arc::new(InMemory::new());
        let store = RegionStore::new(name.clone(), store, StoreMetrics::new(), StoreTiming::default(), env);
        let record = RegionRecord { number: RegionNo(0), name, region_id: String::new(), url: String::new() };
        let view = View::new(record, store, Extents::default(), Sequence(0), (0, Sequence(0)));
        assert_eq!(view.append_time(), Duration::ZERO);
        for round in 0..4_000_u64 {
            view.appended(Duration::from_millis(10 + round * 37 % 100));
        }
        let estimate = view.append_time().as_millis();
        assert!((75..95).contains(&estimate), "{estimate} ms");
    }
}
