//! Stored form of archive files and of the compactor's commands.

use prost::Message;

use super::{
    command::{attributes_from, region_number},
    frame::FrameError,
};
use crate::{
    archive::{ArchiveFile, SetHash},
    command::{Archived, Claim, ClaimPart, Located, Replace, Retention, RetentionPatch, Trim},
    ids::{Ballot, FileId, Offset, Partition, TopicId},
    names::TopicName,
    state::{Archive, Claimed, Garbage},
};

/// Retention as it is stored: in a change what changes, elsewhere what is not the default.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRetention {
    #[prost(uint64, optional, tag = "1")]
    time_ms: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    bytes: Option<u64>,
    #[prost(bool, optional, tag = "3")]
    after_ack: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    key_compaction: Option<bool>,
    #[prost(uint64, optional, tag = "5")]
    compaction_lag_ms: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    tombstones_ms: Option<u64>,
}

impl From<&Retention> for StoredRetention {
    fn from(retention: &Retention) -> Self {
        let default = Retention::default();
        Self {
            time_ms: Some(retention.time_ms).filter(|time| *time != default.time_ms),
            bytes: Some(retention.bytes).filter(|bytes| *bytes != default.bytes),
            after_ack: Some(retention.after_ack).filter(|after| *after != default.after_ack),
            key_compaction: Some(retention.key_compaction).filter(|compaction| *compaction != default.key_compaction),
            compaction_lag_ms: Some(retention.compaction_lag_ms).filter(|lag| *lag != default.compaction_lag_ms),
            tombstones_ms: Some(retention.tombstones_ms).filter(|time| *time != default.tombstones_ms),
        }
    }
}

pub(super) fn store_retention(retention: &Retention) -> Option<StoredRetention> {
    Some(retention.into()).filter(|stored| *stored != StoredRetention::default())
}

fn retention_from(stored: Option<&StoredRetention>) -> Retention {
    Retention::default().patched(&patch_from(stored))
}

pub(super) fn store_patch(patch: &RetentionPatch) -> Option<StoredRetention> {
    let RetentionPatch { time_ms, bytes, after_ack, key_compaction, compaction_lag_ms, tombstones_ms } = patch.clone();
    let stored = StoredRetention { time_ms, bytes, after_ack, key_compaction, compaction_lag_ms, tombstones_ms };
    (stored != StoredRetention::default()).then_some(stored)
}

pub(super) fn patch_from(stored: Option<&StoredRetention>) -> RetentionPatch {
    stored.map_or_else(RetentionPatch::default, |stored| RetentionPatch {
        time_ms: stored.time_ms,
        bytes: stored.bytes,
        after_ack: stored.after_ack,
        key_compaction: stored.key_compaction,
        compaction_lag_ms: stored.compaction_lag_ms,
        tombstones_ms: stored.tombstones_ms,
    })
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredFile {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(uint64, tag = "4")]
    rows: u64,
    #[prost(uint64, tag = "5")]
    bytes: u64,
    #[prost(uint64, tag = "6")]
    payload_bytes: u64,
    #[prost(fixed32, tag = "7")]
    crc: u32,
    #[prost(bytes = "vec", tag = "8")]
    set_hash: Vec<u8>,
    #[prost(sint64, tag = "9")]
    min_timestamp_ms: i64,
    #[prost(sint64, tag = "10")]
    max_timestamp_ms: i64,
    #[prost(uint32, tag = "11")]
    attributes: u32,
    #[prost(uint32, tag = "12")]
    merges: u32,
    #[prost(bool, tag = "13")]
    compacted: bool,
    #[prost(uint32, repeated, tag = "14")]
    regions: Vec<u32>,
    #[prost(sint64, optional, tag = "15")]
    oldest_tombstone_ms: Option<i64>,
}

impl From<&ArchiveFile> for StoredFile {
    fn from(file: &ArchiveFile) -> Self {
        Self {
            id: file.id.0,
            first: file.first.0,
            end: file.end.0,
            rows: file.rows,
            bytes: file.bytes,
            payload_bytes: file.payload_bytes,
            crc: file.crc,
            set_hash: file.set_hash.0.to_be_bytes().to_vec(),
            min_timestamp_ms: file.min_timestamp_ms,
            max_timestamp_ms: file.max_timestamp_ms,
            attributes: file.attributes.0.into(),
            merges: file.merges,
            compacted: file.compacted,
            regions: file.regions.iter().map(|region| region.0.into()).collect(),
            oldest_tombstone_ms: file.oldest_tombstone_ms,
        }
    }
}

/// Whether it makes sense is judged where it is applied, alike on every node; see [`file_from`].
impl TryFrom<StoredFile> for ArchiveFile {
    type Error = FrameError;

