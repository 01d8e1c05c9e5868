//! Deleting archive files that nothing refers to any more: the intent is in the state, it is carried out here, in every
//! region, and only then does the state forget it. Whoever is interrupted leaves the intent to the next leader; to delete
//! what is gone already is no error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use brigade_index::{
    command::Command,
    env::Env,
    ids::{FileId, RegionNo, TopicId},
    keys::Key,
    limits::MAX_CLAIM_PARTS,
    names::TopicName,
    shard::{ProposeError, RegionHandle, Shard},
    state::{Garbage, ShardState},
    store::Component,
};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use crate::views;

/// Requests in flight.
const CONCURRENT: usize = 16;

/// Up to where views of topics have been published, and what was deleted while a region could not be asked.
#[derive(Clone, Debug, Default)]
pub struct Published {
    versions: BTreeMap<TopicId, u64>,
    /// Garbage that is gone from these regions, so that it is not deleted there again and again until all are back.
    gone: Arc<Mutex<BTreeSet<(FileId, RegionNo)>>>,
}

impl Published {
    /// The views of a topic tell of its archive in this version ([`brigade_index::state::Topic::archive_version`], or a
    /// later one), in every region.
    pub fn note(&mut self, topic: TopicId, version: u64) {
        let known = self.versions.entry(topic).or_default();
        *known = version.max(*known);
    }

    /// The version that is published for sure; 0 when that is not known.
    pub fn version(&self, topic: TopicId) -> u64 {
        self.versions.get(&topic).copied().unwrap_or_default()
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
    /// Regions that could not be asked, or have not done as they were asked, so that garbage stays.
    pub unreachable: BTreeSet<RegionNo>,
}

/// What may be deleted now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    files: Vec<(FileId, Key, u64)>,
    /// Topics that are gone, whose views go before the files.
    gone: BTreeMap<TopicId, TopicName>,
    next_ms: Option<i64>,
    unpublished: BTreeSet<TopicId>,
}

/// Deletes garbage that is older than `delay`, in every region of the cluster, and has the state forget what is gone. The
/// delay is a courtesy to readers that have just looked; nothing depends on it.
///
/// # Errors
/// When the shard did not take the proposal; what was deleted is deleted again the next time.
pub async fn run(shard: &Shard, env: &Env, delay: Duration, published: &Published) -> Result<Deleted, ProposeError> {
    let due = due(&shard.state(), env.clock.now_ms(), delay, published);
    let Due { mut files, gone, next_ms, unpublished } = due;
    let mut done = Deleted { next_ms, unpublished, ..Deleted::default() };
    if files.is_empty() {
        return Ok(done);
    }
    let (regions, absent) = regions(shard);
    done.unreachable = absent;
    let mut views_left = BTreeSet::new();
    for (topic, name) in &gone {
        if let Err(error) = views::remove(shard, name, *topic).await {
            tracing::warn!(%error, topic = %name, "views of a deleted topic are not removed yet");
            views_left.insert(*topic);
        }
    }
    if !views_left.is_empty() {
        // As long as there is garbage of a topic, somebody comes back for its views.
        let state = shard.state();
        let left = |id: &FileId| state.archive.garbage().get(id).is_some_and(|one| views_left.contains(&one.topic));
        files.retain(|(id, ..)| !left(id));
    }
    let all: Vec<_> = shard.state().regions.iter().map(|record| record.number).collect();
    for batch in files.chunks(MAX_CLAIM_PARTS) {
        delete(&regions, batch, published, &mut done.unreachable).await;
        let deleted: Vec<_> = {
            let gone = published.gone.lock();
            let everywhere = |id: FileId| all.iter().all(|region| gone.contains(&(id, *region)));
            batch.iter().filter(|(id, ..)| everywhere(*id)).collect()
        };
        if deleted.is_empty() {
            continue;
        }
        let ids = deleted.iter().map(|(id, ..)| *id).collect();
        shard.propose(vec![Command::Deleted(ids)]).await?;
        done.files += deleted.len() as u64;
        done.bytes += deleted.iter().map(|(.., bytes)| bytes).sum::<u64>();
        let mut gone = published.gone.lock();
        deleted
            .iter()
            .flat_map(|(id, ..)| all.iter().map(move |region| (*id, *region)))
            .for_each(|one| _ = gone.remove(&one));
    }
    Ok(done)
}

