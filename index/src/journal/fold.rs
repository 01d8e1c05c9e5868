//! Folding the path of one region.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::extents::Extents;
use crate::{
    format::{Extent, Floor, Install, Leader, Record, Section, SnapshotRef},
    ids::{Ballot, RegionNo, Sequence, WriteId},
    keys::Slot,
    region::{Mark, RegionSet},
};

/// An entry as one region has it: its content, and the copy that was met last on the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Ballot of the copy.
    pub ballot: Ballot,
    /// Identity of the copy.
    pub id: WriteId,
    /// Where the copy is.
    pub slot: Slot,
    /// The entry's section, as stored.
    pub section: Bytes,
    /// Where the copy's body begins, in bytes.
    pub body_at: u64,
    /// Length of the body in bytes.
    pub body_len: u64,
    /// The regions that vote behind it, if it changes them.
    pub voters: Option<RegionSet>,
}

/// Why an object cannot be on the path. The state folded so far is to be dropped, and the path read again from the
/// newest floor; an object that is still refused then is damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Its writer came through another Takeover than this reader.
    #[error("object {slot} was written by one who entered through {theirs}, not {ours}")]
    Parent {
        /// Where it is.
        slot: Slot,
        /// The Takeover it names.
        theirs: Slot,
        /// The Takeover the reader came through.
        ours: Slot,
    },
    /// Ballots fall along the path (I3).
    #[error("object {slot} has ballot {ballot}, below {promised}")]
    Ballot {
        /// Where it is.
        slot: Slot,
        /// Its ballot.
        ballot: Ballot,
        /// Highest ballot before it.
        promised: Ballot,
    },
    /// An entry skips sequence numbers or goes back under one ballot.
    #[error("object {slot} has sequence {found}, not {expected}")]
    Sequence {
        /// Where it is.
        slot: Slot,
        /// Its sequence.
        found: Sequence,
        /// The one that should follow.
        expected: Sequence,
    },
}

/// What the path of one region says up to [`Self::at`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fold {
    /// The next slot of the path.
    pub at: Slot,
    /// The Takeover through which its directory was entered.
    pub parent: Slot,
    /// Highest ballot met.
    pub promised: Ballot,
    /// The snapshot to start from, if any: it covers entries up to its sequence.
    pub snapshot: Option<SnapshotRef>,
    /// Entries after the snapshot, each by its last copy.
    pub log: BTreeMap<Sequence, Accepted>,
    /// Highest committed mark met.
    pub committed: Sequence,
    /// Leader of the reign that the path ends in.
    pub leader: Option<Leader>,
    /// Where the region's entries are.
    pub extents: Extents,
    /// The regions that vote behind the snapshot, where that is known.
    pub voters: Option<RegionSet>,
    /// Objects of entries up to here may be gone, see [`Floor::truncated`].
    pub truncated: Sequence,
    /// How far regions had come by what their leaders knew, each region's latest mark.
    pub marks: BTreeMap<RegionNo, Mark>,
    /// Last sequence written under the present reign, if any.
    last: Option<Sequence>,
    /// Highest ballot before the floor, and how far entries reached under each ballot since.
    floor_ballot: Ballot,
    reached: BTreeMap<Ballot, Sequence>,
}

impl Fold {
    /// The state at a floor, or at the bootstrap directory.
    pub fn start(floor: Option<&Floor>) -> Self {
        let Some(floor) = floor else { return Self::default() };
        Self {
            at: floor.slot,
            parent: floor.parent,
            promised: floor.promised,
            snapshot: Some(floor.snapshot.clone()),
            committed: floor.snapshot.sequence,
            extents: Extents::new(&floor.extents),
            truncated: floor.truncated,
            leader: floor.leader.clone(),
            voters: floor.voters.clone(),
            marks: floor.marks.iter().map(|mark| (mark.region, *mark)).collect(),
            last: (floor.slot.index > 0).then_some(floor.snapshot.sequence),
            floor_ballot: floor.promised,
            reached: BTreeMap::from([(floor.promised, floor.snapshot.sequence)]),
            ..Self::default()
        }
    }

    /// Last sequence that the snapshot covers; zero without one.
    pub fn base(&self) -> Sequence {
        self.snapshot.as_ref().map_or(Sequence(0), |snapshot| snapshot.sequence)
    }

    /// Whether an object at this slot was sent after the one that would be next on the path: in the same directory, or in
    /// that of a reign which has not begun here. While appends are in flight such objects may be there for a moment.
    pub fn leaves_behind(&self, slot: Slot) -> bool {
        slot.ballot > self.at.ballot || (slot.ballot == self.at.ballot && slot.index > self.at.index)
    }

