//! Giving a region what it misses, from regions that have it whole.
//!
//! Nothing here can hurt a live cluster: an object is written anew only with the bytes that it had, or where nothing but
//! its batches is read any more, which have checksums of their own.

use brigade_index::{
    format::{HEAD_BYTES, Head, Kind, SnapshotRef, checksum},
    ids::{FileId, Sequence, WriteId},
    keys::{self, Key, Object, Slot},
    shard::inspect::{Damage, check_entry, check_snapshot},
    store::{Component, RegionStore, StoreError},
};
use bytes::Bytes;

use super::{
    entries::Reading,
    scene::{FileRef, Scene, Sight},
    verify::Piece,
};

/// Bytes of a part of a large object.
const PART: u64 = 8 << 20;

/// A repair was done, or why it cannot be.
pub(crate) type Repaired = Result<Result<(), String>, StoreError>;

const NOBODY: &str = "no other region has it whole";
const LOST: &str = "it is needed as it was; put a new region in the place of this one: brigade region replace";

/// Repairs a piece that a look taken just now showed to be missing or damaged.
///
/// # Errors
/// When a store gives no good answer.
pub(crate) async fn repair(scene: &Scene, sight: &Sight, reading: &Reading, piece: Piece) -> Repaired {
    match piece {
        Piece::Entry(sequence) => entry(scene, sight, reading, sequence).await,
        Piece::File(id) => file(scene, sight, reading, id).await,
    }
}

/// The other regions.
fn donors<'a>(scene: &'a Scene, sight: &'a Sight) -> impl Iterator<Item = &'a Sight> {
    scene.sights.iter().map(AsRef::as_ref).filter(|other| other.number != sight.number)
}

/// Repairs what recovery stumbled over.
///
/// # Errors
/// When a store gives no good answer.
pub(crate) async fn repair_damage(scene: &Scene, sight: &Sight, reading: &Reading, damage: &Damage) -> Repaired {
    match keys::parse(scene.shard, &damage.key) {
        Object::Snapshot(sequence, id) => snapshot(scene, sight, &damage.key, &SnapshotRef { id, sequence }).await,
        Object::Journal(slot) if !damage.missing => on_path(scene, sight, reading, slot, &damage.key).await,
        _ => Ok(Err(LOST.to_owned())),
    }
}

async fn snapshot(scene: &Scene, sight: &Sight, key: &Key, snapshot: &SnapshotRef) -> Repaired {
    for donor in donors(scene, sight) {
        let Some(bytes) = donor.store.get(Component::Repair, key).await? else { continue };
        if check_snapshot(&bytes, snapshot).is_ok() {
            sight.store.overwrite(Component::Repair, key, bytes.into()).await?;
            return Ok(Ok(()));
        }
    }
    Ok(Err(NOBODY.to_owned()))
}

