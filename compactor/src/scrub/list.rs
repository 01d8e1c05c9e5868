//! Listing a region: every object is judged, and what nobody refers to is told or remembered for deletion.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use brigade_index::{
    format::{HEAD_BYTES, Head, Kind},
    ids::{FileId, Sequence},
    keys::{self, Key, Object, Slot},
    limits::DEFAULT_WINDOW,
    store::{Component, RegionStore, StoreError},
};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::{
    classify::{Verdict, judge, judge_head},
    report::{Code, Finding, Severity, Tally},
    resume::print_of,
    scene::{Scene, Sight},
};

/// Heads of objects that are read at the same time.
const HEADS: usize = 32;

/// Objects to be deleted that are remembered; further ones are left for the next time.
const MAX_DEAD: usize = 200_000;

/// What a region was found to have.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) tallies: BTreeMap<&'static str, Tally>,
    /// What the store says of objects that are referenced.
    pub(crate) entries: BTreeMap<Sequence, String>,
    pub(crate) files: BTreeMap<FileId, (u64, String)>,
    /// Objects that nobody will ever look at.
    pub(crate) dead: Vec<Key>,
    /// Objects that lie behind the end of the path: the one at its end seems to be missing.
    pub(crate) behind: u64,
    /// What proves that it is missing and not only late, if anything does.
    pub(crate) proof: Option<&'static str>,
    pub(crate) findings: Vec<Finding>,
    /// By code, severity and reason: the first key, and how many.
    several: BTreeMap<(Code, Severity, &'static str, &'static str), (Key, u64)>,
    foreign: u64,
    pub(crate) untold: u64,
}

const DEAD_HINT: &str = "brigade scrub --repair deletes them";
const JOURNAL_HINT: &str = "the compactor deletes such objects in time, and brigade scrub --repair does";

/// Damage in an object of ours that is not on the path: what is wrong, how bad that is, and what to do.
type Lies = (&'static str, Severity, &'static str);

const BEHIND: Lies = (
    "its head is damaged, and an object before it is missing",
    Severity::Warning,
    "it cannot be told what it was; what puts the missing object right ends what lies behind it, too",
);
const UNNEEDED: Lies =
    ("its head is damaged, and nothing refers to it", Severity::Info, "it does no harm and is left alone");

/// Foreign objects that are told one by one.
const MAX_FOREIGN: u64 = 1_000;

/// Lists a region and judges every object.
///
/// # Errors
/// When the store gives no good answer.
pub(crate) async fn list(scene: &Scene, sight: &Arc<Sight>) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    let found = sight.store.list_metas(Component::Repair);
    let judged = found.map_ok(|meta| async move {
        let object = keys::parse(scene.shard, &meta.location);
        match (judge(scene, sight, &object), &object) {
            (Verdict::AskHead, Object::Journal(slot)) => {
                let (verdict, proof) = ask(scene, sight, *slot, &meta.location).await?;
                Ok((meta, object, verdict, proof))
            }
            (verdict, _) => Ok((meta, object, verdict, None)),
        }
    });
    let mut judged = std::pin::pin!(judged.try_buffer_unordered(HEADS));
    while let Some((meta, object, verdict, proof)) = judged.try_next().await? {
        if let Object::Journal(slot) = &object {
            listing.behind += u64::from(is_behind(sight, *slot));
        }
        listing.proof = listing.proof.or(proof);
        listing.take(sight, meta, &object, verdict);
    }
    listing.finish(sight);
    Ok(listing)
}

/// Whether an object lies behind the end of the region's path, in the same reign or in one that has not begun there: the
/// object at the end was sent before it, and is not there.
pub(crate) fn is_behind(sight: &Sight, slot: Slot) -> bool {
    let content = &sight.content;
    content.damage.is_empty() && content.fold.leaves_behind(slot)
}

/// Judges an object by its head; and what proves that the object at the end of the path is missing, if it does.
pub(crate) async fn ask(
    scene: &Scene,
    sight: &Sight,
    slot: Slot,
    key: &Key,
) -> Result<(Verdict, Option<&'static str>), StoreError> {
    let Some(bytes) = sight.store.get_range(Component::Repair, key, 0..HEAD_BYTES as u64).await? else {
        return Ok((Verdict::Unsettled("it was deleted meanwhile"), None));
    };
    let behind = is_behind(sight, slot);
    let Ok(head) = Head::decode(&bytes) else {
        let lies = if behind { BEHIND } else { UNNEEDED };
        return Ok((Verdict::Corrupt(lies), None));
    };
    let at = sight.content.fold.at;
    let proof = match head.kind {
        _ if !behind || slot.ballot != at.ballot => None,
        Kind::Takeover => Some("a Takeover lies behind it, which is put only where everything before it is"),
        _ if slot.index - at.index >= DEFAULT_WINDOW as u64 => Some("more lies behind it than is ever sent at once"),
        _ if head.committed > scene.state.applied => Some("what lies behind it says that it is committed"),
        _ => None,
    };
    Ok((judge_head(sight, slot, &head), proof))
}

