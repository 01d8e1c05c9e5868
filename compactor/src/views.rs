//! What is published of the archive for other programs: in every region `latest.json` and an Iceberg table, which list the
//! archive files of a topic that the region holds.
//!
//! Views are derived from the state and from nothing else; whoever leads writes them, and no part of Brigade reads them.
//! Of a version of the archive every leader writes the same table.

mod avro;
mod iceberg;
mod listing;
mod manifest;
mod schemas;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path};

use brigade_index::{
    ids::TopicId,
    keys::{self, Key},
    names::TopicName,
    region::RegionRecord,
    shard::{RegionHandle, Shard},
    store::{Component, RegionStore, StoreError},
};
use bytes::Bytes;
use futures::future::join_all;

use self::listing::{Listing, Place};

/// Versions of a topic's Iceberg table that stay, so that whoever began to read one of them finds its metadata.
const KEEP_VERSIONS: usize = 10;

/// Regions whose views are not what the state says.
#[derive(Debug, thiserror::Error)]
#[error("views of the archive of topic {name} are out of date: {}", list(failed))]
pub struct ViewError {
    /// The topic.
    pub topic: TopicId,
    /// Its name.
    pub name: TopicName,
    /// What went wrong, one a region.
    pub failed: Vec<ViewFailure>,
    /// Regions that were to have them.
    regions: usize,
}

impl ViewError {
    /// Whether nothing is wrong but that a minority of the regions is away.
    pub fn is_absence(&self) -> bool {
        self.failed.len() < self.regions.div_ceil(2) && self.failed.iter().all(ViewFailure::is_absence)
    }
}

/// Why the views of one region are out of date.
#[derive(Debug, thiserror::Error)]
pub enum ViewFailure {
    /// Its last request failed, so that it was not even asked.
    #[error("region {0} does not answer; they are written again when it does")]
    Unreachable(String),
    /// Its store failed.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// The list could not be written down.
    #[error("latest.json: {0}")]
    Json(#[from] serde_json::Error),
}

impl ViewFailure {
    /// Whether the region does not answer, or cannot at present.
    fn is_absence(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Store(error) => error.kind.is_transient(),
            Self::Json(_) => false,
        }
    }
}

fn list(failed: &[ViewFailure]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Publishes the archive files of a topic in every region that can be reached. Of a topic that is gone, or was never
/// archived, there is nothing to publish.
///
/// Gives the version that is published now.
///
/// # Errors
/// Which regions were not reached, or refused it; the others have it all the same.
pub async fn publish(shard: &Shard, topic: TopicId) -> Result<u64, ViewError> {
    let listing = shard.state().topic(topic).map(|topic| Listing::of(shard.cluster_id(), topic));
    let Some(listing) = listing.filter(|listing| listing.version > 0) else { return Ok(0) };
    let listing = &listing;
    in_all_regions(shard, (topic, &listing.name), |region| async move { publish_in(&region, listing).await }).await?;
    Ok(listing.version)
}

/// Removes the views of a topic that is deleted. `latest.json` stays if a newer topic of that name has one.
///
/// # Errors
/// In which regions they may be left.
pub async fn remove(shard: &Shard, name: &TopicName, topic: TopicId) -> Result<(), ViewError> {
    let latest = shard.state().topic_named(name).is_none_or(|newer| newer.archive_version == 0);
    let metadata = keys::metadata(name, topic);
    let metadata = &metadata;
    in_all_regions(shard, (topic, name), |RegionHandle { store, .. }| async move {
        if latest {
            store.delete(Component::Compactor, &keys::latest(name)).await?;
        }
        for key in store.list(Component::Compactor, metadata).await? {
            store.delete(Component::Compactor, &key).await?;
        }
        Ok(())
    })
    .await
}

/// No async closure: the compiler would not believe that its future may move to another thread.
async fn in_all_regions<W: Future<Output = Result<(), ViewFailure>>>(
    shard: &Shard,
    (topic, name): (TopicId, &TopicName),
    work: impl Fn(RegionHandle) -> W,
) -> Result<(), ViewError> {
    let regions = shard.regions();
    // One that has not joined the reign yet is no less a region.
    let absent: Vec<_> = {
        let state = shard.state();
        let joined = |number| regions.iter().any(|region| region.record.number == number);
        state.regions.iter().filter(|record| !joined(record.number)).map(|record| record.name.to_string()).collect()
    };
    let results = join_all(regions.into_iter().map(|region| {
        let (failing, name) = (region.failing, region.record.name.to_string());
        let working = work(region);
        async move { if failing { Err(ViewFailure::Unreachable(name)) } else { working.await } }
    }));
    let absent = absent.into_iter().map(|name| Err(ViewFailure::Unreachable(name)));
    let results: Vec<_> = results.await.into_iter().chain(absent).collect();
    let regions = results.len();
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(ViewError { topic, name: name.clone(), failed, regions }) }
}

async fn publish_in(region: &RegionHandle, listing: &Listing) -> Result<(), ViewFailure> {
    let Listing { name, topic, version, .. } = listing;
    let (place, store) = (place(&region.record), &region.store);
    // What refers to something is written after it; a reader finds whole versions only.
    for (key, bytes) in iceberg::table(listing, &place) {
        overwrite(store, &key, bytes).await?;
    }
    overwrite(store, &keys::version_hint(name, *topic), version.to_string().into_bytes()).await?;
    overwrite(store, &keys::latest(name), manifest::latest(listing, &place)?).await?;
    let there = store.list(Component::Compactor, &keys::metadata(name, *topic)).await?;
    for key in outdated(listing, &there) {
        store.delete(Component::Compactor, key).await?;
    }
    Ok(())
}

/// Objects of versions that are followed by enough others. A version above this one is a later leader's, and no business
/// of ours.
fn outdated<'a>(listing: &Listing, there: &'a [Key]) -> impl Iterator<Item = &'a Key> {
    let (name, topic, newest) = (listing.name.clone(), listing.topic, listing.version);
    let version = move |key: &Key| keys::parse_table_version(&name, topic, key);
    let versions: BTreeSet<_> = there.iter().filter_map(&version).filter(|version| *version <= newest).collect();
    let oldest = versions.into_iter().nth_back(KEEP_VERSIONS - 1).unwrap_or(0);
    there.iter().filter(move |key| version(key).is_some_and(|version| version < oldest))
}

async fn overwrite(store: &RegionStore, key: &Key, bytes: Vec<u8>) -> Result<(), StoreError> {
    store.overwrite(Component::Compactor, key, Bytes::from(bytes).into()).await
}

/// A directory may be named from the working directory; other programs have another one.
fn place(record: &RegionRecord) -> Place {
    let directory = record.url.strip_prefix("file://").and_then(|path| std::path::absolute(Path::new(path)).ok());
    let url = directory.map_or_else(|| record.url.clone(), |path| format!("file://{}", path.display()));
    Place { number: record.number, name: record.name.clone(), region_id: record.region_id.clone(), url }
}
