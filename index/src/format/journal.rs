//! Journal objects: Commit, Install and Takeover.

use bytes::Bytes;
use prost::Message;

use super::{
    command::{StoredCommand, region_number},
    floor::Install,
    frame::{FrameError, HEAD_BYTES, Head, Kind},
};
use crate::{
    command::Command,
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
    region::{Mark, RegionSet},
};

/// What an entry says: commands, and the leader's clock when it was sealed.
///
/// `apply` takes all time from here, so that every node decides alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// Milliseconds since the Unix epoch by the clock of the leader that sealed it.
    pub time_ms: i64,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// How far regions had come; given now and then, not with every entry.
    pub marks: Vec<Mark>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredValue {
    #[prost(sint64, tag = "1")]
    time_ms: i64,
    #[prost(message, repeated, tag = "2")]
    commands: Vec<StoredCommand>,
    #[prost(message, repeated, tag = "3")]
    marks: Vec<StoredMark>,
}

/// A mark of one region.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredMark {
    #[prost(uint32, tag = "1")]
    region: u32,
    #[prost(fixed64, tag = "2")]
    round: u64,
    #[prost(fixed64, tag = "3")]
    nonce: u64,
    #[prost(uint64, tag = "4")]
    sequence: u64,
}

impl From<&Mark> for StoredMark {
    fn from(mark: &Mark) -> Self {
        let Mark { region, ballot, sequence } = mark;
        Self { region: region.0.into(), round: ballot.round, nonce: ballot.nonce, sequence: sequence.0 }
    }
}

impl TryFrom<StoredMark> for Mark {
    type Error = FrameError;

    fn try_from(stored: StoredMark) -> Result<Self, FrameError> {
        let ballot = Ballot { round: stored.round, nonce: stored.nonce };
        Ok(Self { region: region_number(stored.region)?, ballot, sequence: Sequence(stored.sequence) })
    }
}

impl Value {
    /// Encodes it as the section of a Commit.
    pub fn encode(&self) -> Bytes {
        let commands = self.commands.iter().map(StoredCommand::from).collect();
        let marks = self.marks.iter().map(StoredMark::from).collect();
        StoredValue { time_ms: self.time_ms, commands, marks }.encode_to_vec().into()
    }

    /// The regions that vote from behind this entry on, if it changes them.
    pub fn voters(&self) -> Option<&RegionSet> {
        self.commands.iter().rev().find_map(|command| match command {
            Command::SetVoters(voters) => Some(voters),
            _ => None,
        })
    }

    /// Decodes what [`Self::encode`] made.
    ///
    /// # Errors
    /// When the bytes are malformed.
    pub fn decode(section: &[u8]) -> Result<Self, FrameError> {
        let stored = StoredValue::decode(section).map_err(|_| FrameError::Malformed("entry"))?;
        let commands = stored.commands.into_iter().map(Command::try_from).collect::<Result<_, _>>()?;
        let marks = stored.marks.into_iter().map(Mark::try_from).collect::<Result<_, _>>()?;
        Ok(Self { time_ms: stored.time_ms, commands, marks })
    }
}

/// Who leads a reign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Name of the node.
    pub node: String,
    /// URL at which other nodes and clients reach it; empty when it has none.
    pub address: String,
    /// Milliseconds since the Unix epoch by its clock.
    pub time_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredLeader {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(sint64, tag = "3")]
    time_ms: i64,
}

impl From<&Leader> for StoredLeader {
    fn from(leader: &Leader) -> Self {
        Self { node: leader.node.clone(), address: leader.address.clone(), time_ms: leader.time_ms }
    }
}

impl From<StoredLeader> for Leader {
    fn from(stored: StoredLeader) -> Self {
        Self { node: stored.node, address: stored.address, time_ms: stored.time_ms }
    }
}

impl Leader {
    /// The Takeover by which a leader with ballot `ballot` ends the reign that `parent` began, ready to be written.
    pub fn takeover(&self, ballot: Ballot, parent: Slot, id: WriteId) -> Bytes {
        let stored = StoredLeader::from(self);
        let head = Head {
            kind: Kind::Takeover,
            id,
            ballot,
            parent,
            sequence: Sequence(0),
            committed: Sequence(0),
            section_len: 0,
            section_crc: 0,
            body_len: 0,
        };
        head.encode(&stored.encode_to_vec()).into()
    }
}

/// The section of a journal object, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// An entry.
    Commit(Value),
    /// A snapshot in place of entries.
    Install(Install),
    /// The next reign's leader.
    Takeover(Leader),
}

/// A journal object without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its head.
    pub head: Head,
    /// Its section as stored.
    pub raw: Bytes,
    /// Its section.
    pub section: Section,
}

impl Record {
    /// Decodes a journal object from its first bytes, which must reach to the end of its section.
    ///
    /// # Errors
    /// When the bytes are no journal object or damaged.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let head = Head::decode(bytes)?;
        let raw = bytes.slice_ref(head.section(bytes)?);
        let section = match head.kind {
            Kind::Commit => Section::Commit(Value::decode(&raw)?),
            Kind::Install => Section::Install(Install::decode(&raw)?),
            Kind::Takeover => {
                let stored = StoredLeader::decode(raw.as_ref()).map_err(|_| FrameError::Malformed("takeover"))?;
                Section::Takeover(stored.into())
            }
            Kind::Floor | Kind::Snapshot => return Err(FrameError::Malformed("kind of a journal object")),
        };
        Ok(Self { head, raw, section })
    }

    /// Length of the first bytes that [`Self::decode`] needs, from an object's head.
    ///
    /// # Errors
    /// When the head is damaged.
    pub fn needed(bytes: &[u8]) -> Result<usize, FrameError> {
        Ok(HEAD_BYTES + Head::decode(bytes)?.section_len as usize)
    }
}
