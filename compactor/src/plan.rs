//! What the compactor is to do: a pure function of the state and the time.
//!
//! The plan is cheap to make, in proportion to the number of partitions, and made anew whenever the state has moved. Files
//! are looked at one by one only when there are others than before. The same state gives the same plan, and a state that
//! every job of its plan was carried out on comes to rest: what was merged is not merged again, what is compacted waits
//! until enough is written behind it.

mod archive;
mod compact;
mod memory;
mod merge;
mod retain;

use std::{cmp::Reverse, collections::BTreeMap};

use brigade_index::{
    archive::ArchiveFile,
    command::{ClaimPart, Retention, Trim},
    ids::{Offset, Partition, TopicId},
    state::{PartitionLog, ShardState, Topic},
};

pub(crate) use self::memory::Memory;

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
    /// Most archive jobs in a plan, and most merges of full size, so that neither keeps the other waiting for long.
    pub jobs_of_a_kind: usize,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            max_file_bytes: 256 << 20,
            job_bytes: 128 << 20,
            pressure_bytes: 8 << 20,
            job_partitions: 64,
            archive_after_ms: 60 * 60 * 1000,
            idle_after_ms: 24 * 60 * 60 * 1000,
            min_file_bytes: 1 << 20,
            max_runs_partition: 10_000,
            max_runs: 200_000,
            merge_fan_in: 32,
            merge_least: 3,
            jobs_of_a_kind: 4,
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
    pub(crate) fn is_for(self, topic: TopicId) -> bool {
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
    /// Files before this offset are compacted: no key occurs twice in them. When none is behind it, only tombstones whose
    /// time is over are left out.
    pub dirty_from: Offset,
    /// The offset after the last of the files.
    pub until: Offset,
    /// The files, in the order of their offsets: all of the partition up to there, if some are not compacted.
    pub files: Vec<ArchiveFile>,
    /// What the topic says of it: by nothing else messages may be left out.
    pub retention: Retention,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs in the order of their urgency, fair among topics: archive jobs, merges, and at most one key compaction, which
    /// may take long. All of them are to be run before the next plan, so that no kind of them waits for another for ever;
    /// one whose claim is rejected is left out.
    pub jobs: Vec<Job>,
    /// What is dropped from the beginnings of partitions, before the jobs: they count on it.
    pub trims: Vec<Trim>,
    /// When time alone makes something due, milliseconds since the Unix epoch; `None` if it does not.
    pub look_again_ms: Option<i64>,
}

impl Plan {
    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.trims.is_empty()
    }
}

/// What is asked for of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Everything before this offset is to be done at once.
    pub(crate) until: Offset,
    /// Whether jobs are planned for it. Otherwise nothing is done but that its beginning is dropped.
    pub(crate) jobs: bool,
}

/// Plans for a state at the time `now_ms`, milliseconds since the Unix epoch. A plan does not hold everything that is due:
/// when it is carried out the next one is to be made, until it is empty.
pub fn plan(state: &ShardState, now_ms: i64, settings: &PlanSettings, demand: Demand) -> Plan {
    let until = |topic| if demand.is_for(topic) { Offset(u64::MAX) } else { Offset(0) };
    let wanted = |topic, _| Wanted { until: until(topic), jobs: true };
    plan_wanted(state, now_ms, settings, wanted, &mut Memory::default())
}

/// The same, by what is asked for of each partition: so that one which is left alone takes no other's place in the plan, and
/// what comes while a demand is met does not add to it. `memory` spares looks at what was seen before by the same settings; it
/// changes nothing in the plan.
pub(crate) fn plan_wanted(
    state: &ShardState,
    now_ms: i64,
    settings: &PlanSettings,
    wanted: impl Fn(TopicId, Partition) -> Wanted,
    memory: &mut Memory,
) -> Plan {
    memory.forget_deleted(state);
    let mut planner = Planner::new(state, now_ms, settings);
    let mut jobs = Candidates::default();
    let mut trims = Vec::new();
    for topic in state.topics() {
        for (partition, log) in (0..).map(Partition).zip(&topic.partitions) {
            let Wanted { until, jobs: may } = wanted(topic.id, partition);
            let at = At { topic, partition, log, retention: &topic.settings.retention, until };
            // What is left is known when something was dropped.
            if planner.retain(&at, &mut trims) || !may {
                continue;
            }
            jobs.archive.extend(planner.archive(&at));
            // The files of a compaction are claimed from the first to the last.
            match planner.compact(&at) {
                Some(compact) => jobs.compact.push(compact),
                None => jobs.merge.extend(planner.merge_unless_known(&at, memory)),
            }
        }
    }
    let Planner { look_again_ms, .. } = planner;
    Plan { jobs: jobs.chosen(state, settings), trims, look_again_ms }
}

