//! Truncation marks: where a region's path may be entered, and the snapshot that stands for what came before.

use bytes::Bytes;
use prost::Message;

use super::{
    command::StoredRegionSet,
    frame::{FrameError, Head, Kind},
    journal::{Leader, StoredLeader, StoredMark},
};
use crate::{
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
    region::{Mark, RegionSet},
};

/// A snapshot, by what it covers and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotRef {
    /// Identity of the write that made it; part of its key.
    pub id: WriteId,
    /// It covers entries 1 to here.
    pub sequence: Sequence,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSnapshotRef {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    sequence: u64,
}

impl SnapshotRef {
    fn store(&self) -> StoredSnapshotRef {
        StoredSnapshotRef { id: self.id.0.to_be_bytes().to_vec(), sequence: self.sequence.0 }
    }

    fn from_stored(stored: StoredSnapshotRef) -> Result<Self, FrameError> {
        let id = stored.id.try_into().map_err(|_| FrameError::Malformed("snapshot identity"))?;
        Ok(Self { id: WriteId(u128::from_be_bytes(id)), sequence: Sequence(stored.sequence) })
    }
}

/// The section of an Install: a snapshot put in place of entries, for a region that was away for long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Install {
    /// The snapshot.
    pub snapshot: SnapshotRef,
    /// The regions that vote behind it.
    pub voters: RegionSet,
}

#[derive(Clone, PartialEq, Message)]
struct StoredInstall {
    #[prost(message, required, tag = "1")]
    snapshot: StoredSnapshotRef,
    #[prost(message, required, tag = "2")]
    voters: StoredRegionSet,
}

impl Install {
    /// Encodes it as a section.
    pub fn encode(&self) -> Vec<u8> {
        StoredInstall { snapshot: self.snapshot.store(), voters: (&self.voters).into() }.encode_to_vec()
    }

    /// Decodes what [`Self::encode`] made.
    ///
    /// # Errors
    /// When the bytes are malformed.
    pub fn decode(section: &[u8]) -> Result<Self, FrameError> {
        let stored = StoredInstall::decode(section).map_err(|_| FrameError::Malformed("install"))?;
        Ok(Self { snapshot: SnapshotRef::from_stored(stored.snapshot)?, voters: stored.voters.try_into()? })
    }
}

/// From which entry on a region holds entries in the directory of one reign: entry `n` lies at index `n - origin`, up to
/// where the next extent begins.
///
/// Under [`Ballot::BOOTSTRAP`], which nobody leads, entries lie outside the path, as copies under their own keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First entry.
    pub first: Sequence,
    /// The reign.
    pub ballot: Ballot,
    /// Sequence that index 0 would have.
    pub origin: u64,
}

/// A truncation mark of one region: the state before `slot` on its path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Floor {
    /// Its number, from 1.
    pub k: u64,
    /// Where the path goes on.
    pub slot: Slot,
    /// The Takeover through which `slot`'s directory was entered.
    pub parent: Slot,
    /// Highest ballot on the path before `slot`.
    pub promised: Ballot,
    /// The snapshot of everything before.
    pub snapshot: SnapshotRef,
    /// Where the entries before `slot` are, ascending.
    pub extents: Vec<Extent>,
    /// The regions that vote behind the snapshot; `None` in a mark that was written before regions were counted.
    pub voters: Option<RegionSet>,
    /// How far regions are known to have come.
    pub marks: Vec<Mark>,
    /// Who leads the reign of `slot`; `None` in a mark that was written before leaders were sought.
    pub leader: Option<Leader>,
    /// Objects of entries up to here may have been deleted, but for those whose bodies the snapshot refers to: a region that
    /// misses such an entry cannot be sent it from this one.
    pub truncated: Sequence,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSlot {
    #[prost(fixed64, tag = "1")]
    round: u64,
    #[prost(fixed64, tag = "2")]
    nonce: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

impl From<Slot> for StoredSlot {
    fn from(slot: Slot) -> Self {
        Self { round: slot.ballot.round, nonce: slot.ballot.nonce, index: slot.index }
    }
}

impl From<StoredSlot> for Slot {
    fn from(stored: StoredSlot) -> Self {
        Self { ballot: Ballot { round: stored.round, nonce: stored.nonce }, index: stored.index }
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredFloor {
    #[prost(uint64, tag = "1")]
    k: u64,
    #[prost(message, required, tag = "2")]
    slot: StoredSlot,
    #[prost(message, required, tag = "3")]
    snapshot: StoredSnapshotRef,
    /// Ballot and origin of each extent; the origin takes the place of the index.
    #[prost(message, repeated, tag = "4")]
    extents: Vec<StoredSlot>,
    /// First entry of each extent. A mark without them was written when a reign's first entry always lay at index 0.
    #[prost(uint64, repeated, tag = "5")]
    firsts: Vec<u64>,
    #[prost(message, optional, tag = "6")]
    voters: Option<StoredRegionSet>,
    #[prost(message, repeated, tag = "7")]
    marks: Vec<StoredMark>,
    #[prost(message, optional, tag = "8")]
    leader: Option<StoredLeader>,
    #[prost(uint64, tag = "9")]
    truncated: u64,
}

impl Floor {
    /// The mark as an object, ready to be written.
    pub fn encode(&self, id: WriteId) -> Bytes {
        let extent = |extent: &Extent| Slot { ballot: extent.ballot, index: extent.origin }.into();
        let stored = StoredFloor {
            k: self.k,
            slot: self.slot.into(),
            snapshot: self.snapshot.store(),
            extents: self.extents.iter().map(extent).collect(),
            firsts: self.extents.iter().map(|extent| extent.first.0).collect(),
            voters: self.voters.as_ref().map(Into::into),
            marks: self.marks.iter().map(StoredMark::from).collect(),
            leader: self.leader.as_ref().map(StoredLeader::from),
            truncated: self.truncated.0,
        };
        let head = Head {
            kind: Kind::Floor,
            id,
            ballot: self.promised,
            parent: self.parent,
            sequence: self.snapshot.sequence,
            committed: self.snapshot.sequence,
            section_len: 0,
            section_crc: 0,
            body_len: 0,
        };
        head.encode(&stored.encode_to_vec()).into()
    }

    /// Decodes what [`Self::encode`] made.
    ///
    /// # Errors
    /// When the bytes are no truncation mark or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let head = Head::decode(bytes)?;
        if head.kind != Kind::Floor {
            return Err(FrameError::Malformed("kind of a truncation mark"));
        }
        let stored = StoredFloor::decode(head.section(bytes)?).map_err(|_| FrameError::Malformed("truncation mark"))?;
        if !stored.firsts.is_empty() && stored.firsts.len() != stored.extents.len() {
            return Err(FrameError::Malformed("extents of a truncation mark"));
        }
        let mut firsts = stored.firsts.into_iter();
        let extent = |slot: StoredSlot| {
            let Slot { ballot, index: origin } = slot.into();
            Extent { first: Sequence(firsts.next().unwrap_or(origin)), ballot, origin }
        };
        Ok(Self {
            k: stored.k,
            slot: stored.slot.into(),
            parent: head.parent,
            promised: head.ballot,
            snapshot: SnapshotRef::from_stored(stored.snapshot)?,
            extents: stored.extents.into_iter().map(extent).collect(),
            voters: stored.voters.map(RegionSet::try_from).transpose()?,
            marks: stored.marks.into_iter().map(Mark::try_from).collect::<Result<_, _>>()?,
            leader: stored.leader.map(Leader::from),
            truncated: Sequence(stored.truncated),
        })
    }
}
