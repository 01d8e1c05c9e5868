//! Where a region holds its entries.

use std::collections::BTreeMap;

use crate::{
    format::Extent,
    ids::{Ballot, Sequence},
    keys::Slot,
};

/// Where an entry is in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the journal.
    Journal(Slot),
    /// As a copy under its own key, outside the path.
    Copy,
}

/// For each entry its place in one region. Extents follow each other; one ends where the next begins, and the last is
/// open, since the region goes on receiving entries: whether it has a certain one already is not known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extents(BTreeMap<Sequence, (Ballot, u64)>);

impl Extents {
    /// The extents of a truncation mark.
    pub fn new(extents: &[Extent]) -> Self {
        Self(extents.iter().map(|extent| (extent.first, (extent.ballot, extent.origin))).collect())
    }

    /// From entry `extent.first` on, entries are in another directory: copies of them under older ballots are not looked
    /// at any more.
    pub fn begin(&mut self, extent: Extent) {
        let Extent { first, ballot, origin } = extent;
        if self.0.last_key_value().is_some_and(|(last, own)| *last <= first && *own == (ballot, origin)) {
            return;
        }
        self.0.split_off(&first);
        self.0.insert(first, (ballot, origin));
    }

    /// Entries from `extent.first` to `end` are in another directory. Those behind keep their place up to `known`, the last
    /// of which the region has a copy: they may yet be what counts.
    pub fn overwrite(&mut self, extent: Extent, end: Sequence, known: Sequence) {
        let next = end.next();
        let behind = self.0.range(..=next).next_back().map(|(_, own)| *own).filter(|_| next <= known);
        let mut later = self.0.split_off(&next);
        self.0.split_off(&extent.first);
        self.begin(extent);
        if let Some(behind) = behind {
            later.entry(next).or_insert(behind);
            self.0.append(&mut later);
        }
    }

    /// From entry `first` on, entries are copies outside the path.
    pub fn begin_copies(&mut self, first: Sequence) {
        self.begin(Extent { first, ballot: Ballot::BOOTSTRAP, origin: 0 });
    }

    /// Where entry `sequence` is, if the region has it.
    pub fn find(&self, sequence: Sequence) -> Option<Place> {
        let (_, (ballot, origin)) = self.0.range(..=sequence).next_back()?;
        if *ballot == Ballot::BOOTSTRAP {
            return Some(Place::Copy);
        }
        Some(Place::Journal(Slot { ballot: *ballot, index: sequence.0.checked_sub(*origin)? }))
    }

    /// Ballot of the copy of entry `sequence`, if it is in the journal.
    pub fn ballot(&self, sequence: Sequence) -> Option<Ballot> {
        match self.find(sequence)? {
            Place::Journal(slot) => Some(slot.ballot),
            Place::Copy => None,
        }
    }

    /// The same without the places of entries up to `end` that are not in `bodies`, as far as whole extents hold nothing else:
    /// those objects are deleted, and nobody looks for them. Otherwise each reign would leave an extent behind for ever.
    #[must_use]
    pub fn without_dead(&self, end: Sequence, bodies: &[Sequence]) -> Self {
        let mut left = BTreeMap::new();
        let nexts = self.0.keys().skip(1).copied().map(Some).chain([None]);
        for ((first, own), next) in self.0.iter().zip(nexts) {
            let dead = next.is_some_and(|next| {
                let at = bodies.partition_point(|body| body < first);
                next.0 <= end.0 + 1 && bodies.get(at).is_none_or(|body| *body >= next)
            });
            // Where an extent before it would go on, copies are named that do not exist: nobody looks for those either.
            let own = if dead { (Ballot::BOOTSTRAP, 0) } else { *own };
            let before = left.last_key_value().map(|(_, before)| *before);
            if before != Some(own) && !(dead && before.is_none()) {
                left.insert(*first, own);
            }
        }
        Self(left)
    }

    /// The extents, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.0.iter().map(|(first, (ballot, origin))| Extent { first: *first, ballot: *ballot, origin: *origin })
    }

    /// The last extent.
    pub fn last(&self) -> Option<Extent> {
        self.0.last_key_value().map(|(first, (ballot, origin))| Extent {
            first: *first,
            ballot: *ballot,
            origin: *origin,
        })
    }

    /// Entries that are copies outside the path: first, and the one behind the last. `end` closes an open range.
    pub fn copies(&self, end: Sequence) -> Vec<(Sequence, Sequence)> {
        let ends = self.0.keys().skip(1).copied().chain([end]);
        let ranges = self.0.iter().zip(ends).filter(|((_, (ballot, _)), _)| *ballot == Ballot::BOOTSTRAP);
        ranges.map(|((first, _), end)| (*first, end)).collect()
    }
}

#[cfg(test)]
mod tests;