    fn try_from(stored: StoredFile) -> Result<Self, FrameError> {
        let set_hash = stored.set_hash.try_into().map_err(|_| FrameError::Malformed("hash of an archive file"))?;
        Ok(Self {
            id: FileId(stored.id),
            first: Offset(stored.first),
            end: Offset(stored.end),
            rows: stored.rows,
            bytes: stored.bytes,
            payload_bytes: stored.payload_bytes,
            crc: stored.crc,
            set_hash: SetHash(u128::from_be_bytes(set_hash)),
            min_timestamp_ms: stored.min_timestamp_ms,
            max_timestamp_ms: stored.max_timestamp_ms,
            oldest_tombstone_ms: stored.oldest_tombstone_ms,
            attributes: attributes_from(stored.attributes),
            merges: stored.merges,
            compacted: stored.compacted,
            regions: stored.regions.into_iter().map(region_number).collect::<Result<_, _>>()?,
        })
    }
}

/// A file of a snapshot: state that was applied once makes sense.
pub(super) fn file_from(stored: StoredFile) -> Result<ArchiveFile, FrameError> {
    let file = ArchiveFile::try_from(stored)?;
    let span = file.end.0.checked_sub(file.first.0).ok_or(FrameError::Malformed("offsets of an archive file"))?;
    if file.rows == 0 || file.rows > span {
        return Err(FrameError::Malformed("rows of an archive file"));
    }
    if !file.regions.is_sorted_by(|one, next| one < next) {
        return Err(FrameError::Malformed("regions of an archive file"));
    }
    Ok(file)
}

#[derive(Clone, PartialEq, Message)]
struct StoredPart {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(uint64, tag = "3")]
    first: u64,
    #[prost(uint64, tag = "4")]
    end: u64,
}

impl From<&ClaimPart> for StoredPart {
    fn from(part: &ClaimPart) -> Self {
        let ClaimPart { topic, partition, first, end } = part;
        Self { topic: topic.0, partition: partition.0, first: first.0, end: end.0 }
    }
}

