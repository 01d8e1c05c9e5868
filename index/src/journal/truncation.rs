//! What may be deleted behind a truncation mark.

use super::extents::{Extents, Place};
use crate::{
    format::{Floor, Kind},
    ids::{Ballot, Sequence},
    keys::Slot,
};

/// What is dead in one region, by a mark that is durable there and by the bodies that its snapshot refers to.
///
/// Nothing here depends on what whoever deletes knows of the present: the mark and its snapshot are for ever, every reader
/// of the region starts from that mark or from a newer one, and a body that the snapshot does not refer to is never referred
/// to again. So a node that leads no more, or works from old state, deletes nothing but what is dead.
#[derive(Debug)]
pub struct Dead<'a> {
    /// The newest mark of the region, or one that was the newest once.
    pub floor: &'a Floor,
    /// Where entries up to the mark are.
    extents: Extents,
    /// Entries whose bodies the mark's snapshot refers to, ascending.
    bodies: &'a [Sequence],
}

/// Whether an object may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is needed, or that cannot be ruled out.
    Keep,
    /// It may be.
    Delete,
    /// It may be unless it is a Takeover: its head tells, see [`Dead::of_head`].
    Look,
}

impl<'a> Dead<'a> {
    /// What is dead by this mark.
    pub fn new(floor: &'a Floor, bodies: &'a [Sequence]) -> Self {
        Self { floor, extents: Extents::new(&floor.extents), bodies }
    }

    /// All entries up to here that have no body which is needed may be deleted.
    pub fn end(&self) -> Sequence {
        self.floor.truncated.min(self.floor.snapshot.sequence)
    }

    /// Whether nobody needs the body of an entry, nor the entry itself.
    pub fn entry(&self, sequence: Sequence) -> bool {
        sequence <= self.end() && self.bodies.binary_search(&sequence).is_err()
    }

    /// Where the region holds an entry.
    pub fn place(&self, sequence: Sequence) -> Option<Place> {
        self.extents.find(sequence)
    }

    /// A mark by its number. The one before the newest stays, too, for whoever has just listed them.
    pub fn mark(&self, k: u64) -> bool {
        k + 1 < self.floor.k
    }

    /// A snapshot, by the last entry that it covers. Installs behind the mark refer to newer ones, or are passed over.
    pub fn snapshot(&self, sequence: Sequence) -> bool {
        sequence < self.floor.snapshot.sequence
    }

    /// A journal object.
    ///
    /// The extents say of entries up to the snapshot exactly where the region accepted them, so that what lies there is a
    /// Commit; or something that came back after that was deleted, which counts for nothing. What they do not name is a
    /// Takeover, an Install, an entry that a later reign overwrote, or was put behind a Takeover.
    pub fn journal(&self, slot: Slot) -> Verdict {
        let end = self.floor.slot;
        if slot.ballot > end.ballot || (slot.ballot == end.ballot && slot.index >= end.index) {
            return Verdict::Keep;
        }
        match self.accepted_at(slot) {
            Some(sequence) if self.entry(sequence) => Verdict::Delete,
            Some(_) => Verdict::Keep,
            // A Takeover ends its directory, and this one's end lies behind the mark.
            None if slot.ballot == end.ballot => Verdict::Delete,
            None => Verdict::Look,
        }
    }

    /// Judges what [`Self::journal`] could not. An entry whose body is needed may be kept in several places; that of an
    /// overwritten copy stays as long, for readers who do not know better.
    pub fn of_head(&self, kind: Kind, sequence: Sequence) -> bool {
        match kind {
            Kind::Install => true,
            Kind::Commit => self.bodies.binary_search(&sequence).is_err(),
            Kind::Takeover | Kind::Floor | Kind::Snapshot => false,
        }
    }

    /// The entry that the region accepted at a place, where the extents name it.
    fn accepted_at(&self, slot: Slot) -> Option<Sequence> {
        let of = self.floor.extents.iter().filter(|extent| extent.ballot == slot.ballot);
        let sequences = of.map(|extent| Sequence(extent.origin.saturating_add(slot.index)));
        let named = |sequence: &Sequence| {
            let place = Some(Place::Journal(slot));
            *sequence <= self.floor.snapshot.sequence && self.extents.find(*sequence) == place
        };
        (slot.ballot != Ballot::BOOTSTRAP).then(|| sequences.into_iter().find(named))?
    }
}

#[cfg(test)]
mod tests;
