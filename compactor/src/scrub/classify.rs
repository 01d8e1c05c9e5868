//! What an object of a region is, and whether it can go: pure.
//!
//! An object may be deleted when what is committed proves that nobody will ever look at it again. The proofs do not age:
//! what they say of an object stays true.

use brigade_index::{
    format::{Head, Kind},
    ids::{Sequence, TopicId},
    journal::{Place, Verdict as Truncation},
    keys::{FileKey, Object, Slot},
    names::TopicName,
    shard::inspect::Stretch,
};

use super::{
    report::Severity,
    scene::{Scene, Sight},
};

/// What an object is to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as it should be there.
    Known,
    /// It holds an entry that is referenced.
    Entry(Sequence),
    /// It is an archive file that is referenced.
    File,
    /// Nobody needs it, and it stays: small, and told about in JOURNAL.md.
    Kept,
    /// The index does not know it yet, or its deletion is intended: somebody may be at work.
    Unsettled(&'static str),
    /// Nobody will ever look at it, for this reason.
    Dead(&'static str),
    /// It cannot be told, since the path of the region is damaged.
    Untold,
    /// The head of the object tells.
    AskHead,
    /// An object of ours by its key, which nothing is known to refer to, and whose bytes are damaged.
    Corrupt((&'static str, Severity, &'static str)),
    /// Not Brigade's, or at the wrong place.
    Foreign(&'static str),
    /// What a killed process left.
    Staging,
}

/// Judges an object by its key.
pub(crate) fn judge(scene: &Scene, sight: &Sight, object: &Object) -> Verdict {
    let content = &sight.content;
    match object {
        Object::Identity => Verdict::Known,
        Object::Restoring => Verdict::Unsettled("the region was restored, and the last step was not taken"),
        Object::Staging => Verdict::Staging,
        Object::Foreign => Verdict::Foreign("it is no object of Brigade's"),
        Object::File(file) => judge_file(scene, file),
        Object::View(name, topic) => judge_view(scene, name, *topic),
        Object::Floor(k) => match content.floor.as_ref().map_or(0, |floor| floor.k) {
            newest if newest == *k => Verdict::Known,
            newest if newest < *k => Verdict::Unsettled("it is a newer truncation mark"),
            _ if content.dead().is_some_and(|dead| dead.mark(*k)) => Verdict::Dead("later marks have taken its place"),
            _ => Verdict::Kept,
        },
        Object::Snapshot(sequence, id) => {
            let named = |sight: &Sight| sight.content.snapshots.contains(&(*sequence, id.0));
            let floor = content.floor.as_ref().map_or(Sequence(0), |floor| floor.snapshot.sequence);
            if named(sight) {
                Verdict::Known
            } else if !content.damage.is_empty() {
                Verdict::Untold
            } else if scene.sights.iter().any(|sight| named(sight)) {
                // Another region's path begins with it, and may need this one.
                Verdict::Kept
            } else if *sequence > floor {
                Verdict::Unsettled("it is newer than the truncation mark")
            } else if !scene.is_whole() {
                Verdict::Unsettled("a region that was not read may begin with it")
            } else if content.dead().is_some_and(|dead| dead.snapshot(*sequence)) {
                Verdict::Dead("a later snapshot has taken its place in every region")
            } else {
                Verdict::Kept
            }
        }
        Object::Journal(slot) => judge_slot(scene, sight, *slot),
        Object::Copy(sequence) => {
            let settled = content.fold.committed.min(scene.state.applied);
            let wanted = scene.wanted.entries.contains_key(sequence);
            match content.extents().find(*sequence) {
                Some(Place::Copy) if wanted => Verdict::Entry(*sequence),
                _ if !content.damage.is_empty() => Verdict::Untold,
                _ if *sequence > settled => Verdict::Unsettled("it is newer than what is known to be committed"),
                _ if content.dead().is_some_and(|dead| dead.entry(*sequence)) => {
                    Verdict::Dead("a truncation mark covers it, and nothing refers to it")
                }
                _ => Verdict::Unsettled("a later truncation mark will cover it"),
            }
        }
    }
}

fn judge_file(scene: &Scene, key: &FileKey) -> Verdict {
    let archive = &scene.state.archive;
    if let Some(file) = scene.wanted.files.get(&key.id) {
        let same = (&file.name, file.topic, file.partition, file.file.first)
            == (&key.name, key.topic, key.partition, key.first);
        return if same {
            Verdict::File
        } else {
            Verdict::Foreign("an archive file of this number is at another place")
        };
    }
    if let Some(claimed) = archive.claims().get(&key.id) {
        let (topic, partition, first) = (claimed.part.topic, claimed.part.partition, claimed.part.first);
        return if (topic, partition, first) == (key.topic, key.partition, key.first) {
            Verdict::Unsettled("it is being written")
        } else {
            Verdict::Foreign("an archive file of this number is at another place")
        };
    }
    match archive.garbage().contains_key(&key.id) {
        true => Verdict::Unsettled("it is to be deleted, and whoever leads does so"),
        false if key.id > archive.last() => Verdict::Unsettled("it is newer than what is known to be committed"),
        false => Verdict::Dead("its number was given, and nothing refers to it"),
    }
}

fn judge_view(scene: &Scene, name: &TopicName, topic: Option<TopicId>) -> Verdict {
    let state = &scene.state;
    match topic {
        None if state.topic_named(name).is_some() => Verdict::Known,
        None => Verdict::Unsettled("there is no topic of this name"),
        Some(topic) if state.topic(topic).is_some_and(|known| known.name == *name) => Verdict::Known,
        Some(topic) if topic > state.last_topic() => Verdict::Unsettled("its topic is newer than what is known"),
        Some(_) => Verdict::Dead("its topic is gone"),
    }
}

fn judge_slot(scene: &Scene, sight: &Sight, slot: Slot) -> Verdict {
    let content = &sight.content;
    let on_path =
        |stretch: &Stretch| stretch.ballot == slot.ballot && (stretch.first..stretch.end).contains(&slot.index);
    // What the path leads to next may be there by now.
    let known = content.stretches.iter().any(on_path) || content.fold.at == slot;
    let dead = content.dead().map_or(Truncation::Keep, |dead| dead.journal(slot));
    match entry_at(scene, sight, slot) {
        Some(sequence) => Verdict::Entry(sequence),
        None if known => Verdict::Known,
        None if !content.damage.is_empty() => Verdict::Untold,
        None if dead == Truncation::Delete => Verdict::Dead("a truncation mark covers it, and nothing refers to it"),
        None => Verdict::AskHead,
    }
}

/// The referenced entry that the region has at this slot.
fn entry_at(scene: &Scene, sight: &Sight, slot: Slot) -> Option<Sequence> {
    let content = &sight.content;
    let found = content.extents().iter().filter(|extent| extent.ballot == slot.ballot).find_map(|extent| {
        let sequence = Sequence(extent.origin.checked_add(slot.index)?);
        (content.extents().find(sequence) == Some(Place::Journal(slot))).then_some(sequence)
    })?;
    let wanted = scene.wanted.entries.contains_key(&found) && found <= content.accepted();
    wanted.then_some(found)
}

const MOVED: &str = "nothing refers to it; somebody wrote another object's bytes there: see what writes to the bucket";

/// Judges a journal object that is not on the path by its head.
pub(crate) fn judge_head(sight: &Sight, slot: Slot, head: &Head) -> Verdict {
    let fold = &sight.content.fold;
    match head.kind {
        Kind::Takeover => return Verdict::Kept,
        Kind::Floor | Kind::Snapshot => return Verdict::Corrupt(("it is no journal entry", Severity::Warning, MOVED)),
        Kind::Commit | Kind::Install if head.ballot != slot.ballot => {
            return Verdict::Corrupt(("it is an entry of another reign", Severity::Warning, MOVED));
        }
        Kind::Commit | Kind::Install => {}
    }
    let dead = sight.content.dead();
    let below = dead.as_ref().map_or(Truncation::Keep, |dead| dead.journal(slot));
    match below {
        Truncation::Delete => Verdict::Dead("a truncation mark covers it, and nothing refers to it"),
        Truncation::Look if dead.is_some_and(|dead| dead.of_head(head.kind, head.sequence)) => {
            Verdict::Dead("a truncation mark covers it, and nothing refers to it")
        }
        _ if slot.ballot == fold.at.ballot && slot.index >= fold.at.index => {
            Verdict::Unsettled("it was sent before what comes first, which has not arrived")
        }
        _ if slot.ballot > fold.promised => Verdict::Unsettled("its reign has not begun in this region"),
        _ => Verdict::Unsettled("a later truncation mark will cover it"),
    }
}
