//! The planner against a real state: loads are published into it, and what is planned is carried out with files that exist
//! only as numbers.

mod loads;
mod measure;
mod rules;

use std::{cell::RefCell, collections::BTreeSet};

use brigade_index::{
    archive::SetHash,
    batch::AttributeSet,
    command::{Applied, Archived, BatchRef, Claim, Command, Outcome, Publish, Replace, TopicSettings},
    format::Value,
    ids::{Ballot, FileId, RegionNo},
    names::TopicName,
};

use super::*;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// Figures of a load.
#[derive(Default)]
pub(super) struct Figures {
    /// Bytes of files written from the journal, and of those written from files.
    pub(super) archived: u64,
    pub(super) merged: u64,
    /// Bytes of batches read, and entries that they were in, once for each job.
    pub(super) input: u64,
    pub(super) entries: u64,
    /// Files written, and files read.
    pub(super) written: u64,
    pub(super) copied: u64,
    pub(super) jobs: usize,
    pub(super) trims: usize,
    pub(super) most_files: usize,
    pub(super) most_waiting: u64,
    pub(super) most_runs: usize,
}

impl Figures {
    /// Bytes written to the archive for each byte that came to it.
    pub(super) fn amplification(&self) -> f64 {
        (self.archived + self.merged) as f64 / self.archived.max(1) as f64
    }
}

/// A shard, and a compactor that works in no time.
pub(super) struct World {
    pub(super) state: ShardState,
    pub(super) now: i64,
    pub(super) settings: PlanSettings,
    memory: RefCell<Memory>,
    pub(super) figures: Figures,
    /// Percent of a batch's bytes that are left of it in a file.
    pub(super) left: u64,
    /// Percent of a file's rows and bytes that are left after key compaction.
    pub(super) kept: u64,
    /// Whether every run has tombstones.
    pub(super) tombstones: bool,
}

impl World {
    pub(super) fn new(left: u64) -> Self {
        let (state, settings, figures) = (ShardState::default(), PlanSettings::default(), Figures::default());
        let memory = RefCell::default();
        Self { state, now: DAY, settings, memory, figures, left, kept: 100, tombstones: false }
    }

    pub(super) fn apply(&mut self, command: Command) -> Applied {
        let value = Value { time_ms: self.now, commands: vec![command], marks: Vec::new() };
        self.state.apply(&value, self.state.applied.next(), 100).0.pop().unwrap()
    }

