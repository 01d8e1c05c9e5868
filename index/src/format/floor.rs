//! Truncation marks: where a region's path may be entered, and the snapshot that stands for what came before.

use bytes::Bytes;
use prost::Message;

use super::frame::{FrameError, Head, Kind};
use crate::{
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
};

/// A snapshot, by what it covers and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Encodes it as the section of an Install.
    pub fn encode(&self) -> Vec<u8> {
        self.store().encode_to_vec()
    }

    /// Decodes what [`Self::encode`] made.
    ///
    /// # Errors
    /// When the bytes are malformed.
    pub fn decode(section: &[u8]) -> Result<Self, FrameError> {
        let stored = StoredSnapshotRef::decode(section).map_err(|_| FrameError::Malformed("snapshot reference"))?;
        Self::from_stored(stored)
    }
}

/// How a reign's directory in one region maps sequences to indexes: entry `n` lies at index `n - origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReignStart {
    /// The reign.
    pub ballot: Ballot,
    /// Sequence that index 0 would have.
    pub origin: u64,
}

/// A truncation mark of one region: the state before `slot` on its path.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Reigns of which entries are still referenced as data, or which go on.
    pub reigns: Vec<ReignStart>,
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
    /// Ballot and origin of each reign; the origin takes the place of the index.
    #[prost(message, repeated, tag = "4")]
    reigns: Vec<StoredSlot>,
}

impl Floor {
    /// The mark as an object, ready to be written.
    pub fn encode(&self, id: WriteId) -> Bytes {
        let reign = |reign: &ReignStart| Slot { ballot: reign.ballot, index: reign.origin }.into();
        let stored = StoredFloor {
            k: self.k,
            slot: self.slot.into(),
            snapshot: self.snapshot.store(),
            reigns: self.reigns.iter().map(reign).collect(),
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
        let reign = |slot: StoredSlot| {
            let Slot { ballot, index } = slot.into();
            ReignStart { ballot, origin: index }
        };
        Ok(Self {
            k: stored.k,
            slot: stored.slot.into(),
            parent: head.parent,
            promised: head.ballot,
            snapshot: SnapshotRef::from_stored(stored.snapshot)?,
            reigns: stored.reigns.into_iter().map(reign).collect(),
        })
    }
}
