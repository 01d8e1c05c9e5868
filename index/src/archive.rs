//! The archive: messages of a partition in Parquet files, as the index knows them and as they are written and read.

mod blocks;
mod crc;
mod decode;
mod error;
mod fetched;
mod footer;
mod head;
mod key_column;
mod merger;
mod moved;
mod output;
mod pages;
mod schema;
mod seal;
mod writer;

pub use blocks::Block;
pub use decode::Rows;
pub use error::ArchiveError;
pub use footer::{Footer, FooterStep};
pub use head::{FileHead, Written};
pub use key_column::Keys;
pub use merger::FileMerger;
pub use moved::{crc_with_end, moved_footer};
pub use schema::archive_schema;
pub use writer::{FileWriter, WriterSettings};

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    batch::{AttributeSet, Messages},
    ids::{FileId, Offset, Partition, RegionNo, TopicId},
    keys::{self, Key},
    names::TopicName,
};

/// A set of messages, as a number: the sum of the hashes of its messages. Sets that are equal have equal sums, in whatever
/// order and files their messages are; others have not, but by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetHash(pub u128);

impl SetHash {
    /// Hash of one message at its offset. `scratch` is overwritten; it saves allocations.
    pub fn of(messages: &Messages, row: usize, partition: Partition, offset: Offset, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.extend_from_slice(&partition.0.to_le_bytes());
        scratch.extend_from_slice(&offset.0.to_le_bytes());
        scratch.extend_from_slice(&messages.timestamps()[row].to_le_bytes());
        scratch.push(messages.kind(row) as u8);
        put(scratch, messages.key(row));
        put(scratch, messages.value(row));
        for (name, value) in messages.headers(row) {
            put(scratch, Some(name.as_bytes()));
            put(scratch, Some(value.as_bytes()));
        }
        // Ends the headers: no name begins like this.
        scratch.push(2);
        let attributes = messages.attributes(row);
        put(scratch, attributes.group.map(str::as_bytes));
        put(scratch, attributes.priority.map(|priority| [priority]).as_ref().map(<[u8; 1]>::as_slice));
        for time in [attributes.deliver_at_ms, attributes.expires_at_ms] {
            put(scratch, time.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        }
        Self(xxh3_128(scratch))
    }

    /// Both sets together; they must have nothing in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

/// Appends a field so that no two sequences of fields look alike.
fn put(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(0),
        Some(bytes) => {
            out.push(1);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// An archive file that committed state refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Its identity.
    pub id: FileId,
    /// First offset that it covers. After key compaction there may be no message at it.
    pub first: Offset,
    /// The offset after the last that it covers.
    pub end: Offset,
    /// Messages in it, at least one.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of keys, values and headers in it.
    pub payload_bytes: u64,
    /// CRC-32C of the whole object.
    pub crc: u32,
    /// Hash of its messages.
    pub set_hash: SetHash,
    /// Smallest timestamp, milliseconds since the Unix epoch.
    pub min_timestamp_ms: i64,
    /// Largest timestamp, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// Smallest timestamp of its tombstones: messages with a key and no value. `None` if there is none in it.
    pub oldest_tombstone_ms: Option<i64>,
    /// Which attributes its messages use.
    pub attributes: AttributeSet,
    /// How often its messages were written into an archive file after the first time, at most.
    pub merges: u32,
    /// Whether it was key-compacted: then offsets in it may be missing, and none of its keys occurs twice in it.
    pub compacted: bool,
    /// Regions that are known to hold it, ascending.
    pub regions: Vec<RegionNo>,
}

impl ArchiveFile {
    /// Key of its object.
    pub fn key(&self, name: &TopicName, topic: TopicId, partition: Partition) -> Key {
        keys::archive_file(name, topic, partition, self.first, self.id)
    }

    /// Whether messages are missing between the offsets that it covers.
    pub fn has_gaps(&self) -> bool {
        self.rows < self.end.0 - self.first.0
    }
}

#[cfg(test)]
mod tests;
