//! Object keys of a region, printed and parsed in this one place.
//!
//! ```text
//! identity                                    cluster and region this bucket belongs to
//! journal/{shard}/{ballot}/{index}            objects of a reign
//! journal/{shard}/floor/{k}                   truncation marks
//! journal/{shard}/snapshot/{sequence}-{id}    snapshots
//! journal/{shard}/copies/{sequence}           entries outside the path
//! journal/{shard}/restore                     that the region is being restored
//! archive/{topic}/{topic id}/{partition}/{first offset}-{file}.parquet
//!                                             archive files
//! archive/{topic}/latest.json                 the files of a topic, for other programs
//! archive/{topic}/{topic id}/metadata/        the same as an Iceberg table
//! ```
//! Numbers are zero-padded hexadecimal, so that listings are in order; in the archive, which people look at, they are
//! decimal.

mod parse;

use std::fmt;

use object_store::path::Path;
/// A key of an object.
pub use object_store::path::Path as Key;
pub use parse::{FileKey, Object, is_staging, parse};

use crate::{
    ids::{Ballot, FileId, Offset, Partition, Sequence, ShardId, TopicId, WriteId},
    names::TopicName,
};

/// A place on a shard's path: index `index` in the directory of reign `ballot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The reign whose directory it is in.
    pub ballot: Ballot,
    /// Position in the directory, from 0.
    pub index: u64,
}

impl Slot {
    /// First slot of a reign's directory.
    pub const fn first(ballot: Ballot) -> Self {
        Self { ballot, index: 0 }
    }

    /// The slot after this one in the same directory.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { ballot: self.ballot, index: self.index + 1 }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ballot, self.index)
    }
}

/// Key of the region's identity object.
pub fn identity() -> Path {
    Path::from("identity")
}

/// Prefix of every shard's journal.
pub fn journals() -> Path {
    Path::from("journal")
}

/// Key of a journal object.
pub fn journal(shard: ShardId, slot: Slot) -> Path {
    let Slot { ballot: Ballot { round, nonce }, index } = slot;
    Path::from(format!("journal/{:08x}/{round:012x}-{nonce:016x}/{index:012x}", shard.0))
}

/// Prefix of the objects of a reign.
pub fn reign(shard: ShardId, ballot: Ballot) -> Path {
    let Ballot { round, nonce } = ballot;
    Path::from(format!("journal/{:08x}/{round:012x}-{nonce:016x}", shard.0))
}

/// The index of an object of a reign, from its key; `None` for a foreign object.
pub fn parse_index(shard: ShardId, ballot: Ballot, key: &Path) -> Option<u64> {
    let index = u64::from_str_radix(key.filename()?, 16).ok()?;
    (*key == journal(shard, Slot { ballot, index })).then_some(index)
}

/// Prefix of a shard's copies.
pub fn copies(shard: ShardId) -> Path {
    Path::from(format!("journal/{:08x}/copies", shard.0))
}

/// Key of a copy of an entry outside the path, in a region that a snapshot was put in instead of entries.
pub fn copy(shard: ShardId, sequence: Sequence) -> Path {
    Path::from(format!("journal/{:08x}/copies/{:016x}", shard.0, sequence.0))
}

/// The entry that a copy is of, from its key; `None` for a foreign object.
pub fn parse_copy(shard: ShardId, key: &Path) -> Option<Sequence> {
    let sequence = Sequence(u64::from_str_radix(key.filename()?, 16).ok()?);
    (*key == copy(shard, sequence)).then_some(sequence)
}

/// Prefix of a shard's truncation marks.
pub fn floors(shard: ShardId) -> Path {
    Path::from(format!("journal/{:08x}/floor", shard.0))
}

/// Key of truncation mark `k`, from 1.
pub fn floor(shard: ShardId, k: u64) -> Path {
    Path::from(format!("journal/{:08x}/floor/{k:012x}", shard.0))
}

/// The number of a truncation mark, from its key; `None` for a foreign object.
pub fn parse_floor(shard: ShardId, key: &Path) -> Option<u64> {
    let name = key.filename()?;
    let k = u64::from_str_radix(name, 16).ok()?;
    (k > 0 && *key == floor(shard, k)).then_some(k)
}

/// Key of a snapshot of entries 1 to `sequence`.
pub fn snapshot(shard: ShardId, sequence: Sequence, id: WriteId) -> Path {
    Path::from(format!("journal/{:08x}/snapshot/{:016x}-{id}", shard.0, sequence.0))
}

/// Key of the mark of a region that is being restored from another cluster's.
pub fn restoring(shard: ShardId) -> Path {
    Path::from(format!("journal/{:08x}/restore", shard.0))
}

/// Prefix of everything in the archive.
pub fn archives() -> Path {
    Path::from("archive")
}

/// Prefix of a topic's archive; topics that had the name before are in it, too.
pub fn archive(name: &TopicName) -> Path {
    Path::from(format!("archive/{name}"))
}

/// Prefix of the archive of this very topic.
pub fn archive_of(name: &TopicName, topic: TopicId) -> Path {
    Path::from(format!("archive/{name}/{topic}"))
}

/// Key of an archive file that covers offsets from `first` on.
pub fn archive_file(name: &TopicName, topic: TopicId, partition: Partition, first: Offset, file: FileId) -> Path {
    Path::from(format!("archive/{name}/{topic}/{partition:05}/{:020}-{:012}.parquet", first.0, file.0))
}

/// The number of an archive file, from its key; `None` for a foreign object.
pub fn parse_archive_file(key: &Path) -> Option<FileId> {
    let (_, file) = key.filename()?.strip_suffix(".parquet")?.split_once('-')?;
    let digits = file.len() >= 12 && file.bytes().all(|digit| digit.is_ascii_digit());
    file.parse().ok().filter(|_| digits).map(FileId)
}

/// Key of the list of a topic's archive files.
pub fn latest(name: &TopicName) -> Path {
    Path::from(format!("archive/{name}/latest.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let key = |round, index| journal(ShardId(0), Slot { ballot: Ballot { round, nonce: 7 }, index });
        let keys = [key(1, 0), key(1, 9), key(1, 10), key(1, 256), key(2, 0), key(16, 3)];
        assert!(keys.is_sorted());
        assert_eq!(keys[3].as_ref(), "journal/00000000/000000000001-0000000000000007/000000000100");
    }

    #[test]
    fn floors_parse_back_and_foreign_names_do_not() {
        for k in [1, 10, 4711, u64::from(u32::MAX)] {
            assert_eq!(parse_floor(ShardId(3), &floor(ShardId(3), k)), Some(k));
        }
        for foreign in ["journal/00000003/floor/1", "journal/00000003/floor/zz", "journal/00000004/floor/000000000001"]
        {
            assert_eq!(parse_floor(ShardId(3), &Path::from(foreign)), None, "{foreign}");
        }
    }
}
