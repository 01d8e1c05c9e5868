//! What the compactor is to do: a pure function of the state and the time.
//!
//! The plan is cheap to make, in proportion to the number of partitions, and made anew whenever the state has moved. The
//! same state gives the same plan, and a state that every job of its plan was carried out on comes to rest: what was
//! merged is not merged again, what is compacted waits until enough is written behind it.

use brigade_index::{
    archive::ArchiveFile,
    command::{ClaimPart, Trim},
    ids::{Offset, Partition, TopicId},
    state::ShardState,
};

/// What the planner goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// A partition is archived when so many bytes wait for it; also the most that goes into one file, in bytes of batches
    /// as they are stored.
    pub file_bytes: u64,
    /// Files are merged into files of at most this size, in bytes.
    pub max_file_bytes: u64,
    /// Most bytes of batches that one archive job reads. When so many wait in the whole shard, partitions are archived
    /// from [`Self::pressure_bytes`] on.
    pub job_bytes: u64,
    /// See [`Self::job_bytes`].
    pub pressure_bytes: u64,
    /// Most partitions that one archive job writes files of: each takes memory for its row group.
    pub job_partitions: usize,
    /// How long [`Self::min_file_bytes`] or more wait before they are archived, in milliseconds.
    pub archive_after_ms: u64,
    /// How long anything waits before it is archived, in milliseconds.
    pub idle_after_ms: u64,
    /// See [`Self::archive_after_ms`].
    pub min_file_bytes: u64,
    /// With more runs than these a partition is archived whatever its size.
    pub max_runs_partition: usize,
    /// With more runs than these in the shard, the partitions that have most of them are archived whatever their size.
    pub max_runs: usize,
    /// So many neighbouring files are merged however small they are.
    pub merge_fan_in: usize,
    /// Fewer neighbours than these are not worth a merge.
    pub merge_least: usize,
    /// Most archive jobs in a plan, and most merges, and most key compactions: none of them keeps the others waiting for
    /// long.
    pub jobs_of_a_kind: usize,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            max_file_bytes: 256 << 20,
            job_bytes: 128 << 20,
            pressure_bytes: 8 << 20,
            job_partitions: 16,
            archive_after_ms: 60 * 60 * 1000,
            idle_after_ms: 24 * 60 * 60 * 1000,
            min_file_bytes: 1 << 20,
            max_runs_partition: 10_000,
            max_runs: 200_000,
            merge_fan_in: 32,
            merge_least: 3,
            jobs_of_a_kind: 8,
        }
    }
}

/// What is asked for at once, whatever the sizes and times that the planner goes by otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    #[default]
    None,
    /// Everything is archived, dropped and compacted that can be.
    All,
    /// Everything of this topic.
    Topic(TopicId),
}

impl Demand {
    fn is_for(self, topic: TopicId) -> bool {
        self == Self::All || self == Self::Topic(topic)
    }
}

/// A job of the compactor. It begins with a claim of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Messages leave the journal.
    Archive(ArchiveJob),
    /// Files become one.
    Merge(MergeJob),
    /// Messages that later ones have the key of are left out.
    Compact(CompactJob),
}

/// Runs of several partitions become one archive file each, in one pass over the entries that hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveJob {
    /// What goes into the files, each of another partition.
    pub parts: Vec<ClaimPart>,
    /// Bytes of their batches.
    pub input_bytes: u64,
}

/// Neighbouring files of a partition become one: their row groups are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeJob {
    /// From the first offset that the files cover to the last.
    pub part: ClaimPart,
    /// The files, in the order of their offsets.
    pub files: Vec<ArchiveFile>,
}

/// Files of a partition are written again, each as one, without the messages that a later one has the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactJob {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
    /// Files before this offset are compacted: no key occurs twice in them.
    pub dirty_from: Offset,
    /// The offset after the last of the files.
    pub until: Offset,
    /// All files of the partition up to there, in the order of their offsets.
    pub files: Vec<ArchiveFile>,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs in the order of their urgency, fair among topics. All of them are to be run before the next plan, so that no
    /// kind of them waits for another for ever; one whose claim is rejected is left out.
    pub jobs: Vec<Job>,
    /// What is dropped from the beginnings of partitions, before the jobs: they count on it.
    pub trims: Vec<Trim>,
    /// When time alone makes something due, milliseconds since the Unix epoch; `None` if it does not, or if there is
    /// something to do already.
    pub look_again_ms: Option<i64>,
}

/// Plans for a state at the time `now_ms`, milliseconds since the Unix epoch.
pub fn plan(state: &ShardState, now_ms: i64, settings: &PlanSettings, demand: Demand) -> Plan {
    let _ = (state, now_ms, settings, demand);
    Plan::default()
}
