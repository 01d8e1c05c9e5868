//! A region: write-once objects, truncation marks, snapshots, and the puts that are on their way to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use brigade_index::{
    format::{Floor, Kind, SnapshotRef},
    ids::{Sequence, WriteId},
    journal::{Fold, FoldError},
    keys::Slot,
};

use crate::object::{Content, Object, content, in_snapshot};

/// One region's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Objects of the journal.
    pub objects: BTreeMap<Slot, Object>,
    /// Truncation marks.
    pub floors: BTreeMap<u64, Arc<Floor>>,
    /// Snapshots that are whole here: sequence and identity.
    pub snapshots: BTreeSet<(Sequence, WriteId)>,
    /// Puts of journal objects that may land at any time, and how often each. Their writer may be long dead.
    pub flying: BTreeMap<(Slot, WriteId), (Object, u8)>,
    /// Puts of truncation marks that may land at any time, by number and writer.
    pub floors_flying: BTreeMap<(u64, u64), Arc<Floor>>,
    /// Slots before a truncation mark that held no Takeover when it landed: whatever is there may be deleted, also what comes
    /// later.
    pub below: BTreeSet<Slot>,
    /// What was deleted, so that a late answer to its writer is still right.
    pub gone: BTreeMap<Slot, WriteId>,
    /// The path from the newest mark to its end, or why it is broken (I3). It follows from the rest.
    pub path: Result<Fold, FoldError>,
}

impl Default for Region {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            floors: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            flying: BTreeMap::new(),
            floors_flying: BTreeMap::new(),
            below: BTreeSet::new(),
            gone: BTreeMap::new(),
            path: Ok(Fold::start(None)),
        }
    }
}

impl Hash for Region {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { objects, floors, snapshots, flying, floors_flying, below, gone, path: _ } = self;
        (objects, floors, snapshots, flying, floors_flying, below, gone).hash(hasher);
    }
}

impl Region {
    /// The newest truncation mark.
    pub fn newest(&self) -> Option<&Floor> {
        self.floors.last_key_value().map(|(_, floor)| floor.as_ref())
    }

    /// Follows the path to its end.
    fn walk(&mut self) {
        let Ok(fold) = &mut self.path else { return };
        while let Some(object) = self.objects.get(&fold.at) {
            if let Err(error) = fold.accept(object) {
                self.path = Err(error);
                return;
            }
        }
    }

    /// Whether this write ever landed here.
    pub fn has_landed(&self, slot: Slot, id: WriteId) -> bool {
        self.gone.get(&slot) == Some(&id) || self.objects.get(&slot).is_some_and(|object| object.head.id == id)
    }

    /// Sends a put off; it may land `copies` times. Whether it is a new one.
    pub fn send(&mut self, slot: Slot, object: Object, copies: u8) -> bool {
        let key = (slot, object.head.id);
        let new = !self.flying.contains_key(&key) && !self.has_landed(slot, object.head.id);
        if new {
            self.flying.insert(key, (object, copies));
        }
        new
    }

    /// Lets a put land. Whether the slot was free.
    pub fn deliver(&mut self, slot: Slot, id: WriteId) -> bool {
        if self.objects.contains_key(&slot) {
            return false;
        }
        let Some((object, copies)) = self.flying.remove(&(slot, id)) else { return false };
        if copies > 1 {
            self.flying.insert((slot, id), (object.clone(), copies - 1));
        }
        self.objects.insert(slot, object);
        self.walk();
        true
    }

    /// Forgets puts that can never land: their slot is taken, and what is there is never deleted.
    pub fn forget_refused(&mut self, deletable: impl Fn(Kind) -> bool) {
        let (objects, below) = (&self.objects, &self.below);
        let stays = |object: &Object, slot: &Slot| !deletable(object.head.kind) && !below.contains(slot);
        self.flying.retain(|(slot, _), _| objects.get(slot).is_none_or(|object| !stays(object, slot)));
    }

    /// Lets a put of a truncation mark land, if absent; what lies before it on the path may be deleted from then on.
    pub fn deliver_floor(&mut self, k: u64, writer: u64, takeovers: bool) -> bool {
        let Some(floor) = self.floors_flying.remove(&(k, writer)) else { return false };
        if self.floors.contains_key(&k) {
            return true;
        }
        if self.newest().is_some_and(|newest| newest.k > k) {
            // Its number was free again since older marks are deleted. Nobody looks at it.
            self.floors.insert(k, floor);
            return true;
        }
        self.below.extend(self.before(&floor, takeovers));
        self.path = Ok(Fold::start(Some(&floor)));
        self.floors.insert(k, floor);
        self.walk();
        true
    }

    /// Slots between the newest mark and this one, those of Takeovers only if asked for.
    pub fn before(&self, floor: &Floor, takeovers: bool) -> Vec<Slot> {
        let (mut fold, mut before) = (Fold::start(self.newest()), Vec::new());
        while fold.at != floor.slot {
            let slot = fold.at;
            let Some(object) = self.objects.get(&slot) else { break };
            if fold.accept(object).is_err() {
                break;
            }
            if takeovers || object.head.kind != Kind::Takeover {
                before.push(slot);
            }
        }
        before
    }

    /// Deletes an object.
    pub fn delete(&mut self, slot: Slot) {
        if let Some(object) = self.objects.remove(&slot) {
            self.gone.insert(slot, object.head.id);
            self.path = Ok(Fold::start(self.newest()));
            self.walk();
        }
    }

    /// Whether there are marks and snapshots that the newest mark has made superfluous.
    pub fn is_prunable(&self) -> bool {
        let old = |newest: &Floor| self.snapshots.iter().any(|(sequence, _)| *sequence < newest.snapshot.sequence);
        self.floors.len() > 1 || self.newest().is_some_and(old)
    }

    /// Deletes those.
    pub fn prune(&mut self) {
        let Some((k, newest)) = self.floors.pop_last() else { return };
        self.snapshots.retain(|(sequence, _)| *sequence >= newest.snapshot.sequence);
        self.floors = BTreeMap::from([(k, newest)]);
    }

    /// Whether a snapshot is whole here.
    pub fn has_snapshot(&self, snapshot: &SnapshotRef) -> bool {
        self.snapshots.contains(&(snapshot.sequence, snapshot.id))
    }
}

/// Content of entry `sequence` by what a path says, if it says anything.
pub fn content_in(fold: &Fold, sequence: Sequence) -> Option<Content> {
    match &fold.snapshot {
        Some(snapshot) if sequence <= snapshot.sequence => Some(in_snapshot(snapshot, sequence)),
        _ => fold.log.get(&sequence).map(|accepted| content(&accepted.section)),
    }
}
