//! Deleting archive files that nothing refers to any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use brigade_index::{
    env::Env,
    ids::{RegionNo, TopicId},
    shard::{ProposeError, Shard},
};

/// Up to where views of topics have been published.
#[derive(Clone, Debug, Default)]
pub struct Published(BTreeMap<TopicId, u64>);

impl Published {
    /// The views of a topic tell of its archive in this version ([`brigade_index::state::Topic::archive_version`], or a
    /// later one), in every region.
    pub fn note(&mut self, topic: TopicId, version: u64) {
        let known = self.0.entry(topic).or_default();
        *known = version.max(*known);
    }

    /// The version that is published for sure; 0 when that is not known.
    pub fn version(&self, topic: TopicId) -> u64 {
        self.0.get(&topic).copied().unwrap_or_default()
    }
}

/// What came of a round of deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Files deleted in every region.
    pub files: u64,
    /// Their bytes, in one region.
    pub bytes: u64,
    /// When the next file may be deleted, milliseconds since the Unix epoch.
    pub next_ms: Option<i64>,
    /// Topics whose views must be published before their garbage may be deleted.
    pub unpublished: BTreeSet<TopicId>,
    /// Regions that could not be asked, so that garbage stays.
    pub unreachable: BTreeSet<RegionNo>,
}

/// Deletes garbage that is older than `delay`, in every region, and has the state forget what is gone.
///
/// # Errors
/// When the shard did not take the proposal; what was deleted is deleted again the next time.
pub async fn run(shard: &Shard, env: &Env, delay: Duration, published: &Published) -> Result<Deleted, ProposeError> {
    let _ = (shard, env, delay, published);
    Ok(Deleted::default())
}
