//! No region is left with neither an archive file nor what came in its place. This is looked at whenever one is deleted.

use brigade_index::{
    ids::{FileId, Offset},
    keys::{self, Key},
    state::{Garbage, ShardState},
};
use object_store::path::Path;

use super::{node::SimNode, region::SimRegion};

/// What may be in the place of a file.
struct Instead {
    /// Files by what the state knows.
    known: Vec<Key>,
    /// Those with a higher number are not known to whoever deletes: a later leader has written them.
    last: FileId,
    /// Where the file that is deleted began.
    first: Offset,
}

/// What is garbage in the state of a node that leads is about to be deleted by it from a region.
pub(super) async fn deletion(node: &SimNode, region: &SimRegion, key: &Path) -> Result<(), String> {
    let Some(id) = keys::parse_archive_file(key) else { return Ok(()) };
    let Some((shard, _)) = node.leading() else { return Ok(()) };
    let instead = {
        let state = shard.state();
        state.archive.garbage().get(&id).and_then(|garbage| Instead::of(&state, id, garbage))
    };
    let Some(instead) = instead.filter(|_| !region.is_restored() && !region.is_copied(key)) else { return Ok(()) };
    let directory: Vec<_> = key.parts().collect();
    let directory = Path::from_iter(directory[..directory.len() - 1].iter().cloned());
    let there = region.keys(&directory).await;
    // What was deleted there was looked at then; who deletes this may work from old state.
    if there.iter().chain(&region.deleted_in(&directory)).any(|other| instead.may_be(other)) {
        return Ok(());
    }
    Err(format!("{key} in region {region} is deleted, which has nothing in its place, of {:?}", instead.known))
}

impl Instead {
    /// `None` if there is nothing any more where the file was.
    fn of(state: &ShardState, id: FileId, garbage: &Garbage) -> Option<Self> {
        let Garbage { topic, partition, first, .. } = *garbage;
        let topic = state.topic(topic)?;
        let covers = topic.partition(partition)?.files_from(first).first().filter(|file| file.first <= first)?;
        let between = state.archive.garbage().iter().filter(|(other, between)| {
            **other > id && (between.topic, between.partition) == (topic.id, partition) && between.first <= first
        });
        let between = between.map(|(other, between)| between.key(*other));
        let known = between.chain([covers.key(&topic.name, topic.id, partition)]).collect();
        Some(Self { known, last: state.archive.last(), first })
    }

    fn may_be(&self, key: &Key) -> bool {
        let later = keys::parse_archive_file(key).is_some_and(|id| id > self.last);
        self.known.contains(key) || later && first_of(key).is_some_and(|first| first <= self.first)
    }
}

/// First offset of an archive file, which its name begins with.
fn first_of(key: &Path) -> Option<Offset> {
    Some(Offset(key.filename()?.split_once('-')?.0.parse().ok()?))
}

/// A node has written an archive file. If that was in its place already, then it was copied from another region, and may be
/// deleted again at once when it was replaced meanwhile.
pub(super) fn written(node: &SimNode, region: &SimRegion, key: &Path) {
    let Some(id) = keys::parse_archive_file(key) else { return };
    if node.leading().is_some_and(|(shard, _)| !shard.state().archive.claims().contains_key(&id)) {
        region.note_copied(key);
    }
}