impl From<StoredPart> for ClaimPart {
    fn from(stored: StoredPart) -> Self {
        let StoredPart { topic, partition, first, end } = stored;
        Self { topic: TopicId(topic), partition: Partition(partition), first: Offset(first), end: Offset(end) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredClaim {
    #[prost(fixed64, tag = "1")]
    round: u64,
    #[prost(fixed64, tag = "2")]
    nonce: u64,
    #[prost(message, repeated, tag = "3")]
    parts: Vec<StoredPart>,
}

impl From<&Claim> for StoredClaim {
    fn from(claim: &Claim) -> Self {
        let Ballot { round, nonce } = claim.owner;
        Self { round, nonce, parts: claim.parts.iter().map(Into::into).collect() }
    }
}

impl From<StoredClaim> for Claim {
    fn from(stored: StoredClaim) -> Self {
        let StoredClaim { round, nonce, parts } = stored;
        Self { owner: Ballot { round, nonce }, parts: parts.into_iter().map(Into::into).collect() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredArchived {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    file: Option<StoredFile>,
    /// By which retention; it is there even if all of it is the default.
    #[prost(message, optional, tag = "3")]
    compacted: Option<StoredRetention>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredReplace {
    #[prost(message, repeated, tag = "1")]
    parts: Vec<StoredArchived>,
}

impl From<&Replace> for StoredReplace {
    fn from(replace: &Replace) -> Self {
        let part = |part: &Archived| StoredArchived {
            id: part.id.0,
            file: part.file.as_ref().map(Into::into),
            compacted: part.compacted.as_ref().map(Into::into),
        };
        Self { parts: replace.parts.iter().map(part).collect() }
    }
}

impl TryFrom<StoredReplace> for Replace {
    type Error = FrameError;

    fn try_from(stored: StoredReplace) -> Result<Self, FrameError> {
        let part = |part: StoredArchived| {
            let file = part.file.map(ArchiveFile::try_from).transpose()?;
            let compacted = part.compacted.map(|retention| retention_from(Some(&retention)));
            Ok(Archived { id: FileId(part.id), file, compacted })
        };
        Ok(Self { parts: stored.parts.into_iter().map(part).collect::<Result<_, FrameError>>()? })
    }
}

/// Archive files by identity.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredFiles {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) ids: Vec<u64>,
}

impl From<&Vec<FileId>> for StoredFiles {
    fn from(ids: &Vec<FileId>) -> Self {
        Self { ids: ids.iter().map(|id| id.0).collect() }
    }
}

impl StoredFiles {
    pub(super) fn ids(self) -> Vec<FileId> {
        self.ids.into_iter().map(FileId).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredPlace {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(uint64, tag = "3")]
    file: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredLocated {
    #[prost(uint32, tag = "1")]
    region: u32,
    #[prost(message, repeated, tag = "2")]
    files: Vec<StoredPlace>,
}

impl From<&Located> for StoredLocated {
    fn from(located: &Located) -> Self {
        let place = |(topic, partition, file): &(TopicId, Partition, FileId)| StoredPlace {
            topic: topic.0,
            partition: partition.0,
            file: file.0,
        };
        Self { region: located.region.0.into(), files: located.files.iter().map(place).collect() }
    }
}

impl TryFrom<StoredLocated> for Located {
    type Error = FrameError;

    fn try_from(stored: StoredLocated) -> Result<Self, FrameError> {
        let place = |place: StoredPlace| (TopicId(place.topic), Partition(place.partition), FileId(place.file));
        Ok(Self { region: region_number(stored.region)?, files: stored.files.into_iter().map(place).collect() })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTrim {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(uint64, tag = "3")]
    to: u64,
    #[prost(bool, tag = "4")]
    acknowledged: bool,
    #[prost(message, optional, tag = "5")]
    retention: Option<StoredRetention>,
}

impl From<&Trim> for StoredTrim {
    fn from(trim: &Trim) -> Self {
        let Trim { topic, partition, to, acknowledged, retention } = trim;
        let retention = store_retention(retention);
        Self { topic: topic.0, partition: partition.0, to: to.0, acknowledged: *acknowledged, retention }
    }
}

impl From<StoredTrim> for Trim {
    fn from(stored: StoredTrim) -> Self {
        let StoredTrim { topic, partition, to, acknowledged, retention } = stored;
        let (topic, partition, to) = (TopicId(topic), Partition(partition), Offset(to));
        Self { topic, partition, to, acknowledged, retention: retention_from(retention.as_ref()) }
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredClaimed {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(fixed64, tag = "2")]
    round: u64,
    #[prost(fixed64, tag = "3")]
    nonce: u64,
    #[prost(message, required, tag = "4")]
    part: StoredPart,
}

#[derive(Clone, PartialEq, Message)]
struct StoredGarbage {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    topic: u64,
    #[prost(uint32, tag = "4")]
    partition: u32,
    #[prost(uint64, tag = "5")]
    first: u64,
    #[prost(uint64, tag = "6")]
    bytes: u64,
    #[prost(sint64, tag = "7")]
    since_ms: i64,
}

/// Claims and garbage, as a snapshot stores them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredArchive {
    #[prost(uint64, tag = "1")]
    last: u64,
    #[prost(message, repeated, tag = "2")]
    claims: Vec<StoredClaimed>,
    #[prost(message, repeated, tag = "3")]
    garbage: Vec<StoredGarbage>,
}

pub(super) fn store_archive(archive: &Archive) -> Option<StoredArchive> {
    let claim = |(id, claimed): (&FileId, &Claimed)| StoredClaimed {
        id: id.0,
        round: claimed.owner.round,
        nonce: claimed.owner.nonce,
        part: (&claimed.part).into(),
    };
    let garbage = |(id, garbage): (&FileId, &Garbage)| StoredGarbage {
        id: id.0,
        name: garbage.name.to_string(),
        topic: garbage.topic.0,
        partition: garbage.partition.0,
        first: garbage.first.0,
        bytes: garbage.bytes,
        since_ms: garbage.since_ms,
    };
    (*archive != Archive::default()).then(|| StoredArchive {
        last: archive.last.0,
        claims: archive.claims.iter().map(claim).collect(),
        garbage: archive.garbage.iter().map(garbage).collect(),
    })
}

pub(super) fn archive_from(stored: StoredArchive) -> Result<Archive, FrameError> {
    let claim = |stored: StoredClaimed| {
        let owner = Ballot { round: stored.round, nonce: stored.nonce };
        (FileId(stored.id), Claimed { owner, part: stored.part.into() })
    };
    let garbage = |stored: StoredGarbage| {
        let garbage = Garbage {
            name: TopicName::new(&stored.name)?,
            topic: TopicId(stored.topic),
            partition: Partition(stored.partition),
            first: Offset(stored.first),
            bytes: stored.bytes,
            since_ms: stored.since_ms,
        };
        Ok::<_, FrameError>((FileId(stored.id), garbage))
    };
    let mut archive = Archive {
        last: FileId(stored.last),
        claims: stored.claims.into_iter().map(claim).collect(),
        ..Archive::default()
    };
    for stored in stored.garbage {
        let (id, garbage) = garbage(stored)?;
        archive.discard(id, garbage);
    }
    Ok(archive)
}
