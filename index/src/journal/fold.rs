//! Folding the path of one region.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::extents::Extents;
use crate::{
    format::{Extent, Floor, Leader, Record, Section, SnapshotRef},
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
};

/// An entry as one region has it: its content, and the copy that was met last on the path.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Leader of the reign that the path ends in, if it has begun after the floor.
    pub leader: Option<Leader>,
    /// Where the region's entries are.
    pub extents: Extents,
    /// Last sequence written under the present reign, if any.
    last: Option<Sequence>,
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
            last: (floor.slot.index > 0).then_some(floor.snapshot.sequence),
            ..Self::default()
        }
    }

    /// Last sequence that the snapshot covers; zero without one.
    pub fn base(&self) -> Sequence {
        self.snapshot.as_ref().map_or(Sequence(0), |snapshot| snapshot.sequence)
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
                self.at = slot.next();
            }
        }
        Ok(())
    }

    fn entry(&mut self, record: &Record) -> Result<(), FoldError> {
        let (slot, head) = (self.at, &record.head);
        if let Section::Install(install) = &record.section {
            self.log = self.log.split_off(&head.sequence.next());
            self.snapshot = Some(install.snapshot.clone());
            self.committed = self.committed.max(head.sequence);
            return Ok(());
        }
        let found = head.sequence;
        let expected = self.last.map_or(found, Sequence::next);
        if found != expected || found.0 < slot.index || found.0 == 0 {
            return Err(FoldError::Sequence { slot, found, expected });
        }
        let origin = found.0 - slot.index;
        self.extents.begin(Extent { first: found, ballot: slot.ballot, origin });
        if found > self.base() {
            let accepted = Accepted {
                ballot: head.ballot,
                id: head.id,
                slot,
                // A copy: the record's own bytes keep the whole first read of its object alive.
                section: Bytes::copy_from_slice(&record.raw),
                body_at: head.body_at(),
                body_len: head.body_len,
            };
            self.log.insert(found, accepted);
        }
        Ok(())
    }
}