/// A partition that is looked at.
struct At<'a> {
    topic: &'a Topic,
    partition: Partition,
    log: &'a PartitionLog,
    retention: &'a Retention,
    /// See [`Wanted::until`].
    until: Offset,
}

impl At<'_> {
    /// Whether what begins at this offset is to be done at once.
    fn is_demanded(&self, from: Offset) -> bool {
        from < self.until
    }
}

/// Something that could be done with a partition.
struct Candidate<T> {
    topic: TopicId,
    partition: Partition,
    /// Candidates with more of it are more urgent.
    weight: u64,
    what: T,
}

impl<T> Candidate<T> {
    fn new(at: &At<'_>, weight: u64, what: T) -> Self {
        Self { topic: at.topic.id, partition: at.partition, weight, what }
    }
}

#[derive(Default)]
struct Candidates {
    archive: Vec<Candidate<()>>,
    merge: Vec<Candidate<merge::Group>>,
    compact: Vec<Candidate<compact::Dirty>>,
}

impl Candidates {
    fn chosen(self, state: &ShardState, settings: &PlanSettings) -> Vec<Job> {
        let mut jobs = archive::jobs(fair(self.archive), state, settings);
        jobs.extend(merge::jobs(fair(self.merge), state, settings));
        jobs.extend(compact::job(fair(self.compact), state));
        jobs
    }
}

/// The most urgent first; but the second of a topic comes after the first of every other, so that a topic with many
/// partitions leaves room for those with few.
fn fair<T>(mut candidates: Vec<Candidate<T>>) -> impl Iterator<Item = Candidate<T>> {
    candidates.sort_by_key(|candidate| (candidate.topic, Reverse(candidate.weight), candidate.partition));
    let (mut topic, mut rank) = (None, 0);
    let ranked = candidates.into_iter().map(|candidate| {
        rank = if topic.replace(candidate.topic) == Some(candidate.topic) { rank + 1 } else { 0 };
        (rank, candidate)
    });
    let mut ranked: Vec<(u32, _)> = ranked.collect();
    ranked.sort_by_key(|(rank, candidate)| (*rank, Reverse(candidate.weight)));
    ranked.into_iter().map(|(_, candidate)| candidate)
}

struct Planner<'a> {
    now_ms: i64,
    settings: &'a PlanSettings,
    /// Bytes of batches in the journal.
    journal_bytes: u64,
    runs: usize,
    /// Partitions that have runs.
    waiting: usize,
    claims: BTreeMap<(TopicId, Partition), Vec<ClaimPart>>,
    look_again_ms: Option<i64>,
}

impl<'a> Planner<'a> {
    fn new(state: &ShardState, now_ms: i64, settings: &'a PlanSettings) -> Self {
        let mut claims: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for claimed in state.archive.claims().values() {
            claims.entry((claimed.part.topic, claimed.part.partition)).or_default().push(claimed.part);
        }
        let mut planner = Self { now_ms, settings, journal_bytes: 0, runs: 0, waiting: 0, claims, look_again_ms: None };
        for log in state.topics().flat_map(|topic| &topic.partitions) {
            planner.journal_bytes += log.journal_bytes();
            planner.runs += log.runs().len();
            planner.waiting += usize::from(!log.runs().is_empty());
        }
        planner
    }

    /// Whether something between these offsets is claimed.
    fn is_claimed(&self, at: &At<'_>, first: Offset, end: Offset) -> bool {
        let parts = self.claims.get(&(at.topic.id, at.partition));
        parts.is_some_and(|parts| parts.iter().any(|part| part.first < end && first < part.end))
    }

    /// Whether `since_ms` is so long ago; if not, the state is looked at again when it is.
    fn is_past(&mut self, since_ms: i64, ms: u64) -> bool {
        let due = since_ms.saturating_add_unsigned(ms);
        if due > self.now_ms {
            self.look_again_ms = Some(self.look_again_ms.map_or(due, |at| at.min(due)));
        }
        due <= self.now_ms
    }
}

#[cfg(test)]
mod tests;
