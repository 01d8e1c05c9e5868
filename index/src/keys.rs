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

/// Prefix of everything of a shard.
pub fn journal_of(shard: ShardId) -> Path {
    Path::from(format!("journal/{:08x}", shard.0))
}

/// The place of a journal object, from its key; `None` for a foreign object.
pub fn parse_journal(shard: ShardId, key: &Path) -> Option<Slot> {
    let mut parts = key.as_ref().rsplit('/');
    let index = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (round, nonce) = parts.next()?.split_once('-')?;
    let ballot = Ballot { round: u64::from_str_radix(round, 16).ok()?, nonce: u64::from_str_radix(nonce, 16).ok()? };
    let slot = Slot { ballot, index };
    (*key == journal(shard, slot)).then_some(slot)
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

/// Prefix of a shard's snapshots.
pub fn snapshots(shard: ShardId) -> Path {
    Path::from(format!("journal/{:08x}/snapshot", shard.0))
}

/// The last entry that a snapshot covers, from its key; `None` for a foreign object.
pub fn parse_snapshot(shard: ShardId, key: &Path) -> Option<Sequence> {
    let (sequence, id) = key.filename()?.split_once('-')?;
    let sequence = Sequence(u64::from_str_radix(sequence, 16).ok()?);
    let id = WriteId(u128::from_str_radix(id, 16).ok()?);
    (*key == snapshot(shard, sequence, id)).then_some(sequence)
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
    let mut parts = key.as_ref().split('/').skip(1);
    let name = TopicName::new(parts.next()?).ok()?;
    let (topic, partition) = (TopicId(parts.next()?.parse().ok()?), Partition(parts.next()?.parse().ok()?));
    let (first, file) = parts.next()?.strip_suffix(".parquet")?.split_once('-')?;
    let (first, file) = (Offset(first.parse().ok()?), FileId(file.parse().ok()?));
    (*key == archive_file(&name, topic, partition, first, file)).then_some(file)
}

/// Key of the list of a topic's archive files.
pub fn latest(name: &TopicName) -> Path {
    Path::from(format!("archive/{name}/latest.json"))
}

/// Prefix of the Iceberg metadata of a topic.
pub fn metadata(name: &TopicName, topic: TopicId) -> Path {
    Path::from(format!("archive/{name}/{topic}/metadata"))
}

/// Key of the root of version `version` of a topic's Iceberg table.
pub fn table(name: &TopicName, topic: TopicId, version: u64) -> Path {
    Path::from(format!("archive/{name}/{topic}/metadata/v{version}.metadata.json"))
}

/// Key of the list of manifests of a version of the table.
pub fn manifests(name: &TopicName, topic: TopicId, version: u64) -> Path {
    Path::from(format!("archive/{name}/{topic}/metadata/v{version}.manifests.avro"))
}

/// Key of manifest `part`, from 0, of a version of the table.
pub fn manifest(name: &TopicName, topic: TopicId, version: u64, part: usize) -> Path {
    Path::from(format!("archive/{name}/{topic}/metadata/v{version}.manifest-{part}.avro"))
}

/// Key of the number of the table's newest version.
pub fn version_hint(name: &TopicName, topic: TopicId) -> Path {
    Path::from(format!("archive/{name}/{topic}/metadata/version-hint.text"))
}

/// The version of the table that an object belongs to, from its key; `None` for a foreign object.
pub fn parse_table_version(name: &TopicName, topic: TopicId, key: &Path) -> Option<u64> {
    let (version, rest) = key.filename()?.strip_prefix('v')?.split_once('.')?;
    let version = version.parse().ok()?;
    let part = rest.strip_prefix("manifest-").and_then(|rest| rest.strip_suffix(".avro")?.parse().ok());
    let keys = [table(name, topic, version), manifests(name, topic, version)];
    let manifest = part.map(|part| manifest(name, topic, version, part));
    keys.iter().chain(&manifest).any(|own| own == key).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_a_table_parse_back_and_foreign_names_do_not() {
        let (name, topic) = (TopicName::new("orders").unwrap(), TopicId(7));
        for key in [table(&name, topic, 12), manifests(&name, topic, 12), manifest(&name, topic, 12, 3)] {
            assert_eq!(parse_table_version(&name, topic, &key), Some(12), "{key}");
            assert_eq!(parse_table_version(&name, TopicId(8), &key), None, "{key}");
        }
        let hint = version_hint(&name, topic);
        for foreign in [hint.as_ref(), "archive/orders/7/metadata/v012.metadata.json", "v12.manifest-+3.avro"] {
            assert_eq!(parse_table_version(&name, topic, &Path::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let key = |round, index| journal(ShardId(0), Slot { ballot: Ballot { round, nonce: 7 }, index });
        let keys = [key(1, 0), key(1, 9), key(1, 10), key(1, 256), key(2, 0), key(16, 3)];
        assert!(keys.is_sorted());
        assert_eq!(keys[3].as_ref(), "journal/00000000/000000000001-0000000000000007/000000000100");
    }

    #[test]
    fn archive_files_parse_back_and_foreign_names_do_not() {
        let name = TopicName::new("orders.eu").unwrap();
        for (topic, partition, first, file) in
            [(1, 0, 0, 1), (12, 345, 67_890, 1_234), (u64::MAX, u32::MAX, u64::MAX, u64::MAX)]
        {
            let key = archive_file(&name, TopicId(topic), Partition(partition), Offset(first), FileId(file));
            assert_eq!(parse_archive_file(&key), Some(FileId(file)), "{key}");
            assert!(key.prefix_matches(&archive_of(&name, TopicId(topic))) && key.prefix_matches(&archive(&name)));
        }
        let good = "archive/orders/3/00001/00000000000000000010-000000000007.parquet";
        assert_eq!(parse_archive_file(&Path::from(good)), Some(FileId(7)));
        for foreign in [
            "archive/orders/3/00001/00000000000000000010-7.parquet",
            "archive/orders/3/00001/10-000000000007.parquet",
            "archive/orders/3/00001/00000000000000000010-+00000000007.parquet",
            "archive/orders/3/00001/mine-000000000007.parquet",
            "archive/orders/3/1/00000000000000000010-000000000007.parquet",
            "archive/orders/03/00001/00000000000000000010-000000000007.parquet",
            "archive/orders/3/00001/x/00000000000000000010-000000000007.parquet",
            "archive/orders/3/00001/00000000000000000010-000000000007.parquet.bak",
            "archive/or ders/3/00001/00000000000000000010-000000000007.parquet",
            "mine/orders/3/00001/00000000000000000010-000000000007.parquet",
            "archive/orders/latest.json",
            "archive",
        ] {
            assert_eq!(parse_archive_file(&Path::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn objects_of_a_journal_parse_back_and_foreign_names_do_not() {
        let shard = ShardId(3);
        for (round, nonce, index) in [(0, 0, 0), (7, u64::MAX, 4711), (1 << 40, 1, u64::from(u32::MAX))] {
            let slot = Slot { ballot: Ballot { round, nonce }, index };
            assert_eq!(parse_journal(shard, &journal(shard, slot)), Some(slot));
            assert_eq!(parse_journal(ShardId(4), &journal(shard, slot)), None);
            let (sequence, id) = (Sequence(round), WriteId(nonce.into()));
            assert_eq!(parse_snapshot(shard, &snapshot(shard, sequence, id)), Some(sequence));
            let others = [floor(shard, index + 1), copy(shard, sequence), snapshot(shard, sequence, id)];
            assert!(others.iter().all(|key| parse_journal(shard, key).is_none()));
            assert!(others[..2].iter().all(|key| parse_snapshot(shard, key).is_none()));
        }
        for foreign in ["journal/00000003/1-2/3", "journal/00000003/snapshot/12-zz", "1-2/3", "journal/00000003/x"] {
            let foreign = Path::from(foreign);
            assert_eq!((parse_journal(shard, &foreign), parse_snapshot(shard, &foreign)), (None, None), "{foreign}");
        }
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
