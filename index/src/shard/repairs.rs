//! What regions miss of what they should hold, and how copying that comes on.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::{Shard, Shared, view::View};
use crate::{
    ids::RegionNo,
    names::RegionName,
    state::{ShardState, Sum},
};

/// Resolves when so many bytes may be copied.
pub type Throttle = Arc<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// When nothing was copied for so long, a rate begins anew.
const PAUSE: Duration = Duration::from_secs(10);

/// How repairing a region comes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairProgress {
    /// The region.
    pub region: RegionNo,
    /// Its name.
    pub name: RegionName,
    /// Archive files that it misses.
    pub files_missing: u64,
    /// Bytes of those.
    pub bytes_missing: u64,
    /// Copies of entries that it misses.
    pub copies_missing: u64,
    /// Objects copied to it in this reign.
    pub copied_objects: u64,
    /// Bytes of those, and of what is being copied.
    pub copied_bytes: u64,
    /// Bytes a second since copying began; 0 when nothing is being copied.
    pub bytes_per_second: u64,
    /// How long the archive files that are missing will take at that rate, in milliseconds, while something is copied.
    pub remaining_ms: Option<u64>,
}

/// What was copied to a region.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    objects: u64,
    bytes: u64,
    /// When the present stretch of copying began, when it last went on, and the bytes since it began.
    stretch: Option<(Instant, Instant, u64)>,
}

impl Copied {
    pub(super) fn note(&mut self, bytes: u64, whole: bool) {
        let now = Instant::now();
        self.objects += u64::from(whole);
        self.bytes += bytes;
        let (began, _, before) = self.stretch.filter(|(_, last, _)| *last + PAUSE > now).unwrap_or((now, now, 0));
        self.stretch = Some((began, now, before + bytes));
    }

    fn bytes_per_second(&self) -> u64 {
        let Some((began, last, bytes)) = self.stretch.filter(|(_, last, _)| last.elapsed() < PAUSE) else { return 0 };
        let ms = last.duration_since(began).as_millis().max(1);
        u64::try_from(u128::from(bytes) * 1_000 / ms).unwrap_or(u64::MAX)
    }
}

/// Archive files that a region misses, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What is known of all regions together.
#[derive(Default)]
pub(super) struct Repairs {
    throttle: RwLock<Option<Throttle>>,
    /// What regions missed by a version of the archive.
    missing: Mutex<(u128, Arc<BTreeMap<RegionNo, Missing>>)>,
}

impl Shared {
    /// Waits until so many bytes may be copied between regions.
    pub(super) async fn throttle(&self, bytes: u64) {
        let throttle = self.repairs.throttle.read().clone();
        if let Some(throttle) = throttle {
            throttle(bytes).await;
        }
    }

    /// Archive files that regions miss, those that miss none left out. Counted anew only when files or regions changed.
    pub(super) fn files_missing(&self) -> Arc<BTreeMap<RegionNo, Missing>> {
        let state = self.state.read();
        let version = version(&state);
        let mut known = self.repairs.missing.lock();
        if known.0 != version {
            *known = (version, Arc::new(missing(&state)));
        }
        known.1.clone()
    }
}

/// Changes whenever files or regions do.
fn version(state: &ShardState) -> u128 {
    let mut hash = Xxh3::new();
    // The first is that of no state at all.
    hash.update(&[1]);
    for record in state.regions.iter() {
        hash.update(&record.number.0.to_le_bytes());
    }
    for topic in state.topics().filter(|topic| topic.archive_version > 0) {
        hash.update(&topic.id.0.to_le_bytes());
        hash.update(&topic.archive_version.to_le_bytes());
    }
    hash.digest128()
}

fn missing(state: &ShardState) -> BTreeMap<RegionNo, Missing> {
    let mut missing: BTreeMap<RegionNo, Missing> = BTreeMap::new();
    for log in state.topics().flat_map(|topic| &topic.partitions) {
        for region in state.regions.iter().map(|record| record.number) {
            let Sum { files, bytes } = log.file_totals().missing_in(region);
            if files > 0 {
                let missing = missing.entry(region).or_default();
                missing.files += files;
                missing.bytes = missing.bytes.saturating_add(bytes);
            }
        }
    }
    missing
}

impl Shard {
    /// From now on copying bodies of entries between regions waits for this.
    pub fn set_throttle(&self, throttle: Throttle) {
        *self.shared.repairs.throttle.write() = Some(throttle);
    }

    /// How repairing regions comes on, by number: those that take part in the reign.
    pub fn repairs(&self) -> Vec<RepairProgress> {
        let missing = self.shared.files_missing();
        let of = |view: Arc<View>| {
            let Missing { files, bytes } = missing.get(&view.record.number).copied().unwrap_or_default();
            let copied = *view.repairs.lock();
            let rate = copied.bytes_per_second();
            let copies_missing = view.copies_missing.load(Relaxed);
            let busy = rate > 0 && files > 0;
            RepairProgress {
                region: view.record.number,
                name: view.record.name.clone(),
                files_missing: files,
                bytes_missing: bytes,
                copies_missing,
                copied_objects: copied.objects,
                copied_bytes: copied.bytes,
                bytes_per_second: rate,
                remaining_ms: busy.then(|| bytes.saturating_mul(1_000) / rate.max(1)),
            }
        };
        self.shared.views_all().into_iter().map(of).collect()
    }

    /// So many bytes of an object were copied to a region; `whole` with its last.
    pub fn note_repair(&self, region: RegionNo, bytes: u64, whole: bool) {
        let view = self.shared.views.read().get(&region).cloned();
        view.into_iter().for_each(|view| view.repairs.lock().note(bytes, whole));
    }
}
