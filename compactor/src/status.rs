//! What people are told of the compactor.

use std::collections::VecDeque;

use brigade_index::{
    ids::TopicId,
    shard::RepairProgress,
    state::{PartitionLog, ShardState},
};

use crate::metrics::{Backlog, JobKind};

/// The compactor of a shard.
#[derive(Clone, Debug)]
pub struct CompactorStatus {
    /// Whether it is switched on.
    pub enabled: bool,
    /// The job under way.
    pub job: Option<RunningJob>,
    /// What jobs of each kind have done since the process started.
    pub jobs: Vec<JobTotals>,
    /// Bytes of archive files written for each byte that was written into the archive the first time, since the process
    /// started; `None` before there were any.
    pub write_amplification: Option<f64>,
    /// What waits.
    pub backlog: Backlog,
    /// Bytes that the job under way holds at most, and the most that one ever held.
    pub memory_bytes: u64,
    /// See [`Self::memory_bytes`].
    pub memory_peak_bytes: u64,
    /// How repairing regions comes on.
    pub repairs: Vec<RepairProgress>,
    /// The last thing that went wrong in this reign.
    pub last_error: Option<LastError>,
}

/// A job that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningJob {
    /// Its kind.
    pub kind: JobKind,
    /// The topic that it works on, or the first of several.
    pub topic: TopicId,
    /// Partitions that it works on.
    pub partitions: usize,
    /// Bytes that it has to read, about.
    pub input_bytes: u64,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// What jobs of a kind have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobTotals {
    /// The kind.
    pub kind: JobKind,
    /// Jobs done.
    pub done: u64,
    /// Jobs that came to nothing.
    pub failed: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of archive files written, each file once.
    pub written_bytes: u64,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What.
    pub problem: String,
}

/// What came of a run that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Jobs done: archive jobs, merges and key compactions.
    pub archived: u64,
    /// See [`Self::archived`].
    pub merged: u64,
    /// See [`Self::archived`].
    pub compacted: u64,
    /// Partitions of which the beginning was dropped.
    pub trimmed: u64,
    /// Archive files deleted.
    pub deleted_files: u64,
    /// Objects of the journal deleted.
    pub deleted_objects: u64,
    /// What went wrong; the first things, if there are many.
    pub problems: Vec<String>,
    /// What a region that is away has not got, though everything was done; it gets it when it is back.
    pub warnings: Vec<String>,
}

/// Problems that are kept of a run, and warnings.
const PROBLEMS: usize = 20;

fn keep(all: &mut Vec<String>, one: String) {
    if all.len() < PROBLEMS && !all.contains(&one) {
        all.push(one);
    }
}

impl RunReport {
    pub(crate) fn problem(&mut self, problem: String) {
        keep(&mut self.problems, problem);
    }

    pub(crate) fn warning(&mut self, warning: String) {
        keep(&mut self.warnings, warning);
    }

    pub(crate) fn done(&mut self, kind: JobKind) {
        *match kind {
            JobKind::Archive => &mut self.archived,
            JobKind::Merge => &mut self.merged,
            JobKind::Compact => &mut self.compacted,
        } += 1;
    }
}

/// Runs that were asked for, the last ones.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    last: u64,
    known: VecDeque<(u64, Option<RunReport>)>,
}

impl Runs {
    /// Runs that are remembered.
    const KNOWN: usize = 64;

    /// A new run, by its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.last += 1;
        if self.known.len() == Self::KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((self.last, None));
        self.last
    }

    pub(crate) fn end(&mut self, run: u64, report: RunReport) {
        if let Some((_, ended)) = self.known.iter_mut().find(|(known, _)| *known == run) {
            *ended = Some(report);
        }
    }

    /// `None` if there is no such run; within, `None` while it goes on.
    pub(crate) fn get(&self, run: u64) -> Option<&Option<RunReport>> {
        self.known.iter().find(|(known, _)| *known == run).map(|(_, report)| report)
    }
}

/// What waits in a state.
pub(crate) fn backlog(state: &ShardState) -> Backlog {
    let logs = || state.topics().flat_map(|topic| &topic.partitions);
    let garbage = state.archive.garbage();
    Backlog {
        bytes: logs().map(PartitionLog::journal_bytes).sum(),
        runs: logs().map(|log| log.runs().len() as u64).sum(),
        claims: state.archive.claims().len() as u64,
        garbage: garbage.len() as u64,
        garbage_bytes: state.archive.garbage_bytes(),
    }
}
