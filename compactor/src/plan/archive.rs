//! Which partitions leave the journal, and how much of each at once.

use brigade_index::{
    command::{ClaimPart, Retention},
    state::{PartitionLog, Run, ShardState},
};

use super::{ArchiveJob, At, Candidate, Job, PlanSettings, Planner};

/// Files are to span at most this part of the time that their messages are kept: they are dropped as a whole.
pub(super) const SPAN: u64 = 10;

/// Messages that are kept for less than so many times the age at which they would be archived are not archived for their
/// age.
const BRIEF: u64 = 4;

/// Files are to have at most this part of the bytes that a topic keeps.
const SHARE: u64 = 8;

impl Planner<'_> {
    /// Whether messages of a partition are to be archived.
    pub(super) fn archive(&mut self, at: &At<'_>) -> Option<Candidate<()>> {
        let runs = at.log.runs();
        if runs.is_empty() || self.is_claimed(at, at.log.archived_end(), at.log.high_watermark) {
            return None;
        }
        let due = at.is_demanded(at.log.archived_end())
            || self.has_many_runs(runs.len())
            || self.is_large(at)
            || self.is_old(at);
        due.then(|| Candidate::new(at, at.log.journal_bytes(), ()))
    }

    /// Every run takes memory, however small it is.
    fn has_many_runs(&self, runs: usize) -> bool {
        let PlanSettings { max_runs_partition, max_runs, .. } = *self.settings;
        runs > max_runs_partition || (self.runs > max_runs && runs >= self.runs.div_ceil(self.waiting.max(1)))
    }

    fn is_large(&self, at: &At<'_>) -> bool {
        let PlanSettings { file_bytes, job_bytes, pressure_bytes, archive_after_ms, .. } = *self.settings;
        let Retention { time_ms, bytes, .. } = *at.retention;
        // What is dropped so soon would be written for nothing.
        if (time_ms > 0 && time_ms <= archive_after_ms) || (bytes > 0 && bytes <= 2 * file_bytes) {
            return false;
        }
        let waiting = at.log.journal_bytes();
        waiting >= file_bytes || (self.journal_bytes >= job_bytes && waiting >= pressure_bytes)
    }

    fn is_old(&mut self, at: &At<'_>) -> bool {
        let PlanSettings { archive_after_ms, idle_after_ms, min_file_bytes, .. } = *self.settings;
        let keep = at.retention.time_ms;
        let Some(since) = at.log.waiting_since_ms() else { return false };
        if keep > 0 && keep <= BRIEF * archive_after_ms {
            return false;
        }
        let span = if keep > 0 { keep / SPAN } else { u64::MAX };
        let after = if at.log.journal_bytes() >= min_file_bytes { archive_after_ms } else { idle_after_ms };
        self.is_past(since, after.min(span))
    }
}

/// What goes into one file: whole batches from the first that waits, and their bytes.
fn part(log: &PartitionLog, retention: &Retention, settings: &PlanSettings) -> Option<(Run, u64)> {
    let share = if retention.bytes > 0 { (retention.bytes / SHARE).max(settings.min_file_bytes) } else { u64::MAX };
    let most = settings.file_bytes.min(share);
    let (mut bytes, mut last): (u64, Option<&Run>) = (0, None);
    for run in log.runs() {
        if last.is_none_or(|last| last.batch != run.batch) {
            let more = bytes + u64::from(run.batch.len);
            if last.is_some() && more > most {
                break;
            }
            bytes = more;
        }
        last = Some(run);
    }
    last.map(|last| (*last, bytes))
}

/// Jobs for partitions that are to be archived, in this order.
pub(super) fn jobs(
    candidates: impl Iterator<Item = Candidate<()>>,
    state: &ShardState,
    settings: &PlanSettings,
) -> Vec<Job> {
    let mut jobs: Vec<ArchiveJob> = Vec::new();
    for Candidate { topic, partition, .. } in candidates {
        let Some(found) = state.topic(topic) else { continue };
        let log = found.partition(partition);
        let Some((log, (last, bytes))) =
            log.and_then(|log| Some((log, part(log, &found.settings.retention, settings)?)))
        else {
            continue;
        };
        let claim = ClaimPart { topic, partition, first: log.archived_end(), end: last.end() };
        let room = |job: &&mut ArchiveJob| {
            job.parts.len() < settings.job_partitions && job.input_bytes + bytes <= settings.job_bytes
        };
        let full = jobs.len() == settings.jobs_of_a_kind;
        match jobs.last_mut().filter(room) {
            Some(job) => {
                job.parts.push(claim);
                job.input_bytes += bytes;
            }
            None if full => break,
            None => jobs.push(ArchiveJob { parts: vec![claim], input_bytes: bytes }),
        }
    }
    jobs.into_iter().map(Job::Archive).collect()
}