/// What objects of this kind are called in tables.
fn kind_of(object: &Object) -> &'static str {
    match object {
        Object::Identity | Object::Restoring => "identity",
        Object::Journal(_) => "journal",
        Object::Floor(_) => "floors",
        Object::Snapshot(..) => "snapshots",
        Object::Copy(_) => "copies",
        Object::File(_) => "files",
        Object::View(..) => "views",
        Object::Staging | Object::Foreign => "foreign",
    }
}

impl Listing {
    fn take(&mut self, sight: &Sight, meta: ObjectMeta, object: &Object, verdict: Verdict) {
        let tally = self.tallies.entry(kind_of(object)).or_default();
        (tally.objects, tally.bytes) = (tally.objects + 1, tally.bytes + meta.size);
        let key = meta.location.clone();
        match verdict {
            Verdict::Known | Verdict::Kept | Verdict::AskHead => {}
            Verdict::Entry(sequence) => _ = self.entries.insert(sequence, print_of(&meta)),
            Verdict::File => {
                let Object::File(file) = object else { return };
                self.files.insert(file.id, (meta.size, print_of(&meta)));
            }
            Verdict::Untold => self.untold += 1,
            Verdict::Unsettled(why) => self.count(Code::UnsettledObject, Severity::Info, why, "it is left alone", key),
            Verdict::Staging => {
                let why = "a killed process left it";
                self.count(Code::StagingFile, Severity::Info, why, "it does no harm and may be deleted by hand", key);
            }
            Verdict::Dead(why) => {
                let (severity, hint) = match object {
                    Object::File(_) | Object::View(..) => (Severity::Warning, DEAD_HINT),
                    _ => (Severity::Info, JOURNAL_HINT),
                };
                if self.dead.len() < MAX_DEAD {
                    self.dead.push(key.clone());
                }
                self.count(Code::ExtraObject, severity, why, hint, key);
            }
            Verdict::Corrupt((why, severity, hint)) => self.count(Code::CorruptObject, severity, why, hint, key),
            Verdict::Foreign(why) => {
                self.foreign += 1;
                let hint = "Brigade never deletes it; keep other files out of its buckets";
                if self.foreign > MAX_FOREIGN {
                    return self.count(Code::ForeignObject, Severity::Warning, why, hint, key);
                }
                let place = (sight.name.as_str(), key.as_ref());
                self.findings.push(Finding::object(Code::ForeignObject, Severity::Warning, place, why, hint));
            }
        }
    }

    fn count(&mut self, code: Code, severity: Severity, why: &'static str, hint: &'static str, key: Key) {
        let (first, count) = self.several.entry((code, severity, why, hint)).or_insert_with(|| (key.clone(), 0));
        *count += 1;
        if key < *first {
            *first = key;
        }
    }

    fn finish(&mut self, sight: &Sight) {
        for ((code, severity, why, hint), (key, objects)) in std::mem::take(&mut self.several) {
            let place = (sight.name.as_str(), key.as_ref());
            self.findings.push(Finding { objects, ..Finding::object(code, severity, place, why, hint) });
        }
        if self.untold > 0 {
            let problem = "the region's path is damaged, so that it cannot be told what these objects are";
            let finding =
                Finding::region(Code::NotChecked, Severity::Warning, sight.name.as_str(), problem, "repair it");
            self.findings.push(Finding { objects: self.untold, ..finding });
        }
    }
}

/// Deletes those of these objects that are still known to be dead by a look taken just now. Gives those that are gone.
///
/// # Errors
/// When the store gives no good answer.
pub(crate) async fn delete_dead(scene: &Scene, sight: &Sight, dead: &[Key]) -> Result<BTreeSet<Key>, StoreError> {
    let judged = futures::stream::iter(dead).map(|key| async move {
        let object = keys::parse(scene.shard, key);
        let verdict = match (judge(scene, sight, &object), &object) {
            (Verdict::AskHead, Object::Journal(slot)) => ask(scene, sight, *slot, key).await?.0,
            (verdict, _) => verdict,
        };
        if !matches!(verdict, Verdict::Dead(_)) {
            return Ok(None);
        }
        delete(&sight.store, key).await?;
        Ok(Some(key.clone()))
    });
    let deleted: Vec<Option<Key>> = judged.buffer_unordered(HEADS).try_collect().await?;
    Ok(deleted.into_iter().flatten().collect())
}

async fn delete(store: &RegionStore, key: &Key) -> Result<(), StoreError> {
    store.delete(Component::Repair, key).await
}