/// The regions that can be asked, and those that cannot: of what a region that is away may hold nothing is forgotten.
fn regions(shard: &Shard) -> (Vec<RegionHandle>, BTreeSet<RegionNo>) {
    let mut absent: BTreeSet<_> = shard.state().regions.iter().map(|record| record.number).collect();
    let answers = |region: &RegionHandle| !region.failing && absent.contains(&region.record.number);
    let regions: Vec<_> = shard.regions().into_iter().filter(answers).collect();
    regions.iter().for_each(|region| _ = absent.remove(&region.record.number));
    (regions, absent)
}

/// What is garbage, may be deleted now, and is not referred to by anything: neither state nor, as far as is known, views.
fn due(state: &ShardState, now_ms: i64, delay: Duration, published: &Published) -> Due {
    let mut due = Due::default();
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    for (id, garbage) in state.archive.garbage() {
        if is_needed(state, *id, garbage) {
            // It cannot be, and if it is, then deleting it would be the end of it.
            tracing::error!(file = %id, key = %garbage.key(*id), "an archive file that is in use is listed as garbage; it stays");
            continue;
        }
        let from_ms = garbage.since_ms.saturating_add(delay_ms);
        // A clock that went back must not keep it for ever.
        if from_ms > now_ms && garbage.since_ms <= now_ms {
            due.next_ms = Some(due.next_ms.map_or(from_ms, |next: i64| next.min(from_ms)));
            continue;
        }
        match state.topic(garbage.topic) {
            None => _ = due.gone.insert(garbage.topic, garbage.name.clone()),
            // What was never put in place is in no view.
            Some(topic) if garbage.bytes > 0 && published.version(topic.id) < topic.archive_version => {
                due.unpublished.insert(topic.id);
                continue;
            }
            Some(_) => {}
        }
        due.files.push((*id, garbage.key(*id), garbage.bytes));
    }
    due
}

fn is_needed(state: &ShardState, id: FileId, garbage: &Garbage) -> bool {
    let log = state.topic(garbage.topic).and_then(|topic| topic.partition(garbage.partition));
    let referenced = log.is_some_and(|log| log.files().iter().any(|file| file.id == id));
    referenced || state.archive.claims().contains_key(&id)
}

/// Deletes files in these regions, and notes which are gone from which. A region that does not do as it is asked is not
/// asked again.
async fn delete(
    regions: &[RegionHandle],
    batch: &[(FileId, Key, u64)],
    published: &Published,
    unreachable: &mut BTreeSet<RegionNo>,
) {
    let left: Vec<_> = {
        let gone = published.gone.lock();
        let each = regions.iter().flat_map(|region| batch.iter().map(move |file| (file, region)));
        each.filter(|((id, ..), region)| !gone.contains(&(*id, region.record.number))).collect()
    };
    let failed = Mutex::new(std::mem::take(unreachable));
    stream::iter(left)
        .for_each_concurrent(CONCURRENT, async |((id, key, _), region)| {
            let number = region.record.number;
            if failed.lock().contains(&number) {
                return;
            }
            match region.store.delete(Component::Compactor, key).await {
                Ok(()) => _ = published.gone.lock().insert((*id, number)),
                Err(error) => {
                    if failed.lock().insert(number) {
                        tracing::warn!(%error, "an archive file is not deleted yet");
                    }
                }
            }
        })
        .await;
    *unreachable = failed.into_inner();
}

#[cfg(test)]
mod tests;