/// The object of an entry in another region, whole.
async fn donated(
    scene: &Scene,
    sight: &Sight,
    reading: &Reading,
    sequence: Sequence,
) -> Result<Option<Bytes>, StoreError> {
    for donor in donors(scene, sight) {
        let Some(key) = donor.content.key_of(scene.shard, sequence) else { continue };
        let Some(bytes) = reading.whole(&donor.store, &key, 0).await? else { continue };
        if check_entry(&bytes, sequence).is_ok() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

async fn entry(scene: &Scene, sight: &Sight, reading: &Reading, sequence: Sequence) -> Repaired {
    let Some(key) = sight.content.key_of(scene.shard, sequence) else { return Ok(Err(LOST.to_owned())) };
    let own = sight.store.get(Component::Repair, &key).await?;
    let Some(donated) = donated(scene, sight, reading, sequence).await? else { return Ok(Err(NOBODY.to_owned())) };
    // With its own head it becomes what it was, byte for byte.
    if let Some(bytes) = own.as_ref().and_then(|own| as_it_was(own, &donated, sequence)) {
        return overwrite(&sight.store, &key, bytes).await;
    }
    let Object::Journal(slot) = keys::parse(scene.shard, &key) else {
        return put(&sight.store, &key, donated, own.is_some()).await;
    };
    let floor = sight.content.floor.as_ref().map_or(Sequence(0), |floor| floor.snapshot.sequence);
    if sequence > floor {
        return Ok(Err(LOST.to_owned()));
    }
    // Nobody comes here on the path any more; batches are read from the same place in it.
    let rebuilt = rebuilt(&donated, slot);
    match rebuilt.filter(|bytes| check_entry(bytes, sequence).is_ok()) {
        Some(bytes) => put(&sight.store, &key, bytes, own.is_some()).await,
        None => Ok(Err(NOBODY.to_owned())),
    }
}

/// An object on the path whose section is damaged and whose head is whole.
async fn on_path(scene: &Scene, sight: &Sight, reading: &Reading, slot: Slot, key: &Key) -> Repaired {
    let Some(own) = sight.store.get(Component::Repair, key).await? else { return Ok(Err(LOST.to_owned())) };
    let Ok(head) = Head::decode(&own) else { return Ok(Err(LOST.to_owned())) };
    if head.kind != Kind::Commit || head.ballot != slot.ballot {
        return Ok(Err(LOST.to_owned()));
    }
    let Some(donated) = donated(scene, sight, reading, head.sequence).await? else {
        return Ok(Err(NOBODY.to_owned()));
    };
    match as_it_was(&own, &donated, head.sequence) {
        Some(bytes) => overwrite(&sight.store, key, bytes).await,
        None => Ok(Err(LOST.to_owned())),
    }
}

/// The object with its own head, and section and body of another region's object of the same entry, if the head says that
/// they are its.
fn as_it_was(own: &Bytes, donated: &Bytes, sequence: Sequence) -> Option<Bytes> {
    let (head, other) = (Head::decode(own).ok()?, Head::decode(donated).ok()?);
    let same = head.sequence == sequence
        && (head.kind, head.section_len, head.section_crc, head.body_len)
            == (other.kind, other.section_len, other.section_crc, other.body_len);
    let head = own.get(..HEAD_BYTES).filter(|_| same)?;
    let bytes: Bytes = [head, donated.get(HEAD_BYTES..)?].concat().into();
    check_entry(&bytes, sequence).is_ok().then_some(bytes)
}

/// Another region's object of an entry, as an object of this directory.
fn rebuilt(donated: &Bytes, slot: Slot) -> Option<Bytes> {
    let head = Head::decode(donated).ok()?;
    let section = head.section(donated).ok()?;
    let body = donated.get(usize::try_from(head.body_at()).ok()?..)?;
    let mut bytes = Head { ballot: slot.ballot, ..head.clone() }.encode(section);
    bytes.extend_from_slice(body);
    Some(bytes.into())
}

async fn overwrite(store: &RegionStore, key: &Key, bytes: Bytes) -> Repaired {
    store.overwrite(Component::Repair, key, bytes.into()).await?;
    Ok(Ok(()))
}

/// Puts an object where there is none, or a damaged one.
async fn put(store: &RegionStore, key: &Key, bytes: Bytes, there: bool) -> Repaired {
    if there {
        return overwrite(store, key, bytes).await;
    }
    let id = Head::decode(&bytes).map_or(WriteId(0), |head| head.id);
    store.create(Component::Repair, key, bytes.into(), id).await?;
    Ok(Ok(()))
}

async fn file(scene: &Scene, sight: &Sight, reading: &Reading, id: FileId) -> Repaired {
    let Some(file) = scene.wanted.files.get(&id) else { return Ok(Err("nothing refers to it any more".to_owned())) };
    for donor in donors(scene, sight) {
        if copy_file(reading, &donor.store, &sight.store, file).await? {
            return Ok(Ok(()));
        }
    }
    Ok(Err(NOBODY.to_owned()))
}

/// Copies an archive file from one region to another, if it is whole there. Nothing is written otherwise.
async fn copy_file(
    reading: &Reading,
    from: &RegionStore,
    to: &RegionStore,
    file: &FileRef,
) -> Result<bool, StoreError> {
    let (key, bytes) = (file.key(), file.file.bytes);
    let Some(first) = reading.range(from, &key, 0..bytes.min(PART)).await? else { return Ok(false) };
    if bytes <= PART {
        let whole = first.len() as u64 == bytes && checksum(&first) == file.file.crc;
        if whole {
            reading.budget.take(bytes).await;
            to.overwrite(Component::Repair, &key, first.into()).await?;
        }
        return Ok(whole);
    }
    let mut upload = to.upload(Component::Repair, &key).await?;
    let (mut crc, mut at, mut part) = (0, 0, Some(first));
    while let Some(bytes_read) = part.take() {
        crc = crc32c::crc32c_append(crc, &bytes_read);
        at += bytes_read.len() as u64;
        let last = bytes_read.is_empty() || at >= bytes;
        reading.budget.take(bytes_read.len() as u64).await;
        if let Err(error) = upload.part(bytes_read).await {
            upload.abort().await;
            return Err(error);
        }
        if !last {
            part = match reading.range(from, &key, at..bytes.min(at + PART)).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    upload.abort().await;
                    return Err(error);
                }
            };
        }
    }
    if at != bytes || crc != file.file.crc {
        upload.abort().await;
        return Ok(false);
    }
    upload.finish().await?;
    Ok(true)
}