    /// Whether this path, of the mark's own region, reaches as far as the mark says. One that does not went backwards: the
    /// region lost what it had accepted (I19).
    ///
    /// Only a path that a Takeover has closed can be judged: an open one may have grown since it was read.
    pub fn reaches(&self, mark: &Mark) -> bool {
        mark.ballot < self.floor_ballot || self.reached.get(&mark.ballot).is_some_and(|last| *last >= mark.sequence)
    }

    /// Takes in the object at [`Self::at`] and moves on.
    ///
    /// # Errors
    /// When the object cannot be there; the fold is unchanged.
    pub fn accept(&mut self, record: &Record) -> Result<(), FoldError> {
        let (slot, head) = (self.at, &record.head);
        if head.parent != self.parent {
            return Err(FoldError::Parent { slot, theirs: head.parent, ours: self.parent });
        }
        match &record.section {
            Section::Takeover(leader) => {
                if head.ballot <= self.promised {
                    return Err(FoldError::Ballot { slot, ballot: head.ballot, promised: self.promised });
                }
                self.promised = head.ballot;
                self.parent = slot;
                self.at = Slot::first(head.ballot);
                self.leader = Some(leader.clone());
                self.last = None;
            }
            Section::Commit(_) | Section::Install(_) => {
                if head.ballot != slot.ballot || head.ballot < self.promised {
                    return Err(FoldError::Ballot { slot, ballot: head.ballot, promised: self.promised });
                }
                self.entry(record)?;
                self.committed = self.committed.max(head.committed);
                self.last = Some(head.sequence);
                self.reached.insert(slot.ballot, head.sequence);
                self.at = slot.next();
            }
        }
        Ok(())
    }

    fn entry(&mut self, record: &Record) -> Result<(), FoldError> {
        let (slot, head) = (self.at, &record.head);
        let value = match &record.section {
            Section::Commit(value) => value,
            Section::Install(install) => return self.install(slot, head.sequence, install),
            Section::Takeover(_) => return Ok(()),
        };
        let found = head.sequence;
        // Within a reign entries are dense; a new one begins at or before the end of what the region holds already.
        let held = self.log.last_key_value().map_or(self.base(), |(last, _)| *last);
        let expected = self.last.map_or_else(|| found.min(held.next()), Sequence::next);
        if found != expected || found.0 < slot.index || found.0 == 0 {
            return Err(FoldError::Sequence { slot, found, expected });
        }
        let extent = Extent { first: found, ballot: slot.ballot, origin: found.0 - slot.index };
        self.extents.overwrite(extent, found, held);
        if found > self.base() {
            let accepted = Accepted {
                ballot: head.ballot,
                id: head.id,
                slot,
                // A copy: the record's own bytes keep the whole first read of its object alive.
                section: Bytes::copy_from_slice(&record.raw),
                body_at: head.body_at(),
                body_len: head.body_len,
                voters: value.voters().cloned(),
            };
            self.log.insert(found, accepted);
        }
        for mark in &value.marks {
            let known = self.marks.entry(mark.region).or_insert(*mark);
            if (known.ballot, known.sequence) < (mark.ballot, mark.sequence) {
                *known = *mark;
            }
        }
        Ok(())
    }

    /// A snapshot stands for everything up to its sequence. What the region was known to hold before stays where it is;
    /// the rest comes as copies. Its writer may know less to be committed than this path does: a mark that a former leader
    /// wrote with its last breath may cover more.
    fn install(&mut self, slot: Slot, found: Sequence, install: &Install) -> Result<(), FoldError> {
        if slot.index != 0 || found != install.snapshot.sequence {
            return Err(FoldError::Sequence { slot, found, expected: self.committed });
        }
        if found <= self.base() {
            return Ok(());
        }
        if found > self.committed {
            let held = self.log.last_key_value().map_or(self.base(), |(last, _)| *last);
            let copies = Extent { first: self.committed.next(), ballot: Ballot::BOOTSTRAP, origin: 0 };
            self.extents.overwrite(copies, found, held);
        }
        // What was accepted above the snapshot may be committed: a region never forgets it.
        self.log = self.log.split_off(&found.next());
        self.snapshot = Some(install.snapshot.clone());
        self.voters = Some(install.voters.clone());
        self.committed = self.committed.max(found);
        Ok(())
    }
}