    pub(super) fn topic(&mut self, name: &str, partitions: u32, retention: Retention) -> TopicId {
        let settings = TopicSettings { partitions, retention, ..TopicSettings::default() };
        match self.apply(Command::CreateTopic { name: TopicName::new(name).unwrap(), settings }) {
            Ok(Outcome::TopicCreated(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes a batch of so many bytes to each of the partitions, stamped with this time.
    pub(super) fn publish_at(&mut self, topic: TopicId, partitions: std::ops::Range<u32>, bytes: u64, stamp: i64) {
        let batch = |partition| BatchRef {
            partition: Partition(partition),
            at: u64::from(partition) * bytes,
            len: bytes as u32,
            crc: 0,
            rows: (bytes / 512).max(1) as u32,
            payload_bytes: bytes,
            min_timestamp_ms: stamp,
            max_timestamp_ms: stamp,
            owned: Vec::new(),
            attributes: AttributeSet::default(),
            ids: Vec::new(),
        };
        let publish = Publish { topic, requests: Vec::new(), batches: partitions.map(batch).collect() };
        self.apply(Command::Publish(publish)).unwrap();
    }

    pub(super) fn publish(&mut self, topic: TopicId, partitions: std::ops::Range<u32>, bytes: u64) {
        self.publish_at(topic, partitions, bytes, self.now);
    }

    pub(super) fn log(&self, topic: TopicId, partition: u32) -> &PartitionLog {
        self.state.topic(topic).unwrap().partition(Partition(partition)).unwrap()
    }

    pub(super) fn plan(&self, demand: Demand) -> Plan {
        let anew = plan(&self.state, self.now, &self.settings, demand);
        assert_eq!(self.plan_by_memory(demand), anew, "what is known from before changes nothing");
        anew
    }

    /// The plan as the compactor makes it one after the other.
    pub(super) fn plan_by_memory(&self, demand: Demand) -> Plan {
        let until = |topic| if demand.is_for(topic) { Offset(u64::MAX) } else { Offset(0) };
        let wanted = |topic, _| Wanted { until: until(topic), jobs: true };
        plan_wanted(&self.state, self.now, &self.settings, wanted, &mut self.memory.borrow_mut())
    }

    /// Plans and carries out until there is nothing to do; must come to rest. Gives when to look again.
    pub(super) fn settle(&mut self, demand: Demand) -> Option<i64> {
        for _ in 0..1_000 {
            let plan = self.plan(demand);
            self.watch();
            if plan.is_empty() {
                assert!(plan.look_again_ms.is_none_or(|at| at > self.now), "a time that has passed");
                return plan.look_again_ms;
            }
            self.carry_out(&plan);
        }
        panic!("it does not come to rest");
    }

    fn watch(&mut self) {
        let logs = || self.state.topics().flat_map(|topic| &topic.partitions);
        let files = logs().map(|log| log.files().len()).max().unwrap_or(0);
        let (waiting, runs) = (logs().map(|log| log.journal_bytes()).sum(), logs().map(|log| log.runs().len()).sum());
        let figures = &mut self.figures;
        figures.most_files = figures.most_files.max(files);
        figures.most_waiting = figures.most_waiting.max(waiting);
        figures.most_runs = figures.most_runs.max(runs);
    }

    pub(super) fn carry_out(&mut self, plan: &Plan) {
        for trim in &plan.trims {
            let before = self.log(trim.topic, trim.partition.0).log_start;
            self.apply(Command::Trim(*trim)).unwrap();
            assert!(self.log(trim.topic, trim.partition.0).log_start > before, "a trim of nothing");
            self.figures.trims += 1;
        }
        for job in &plan.jobs {
            let parts = match job {
                Job::Archive(job) => job.parts.clone(),
                Job::Merge(job) => vec![job.part],
                Job::Compact(job) => {
                    let (topic, partition) = (job.topic, job.partition);
                    let part = |file: &ArchiveFile| ClaimPart { topic, partition, first: file.first, end: file.end };
                    job.files.iter().map(part).collect()
                }
            };
            let claim = Claim { owner: Ballot::default(), parts: parts.clone() };
            let Ok(Outcome::Claimed(ids)) = self.apply(Command::Claim(claim)) else { panic!("{job:?}") };
            let mut sequences = BTreeSet::new();
            for part in &parts {
                let runs = self.log(part.topic, part.partition.0).runs_from(part.first).iter();
                sequences.extend(runs.take_while(|run| run.base < part.end).map(|run| run.batch.sequence));
            }
            self.figures.entries += sequences.len() as u64;
            let files: Vec<_> = parts.iter().zip(ids).map(|(part, id)| self.file(job, part, id)).collect();
            let compacted = match job {
                Job::Compact(job) => Some(job.retention),
                Job::Archive(_) | Job::Merge(_) => None,
            };
            let archived = files.into_iter().map(|file| Archived { id: file.id, file: Some(file), compacted });
            self.apply(Command::Replace(Replace { parts: archived.collect() })).unwrap();
            self.figures.jobs += 1;
        }
    }

    /// What comes of a part of a job.
    fn file(&mut self, job: &Job, part: &ClaimPart, id: FileId) -> ArchiveFile {
        let log = self.state.topic(part.topic).unwrap().partition(part.partition).unwrap();
        let files: Vec<_> = log.files_from(part.first).iter().take_while(|file| file.first < part.end).collect();
        let runs: Vec<_> = log.runs_from(part.first).iter().take_while(|run| run.base < part.end).collect();
        let input: u64 = runs.iter().map(|run| u64::from(run.batch.len)).sum();
        let stored: u64 = files.iter().map(|file| file.bytes).sum();
        let rows = files.iter().map(|file| file.rows).chain(runs.iter().map(|run| u64::from(run.rows))).sum::<u64>();
        let compact = matches!(job, Job::Compact(_));
        let kept = if compact { self.kept } else { 100 };
        // A footer and a header, at least.
        let bytes = (stored * kept / 100).max(input * self.left / 100 + 1_000);
        if runs.is_empty() {
            self.figures.merged += bytes
        } else {
            self.figures.archived += bytes
        }
        assert!(files.is_empty() || runs.is_empty());
        self.figures.input += input;
        self.figures.written += 1;
        self.figures.copied += files.len() as u64;
        let of_runs = runs.iter().map(|run| run.min_timestamp_ms).filter(|_| self.tombstones);
        let oldest = files.iter().filter_map(|file| file.oldest_tombstone_ms).chain(of_runs).min();
        let keep = self.state.topic(part.topic).unwrap().settings.retention.tombstones_ms;
        let over = self.now - keep as i64;
        let stamps = files.iter().map(|file| (file.min_timestamp_ms, file.max_timestamp_ms));
        let stamps: Vec<_> =
            stamps.chain(runs.iter().map(|run| (run.min_timestamp_ms, run.max_timestamp_ms))).collect();
        let max_timestamp_ms = stamps.iter().map(|(_, max)| *max).max().unwrap();
        ArchiveFile {
            id,
            first: part.first,
            end: part.end,
            rows: (rows * kept / 100).max(1),
            bytes,
            payload_bytes: bytes,
            crc: 0,
            set_hash: SetHash::default(),
            min_timestamp_ms: stamps.iter().map(|(min, _)| *min).min().unwrap(),
            max_timestamp_ms,
            // There is a tombstone at every time.
            oldest_tombstone_ms: match oldest {
                Some(oldest) if compact && oldest < over => (max_timestamp_ms >= over).then_some(over),
                oldest => oldest,
            },
            attributes: AttributeSet::default(),
            merges: files.iter().map(|file| file.merges + 1).max().unwrap_or(0),
            compacted: compact || files.iter().any(|file| file.compacted),
            regions: vec![RegionNo(0)],
        }
    }
}
