//! Deleting archive files that nothing refers to any more: the intent is in the state, it is carried out here, in every
//! region, and only then does the state forget it. Whoever is interrupted leaves the intent to the next leader; to delete
//! what is gone already is no error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use brigade_index::{
    archive::ArchiveFile,
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
use tokio::time::Instant;

use crate::{
    views,
    worker::{
        Pace,
        failures::{Pause, Pauses},
    },
};

/// Requests in flight.
const CONCURRENT: usize = 16;

/// Up to where views of topics have been published, and what was deleted while a region could not be asked.
#[derive(Clone, Debug)]
pub struct Published {
    versions: BTreeMap<TopicId, u64>,
    /// Garbage that is gone from these regions, so that it is not deleted there again and again until all are back.
    gone: Arc<Mutex<BTreeSet<(FileId, RegionNo)>>>,
    /// How removing the views of topics that are gone comes on.
    removals: Arc<Mutex<BTreeMap<TopicId, Removal>>>,
    pauses: Pauses,
}

/// How removing the views of a topic comes on.
#[derive(Clone, Copy, Debug)]
enum Removal {
    /// They are gone from every region, and nobody writes them again.
    Done,
    /// It failed, and is tried again after a pause.
    Failed(Pause),
}

impl Default for Published {
    fn default() -> Self {
        Self::new(Pace::default().pauses)
    }
}

impl Published {
    /// Nothing is known yet. The first and the longest pause after views could not be removed; it doubles with each failure.
    pub fn new(pauses: (Duration, Duration)) -> Self {
        Self { versions: BTreeMap::new(), gone: Arc::default(), removals: Arc::default(), pauses }
    }

    /// What failed is tried again at once.
    pub fn try_anew(&self) {
        self.removals.lock().retain(|_, removal| matches!(removal, Removal::Done));
    }

    fn must_remove(&self, topic: TopicId) -> Option<bool> {
        match self.removals.lock().get(&topic) {
            Some(Removal::Done) => None,
            Some(Removal::Failed(pause)) => Some(pause.is_over(Instant::now())),
            None => Some(true),
        }
    }

    fn note_removal(&self, topic: TopicId, done: bool) {
        let mut removals = self.removals.lock();
        let removal = removals.entry(topic).or_insert(Removal::Failed(Pause::default()));
        match removal {
            Removal::Failed(pause) if !done => pause.failed(Instant::now(), self.pauses),
            removal => *removal = Removal::Done,
        }
    }

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

/// A file that may be deleted.
#[derive(Debug, PartialEq, Eq)]
struct Doomed {
    id: FileId,
    topic: TopicId,
    key: Key,
    bytes: u64,
    /// The regions that hold what came in its place, if anything did: in the others it stays until they do, so that no
    /// region has neither.
    replaced_in: Option<Vec<RegionNo>>,
}

impl Doomed {
    fn may_go_from(&self, region: RegionNo) -> bool {
        self.replaced_in.as_ref().is_none_or(|holders| holders.contains(&region))
    }
}

/// What may be deleted now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    files: Vec<Doomed>,
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
    let Due { files, gone, next_ms, unpublished } = due;
    let mut done = Deleted { next_ms, unpublished, ..Deleted::default() };
    if files.is_empty() {
        return Ok(done);
    }
    let (regions, absent) = regions(shard);
    done.unreachable = absent;
    published.removals.lock().retain(|topic, _| gone.contains_key(topic));
    let views_left = remove_views(shard, gone, published, &done.unreachable).await;
    let all: Vec<_> = shard.state().regions.iter().map(|record| record.number).collect();
    for batch in files.chunks(MAX_CLAIM_PARTS) {
        delete(&regions, batch, published, &mut done.unreachable).await;
        let deleted: Vec<_> = {
            let gone = published.gone.lock();
            let everywhere = |id: FileId| all.iter().all(|region| gone.contains(&(id, *region)));
            // As long as there is garbage of a topic, somebody comes back for its views.
            batch.iter().filter(|file| everywhere(file.id) && !views_left.contains(&file.topic)).collect()
        };
        if deleted.is_empty() {
            continue;
        }
        let ids = deleted.iter().map(|file| file.id).collect();
        shard.propose(vec![Command::Deleted(ids)]).await?;
        done.files += deleted.len() as u64;
        done.bytes += deleted.iter().map(|file| file.bytes).sum::<u64>();
        let forgotten: BTreeSet<_> = deleted.iter().map(|file| file.id).collect();
        published.gone.lock().retain(|(id, _)| !forgotten.contains(id));
    }
    Ok(done)
}

/// Removes the views of topics that are gone, once all regions can be asked, and not again and again; gives those whose views
/// may be left.
async fn remove_views(
    shard: &Shard,
    gone: BTreeMap<TopicId, TopicName>,
    published: &Published,
    unreachable: &BTreeSet<RegionNo>,
) -> BTreeSet<TopicId> {
    let mut left = BTreeSet::new();
    for (topic, name) in gone {
        let Some(now) = published.must_remove(topic) else { continue };
        if !now || !unreachable.is_empty() {
            left.insert(topic);
            continue;
        }
        let removed = views::remove(shard, &name, topic).await;
        published.note_removal(topic, removed.is_ok());
        if let Err(error) = removed {
            tracing::warn!(%error, topic = %name, "views of a deleted topic are not removed yet");
            left.insert(topic);
        }
    }
    left
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
        let (topic, bytes) = (garbage.topic, garbage.bytes);
        let replaced_in = replacement(state, garbage).map(|file| file.regions.clone());
        due.files.push(Doomed { id: *id, topic, key: garbage.key(*id), bytes, replaced_in });
    }
    due
}

/// The file that covers now what garbage covered.
fn replacement<'a>(state: &'a ShardState, garbage: &Garbage) -> Option<&'a ArchiveFile> {
    let log = state.topic(garbage.topic)?.partition(garbage.partition)?;
    log.files_from(garbage.first).first().filter(|file| file.first <= garbage.first)
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
    batch: &[Doomed],
    published: &Published,
    unreachable: &mut BTreeSet<RegionNo>,
) {
    let left: Vec<_> = {
        let gone = published.gone.lock();
        let each = regions.iter().flat_map(|region| batch.iter().map(move |file| (file, region)));
        let may = |file: &Doomed, region: RegionNo| file.may_go_from(region) && !gone.contains(&(file.id, region));
        each.filter(|(file, region)| may(file, region.record.number)).collect()
    };
    let failed = Mutex::new(std::mem::take(unreachable));
    stream::iter(left)
        .for_each_concurrent(CONCURRENT, async |(file, region)| {
            let number = region.record.number;
            if failed.lock().contains(&number) {
                return;
            }
            match region.store.delete(Component::Compactor, &file.key).await {
                Ok(()) => _ = published.gone.lock().insert((file.id, number)),
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
