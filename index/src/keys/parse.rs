//! What an object is, by its key.

use super::{Key, Slot, archive_file, copy, floor, identity, journal, latest, restoring, snapshot};
use crate::{
    ids::{Ballot, FileId, Offset, Partition, Sequence, ShardId, TopicId, WriteId},
    names::TopicName,
};

/// What an object is, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The identity of the region.
    Identity,
    /// That the region is being restored.
    Restoring,
    /// An object of a reign.
    Journal(Slot),
    /// A truncation mark.
    Floor(u64),
    /// A snapshot.
    Snapshot(Sequence, WriteId),
    /// An entry outside the path.
    Copy(Sequence),
    /// An archive file.
    File(FileKey),
    /// What is published of a topic's archive for other programs: of the topic of that identity, or of whichever topic has
    /// the name.
    View(TopicName, Option<TopicId>),
    /// What a killed process left of a write.
    Staging,
    /// Something else.
    Foreign,
}

/// What the key of an archive file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey {
    /// Name of the topic.
    pub name: TopicName,
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
    /// First offset that it covers.
    pub first: Offset,
    /// Its identity.
    pub id: FileId,
}

/// What an object of this shard, or of the archive, is by its key. A key that is not printed as this version of Brigade
/// prints it is foreign.
pub fn parse(shard: ShardId, key: &Key) -> Object {
    if is_staging(key) {
        return Object::Staging;
    }
    if *key == identity() {
        return Object::Identity;
    }
    if *key == restoring(shard) {
        return Object::Restoring;
    }
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let found = match parts.as_slice() {
        ["journal", _, rest @ ..] => journal_object(rest),
        ["archive", name, rest @ ..] => archive_object(name, rest),
        _ => None,
    };
    // Only what is printed the same way is ours.
    match &found {
        Some(Object::Journal(slot)) if *key == journal(shard, *slot) => {}
        Some(Object::Floor(k)) if *k > 0 && *key == floor(shard, *k) => {}
        Some(Object::Snapshot(sequence, id)) if *key == snapshot(shard, *sequence, *id) => {}
        Some(Object::Copy(sequence)) if *key == copy(shard, *sequence) => {}
        Some(Object::File(file))
            if *key == archive_file(&file.name, file.topic, file.partition, file.first, file.id) => {}
        Some(Object::View(name, None)) if *key == latest(name) => {}
        Some(Object::View(_, Some(_))) => {}
        _ => return Object::Foreign,
    }
    found.unwrap_or(Object::Foreign)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn journal_object(parts: &[&str]) -> Option<Object> {
    match parts {
        ["floor", k] => Some(Object::Floor(hex(k)?)),
        ["copies", sequence] => Some(Object::Copy(Sequence(hex(sequence)?))),
        ["snapshot", name] => {
            let (sequence, id) = name.split_once('-')?;
            let id = u128::from_str_radix(id, 16).ok()?;
            Some(Object::Snapshot(Sequence(hex(sequence)?), WriteId(id)))
        }
        [ballot, index] => {
            let (round, nonce) = ballot.split_once('-')?;
            let ballot = Ballot { round: hex(round)?, nonce: hex(nonce)? };
            Some(Object::Journal(Slot { ballot, index: hex(index)? }))
        }
        _ => None,
    }
}

fn archive_object(name: &str, parts: &[&str]) -> Option<Object> {
    let name = TopicName::new(name).ok()?;
    match parts {
        ["latest.json"] => Some(Object::View(name, None)),
        [topic, "metadata", _] => Some(Object::View(name, Some(TopicId(topic.parse().ok()?)))),
        [topic, partition, file] => {
            let (first, id) = file.strip_suffix(".parquet")?.split_once('-')?;
            let (topic, partition) = (TopicId(topic.parse().ok()?), Partition(partition.parse().ok()?));
            let (first, id) = (Offset(first.parse().ok()?), FileId(id.parse().ok()?));
            Some(Object::File(FileKey { name, topic, partition, first, id }))
        }
        _ => None,
    }
}

/// Whether a key is a file that a killed process left while it wrote `key`: `key#1`.
pub fn is_staging(key: &Key) -> bool {
    key.filename()
        .and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    #[test]
    fn every_key_is_told_apart_and_foreign_ones_are_foreign() {
        let name = TopicName::new("orders").unwrap();
        let slot = Slot { ballot: Ballot { round: 7, nonce: u64::MAX }, index: 12 };
        let file = FileKey {
            name: name.clone(),
            topic: TopicId(9),
            partition: Partition(31),
            first: Offset(1 << 40),
            id: FileId(1_000_000_000_001),
        };
        let key = archive_file(&file.name, file.topic, file.partition, file.first, file.id);
        let metadata = Key::from("archive/orders/9/metadata/v3.metadata.json");
        for (key, object) in [
            (identity(), Object::Identity),
            (restoring(SHARD), Object::Restoring),
            (journal(SHARD, slot), Object::Journal(slot)),
            (floor(SHARD, 5), Object::Floor(5)),
            (snapshot(SHARD, Sequence(8), WriteId(6)), Object::Snapshot(Sequence(8), WriteId(6))),
            (copy(SHARD, Sequence(77)), Object::Copy(Sequence(77))),
            (key, Object::File(file)),
            (latest(&name), Object::View(name.clone(), None)),
            (metadata, Object::View(name, Some(TopicId(9)))),
            (Key::parse(format!("{}#2", journal(SHARD, slot))).unwrap(), Object::Staging),
        ] {
            assert_eq!(parse(SHARD, &key), object, "{key}");
        }
        for foreign in [
            "readme.txt",
            "journal/00000004/floor/000000000001",
            "journal/00000003/floor/1",
            "journal/00000003/floor/000000000000",
            "journal/00000003/000000000007-ffffffffffffffff/12",
            "archive/orders/9/31/00000000000000000001-000000000001.parquet",
            "archive/orders/9/00031/notes.txt",
            "archive",
        ] {
            assert_eq!(parse(SHARD, &Key::from(foreign)), Object::Foreign, "{foreign}");
        }
    }
}
