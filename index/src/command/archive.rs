//! Commands of the compactor: claims, archive files, retention.

use crate::{
    archive::ArchiveFile,
    ids::{Ballot, FileId, Offset, Partition, RegionNo, TopicId},
    limits::{DEFAULT_TOMBSTONE_RETENTION_MS, MAX_RETENTION_MS},
};

/// How long messages of a topic are kept, and which. A message that is not settled anywhere is dropped like any other
/// when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages with an older timestamp may be dropped, in milliseconds; 0 keeps them for ever.
    pub time_ms: u64,
    /// The oldest messages of a partition are dropped when more bytes than these are stored of it; 0 keeps them for ever.
    pub bytes: u64,
    /// Whether messages are dropped as soon as every subscription of the topic is done with them. With no subscription
    /// nothing is dropped.
    pub after_ack: bool,
    /// Whether only the last message of each key is kept.
    pub key_compaction: bool,
    /// A message is not dropped in favour of a later one with its key before it is so old, in milliseconds.
    pub compaction_lag_ms: u64,
    /// How long a tombstone is kept as the last message of its key, in milliseconds.
    pub tombstones_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            time_ms: 0,
            bytes: 0,
            after_ack: false,
            key_compaction: false,
            compaction_lag_ms: 0,
            tombstones_ms: DEFAULT_TOMBSTONE_RETENTION_MS,
        }
    }
}

impl Retention {
    /// What is wrong with these settings, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        if self.time_ms > MAX_RETENTION_MS {
            Some("retention_ms must be at most 3153600000000 (100 years); null keeps messages for ever")
        } else if self.compaction_lag_ms > MAX_RETENTION_MS {
            Some("compaction_lag_ms must be at most 3153600000000 (100 years)")
        } else if self.tombstones_ms > MAX_RETENTION_MS {
            Some("tombstone_retention_ms must be at most 3153600000000 (100 years)")
        } else if self.bytes > i64::MAX as u64 {
            Some("retention_bytes must be at most 9223372036854775807; null keeps messages for ever")
        } else {
            None
        }
    }

    /// These settings with those of `patch` that are given.
    #[must_use]
    pub fn patched(&self, patch: &RetentionPatch) -> Self {
        Self {
            time_ms: patch.time_ms.unwrap_or(self.time_ms),
            bytes: patch.bytes.unwrap_or(self.bytes),
            after_ack: patch.after_ack.unwrap_or(self.after_ack),
            key_compaction: patch.key_compaction.unwrap_or(self.key_compaction),
            compaction_lag_ms: patch.compaction_lag_ms.unwrap_or(self.compaction_lag_ms),
            tombstones_ms: patch.tombstones_ms.unwrap_or(self.tombstones_ms),
        }
    }
}

/// A change of [`Retention`]: only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPatch {
    /// See [`Retention::time_ms`].
    pub time_ms: Option<u64>,
    /// See [`Retention::bytes`].
    pub bytes: Option<u64>,
    /// See [`Retention::after_ack`].
    pub after_ack: Option<bool>,
    /// See [`Retention::key_compaction`].
    pub key_compaction: Option<bool>,
    /// See [`Retention::compaction_lag_ms`].
    pub compaction_lag_ms: Option<u64>,
    /// See [`Retention::tombstones_ms`].
    pub tombstones_ms: Option<u64>,
}

/// Offsets that are to be archived, merged or compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The reign that the claimant works in. When it is over, its claims may be released.
    pub owner: Ballot,
    /// What is claimed: for each part one archive file is to be written.
    pub parts: Vec<ClaimPart>,
}

/// Offsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPart {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
    /// First offset. A run or file begins there, or offsets that nothing covers.
    pub first: Offset,
    /// The offset after the last. A run or file ends there.
    pub end: Offset,
}

/// Archive files for claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// What came of each claim.
    pub parts: Vec<Archived>,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The claim, by the identity that it gave.
    pub id: FileId,
    /// The file, which covers exactly what was claimed and has this identity; `None` if nothing is left of the messages,
    /// and nothing was written.
    pub file: Option<ArchiveFile>,
    /// Given if messages were left out because later ones have their keys: the topic's retention that they were left out by.
    /// Rejected if it is another by then. Otherwise the file must have every message.
    pub compacted: Option<Retention>,
}

/// Archive files that a region holds now, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The region.
    pub region: RegionNo,
    /// The files. Those that are not referenced any more are skipped.
    pub files: Vec<(TopicId, Partition, FileId)>,
}

/// Drops messages from the beginning of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
    /// The new log start. It never moves back, and not behind the high watermark.
    pub to: Offset,
    /// Whether only what every subscription is done with may be dropped, judged when the command is applied.
    pub acknowledged: bool,
    /// The topic's retention that says so. Rejected if it is another by then: who had it changed was promised what it says.
    pub retention: Retention,
}
