//! The frame around every stored object: a fixed head, a section that recovery reads, and a body that it does not.
//!
//! ```text
//! at  bytes
//!  0    4   magic "BRGD"
//!  4    2   format version
//!  6    1   kind
//!  7    1   zero
//!  8    4   length of the section
//! 12    4   CRC-32C of the section
//! 16   16   identity of the write, big endian
//! 32   16   ballot: round, nonce
//! 48   24   parent: round, nonce, index
//! 72    8   sequence n
//! 80    8   committed mark c
//! 88    8   length of the body
//! 96    4   zero
//! 100   4   CRC-32C of bytes 0 to 100
//! 104       section, then body
//! ```
//! All numbers but the identity are little endian. The head has a fixed size so that a copy of an entry under another
//! ballot keeps its body at the same place.

use crate::{
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
    limits::MAX_SECTION_BYTES,
};

/// Length of the head in bytes.
pub const HEAD_BYTES: usize = 104;
/// Where the identity of a write lies in every object written with put-if-absent: 16 bytes, big endian.
pub const ID_RANGE: std::ops::Range<usize> = 16..32;

const MAGIC: [u8; 4] = *b"BRGD";
const VERSION: u16 = 1;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A journal entry.
    Commit = 1,
    /// A snapshot put in place of entries, for a region that was away.
    Install = 2,
    /// The end of a reign and the name of the next.
    Takeover = 3,
    /// A truncation mark.
    Floor = 4,
    /// A snapshot of the shard's state.
    Snapshot = 5,
}

impl Kind {
    fn from_u8(number: u8) -> Option<Self> {
        [Self::Commit, Self::Install, Self::Takeover, Self::Floor, Self::Snapshot]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Why stored bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the object says it has.
    #[error("truncated: {have} bytes of {want}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// Not one of our objects.
    #[error("not a Brigade object: its first four bytes are {0:02x?}")]
    Foreign([u8; 4]),
    /// Written by a newer version.
    #[error("format version {0} is newer than this program reads (1)")]
    Version(u16),
    /// A checksum does not match.
    #[error("checksum of the {0} does not match")]
    Checksum(&'static str),
    /// The checksum matches but the content makes no sense.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// The head of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the object is.
    pub kind: Kind,
    /// Identity of the write.
    pub id: WriteId,
    /// Ballot of the writer.
    pub ballot: Ballot,
    /// The Takeover through which the writer entered the directory.
    pub parent: Slot,
    /// Sequence number: of the entry, or the last one that a snapshot covers.
    pub sequence: Sequence,
    /// All entries up to here are committed.
    pub committed: Sequence,
    /// Length of the section in bytes.
    pub section_len: u32,
    /// CRC-32C of the section.
    pub section_crc: u32,
    /// Length of the body in bytes.
    pub body_len: u64,
}

/// CRC-32C.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C of bytes with the checksum `before`, and of these behind them.
pub fn checksum_behind(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

impl Head {
    /// Where the body begins in the object.
    pub const fn body_at(&self) -> u64 {
        HEAD_BYTES as u64 + self.section_len as u64
    }

    /// Length of the whole object.
    pub const fn object_len(&self) -> u64 {
        self.body_at() + self.body_len
    }

    /// The head followed by `section`, whose length and checksum are filled in.
    ///
    /// # Panics
    /// When the section is longer than [`MAX_SECTION_BYTES`]; writers bound it.
    pub fn encode(mut self, section: &[u8]) -> Vec<u8> {
        assert!(section.len() <= MAX_SECTION_BYTES, "sections are bounded");
        self.section_len = section.len() as u32;
        self.section_crc = checksum(section);
        let mut out = Vec::with_capacity(HEAD_BYTES + section.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0]);
        out.extend_from_slice(&self.section_len.to_le_bytes());
        out.extend_from_slice(&self.section_crc.to_le_bytes());
        out.extend_from_slice(&self.id.0.to_be_bytes());
        let numbers = [
            self.ballot.round,
            self.ballot.nonce,
            self.parent.ballot.round,
            self.parent.ballot.nonce,
            self.parent.index,
            self.sequence.0,
            self.committed.0,
            self.body_len,
        ];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(&[0; 4]);
        let crc = checksum(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(out.len(), HEAD_BYTES);
        out.extend_from_slice(section);
        out
    }

    /// Reads the head at the start of `bytes`.
    ///
    /// # Errors
    /// When it is cut off, foreign, newer, or its checksum does not match.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let head: &[u8; HEAD_BYTES] =
            bytes.first_chunk().ok_or(FrameError::Truncated { have: bytes.len(), want: HEAD_BYTES })?;
        let magic = [head[0], head[1], head[2], head[3]];
        if magic != MAGIC {
            return Err(FrameError::Foreign(magic));
        }
        let version = u16::from_le_bytes([head[4], head[5]]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if u32_at(head, 100) != checksum(&head[..100]) {
            return Err(FrameError::Checksum("head"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&head[ID_RANGE]);
        let ballot_at = |at| Ballot { round: u64_at(head, at), nonce: u64_at(head, at + 8) };
        Ok(Self {
            kind: Kind::from_u8(head[6]).ok_or(FrameError::Malformed("kind"))?,
            id: WriteId(u128::from_be_bytes(id)),
            ballot: ballot_at(32),
            parent: Slot { ballot: ballot_at(48), index: u64_at(head, 64) },
            sequence: Sequence(u64_at(head, 72)),
            committed: Sequence(u64_at(head, 80)),
            section_len: u32_at(head, 8),
            section_crc: u32_at(head, 12),
            body_len: u64_at(head, 88),
        })
    }

    /// The section that follows the head in `bytes`, checked.
    ///
    /// # Errors
    /// When it is cut off, too long, or its checksum does not match.
    pub fn section<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let want = HEAD_BYTES + self.section_len as usize;
        if self.section_len as usize > MAX_SECTION_BYTES {
            return Err(FrameError::Malformed("section length"));
        }
        let section = bytes.get(HEAD_BYTES..want).ok_or(FrameError::Truncated { have: bytes.len(), want })?;
        if checksum(section) == self.section_crc { Ok(section) } else { Err(FrameError::Checksum("section")) }
    }
}

fn u32_at(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn u64_at(head: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from(u32_at(head, at)) | (u64::from(u32_at(head, at + 4)) << 32)
}
