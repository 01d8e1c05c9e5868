//! What regions miss of what they should hold, and how copying that comes on.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::Shard;
use crate::{ids::RegionNo, names::RegionName};

/// Resolves when so many bytes may be copied.
pub type Throttle = Arc<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// How repairing a region comes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairProgress {
    /// The region.
    pub region: RegionNo,
    /// Its name.
    pub name: RegionName,
    /// Archive files and copies of entries that it misses.
    pub objects_missing: u64,
    /// Bytes of those archive files.
    pub bytes_missing: u64,
    /// Objects copied to it in this reign.
    pub copied_objects: u64,
    /// Bytes of those.
    pub copied_bytes: u64,
    /// Bytes a second while it was last copied to; 0 when nothing is being copied.
    pub bytes_per_second: u64,
    /// How long the rest will take at that rate, in milliseconds, where that can be said.
    pub remaining_ms: Option<u64>,
}

impl Shard {
    /// From now on copies between regions wait for this.
    pub fn set_throttle(&self, throttle: Throttle) {
        let _ = throttle;
    }

    /// How repairing regions comes on, by number.
    pub fn repairs(&self) -> Vec<RepairProgress> {
        Vec::new()
    }

    /// So many bytes of an archive file were copied to a region; `whole` with its last.
    pub fn note_repair(&self, region: RegionNo, bytes: u64, whole: bool) {
        let _ = (region, bytes, whole);
    }
}
