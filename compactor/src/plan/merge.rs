//! Which neighbouring files become one.
//!
//! A file that was written from the journal is merged once: when its neighbours have grown to a full file, or are many. So
//! each byte is written at most twice. Files that were compacted shrink for years, and are merged whenever some small ones
//! lie beside each other; every merge leaves fewer of them.

use std::ops::Range;

use brigade_index::{
    archive::ArchiveFile,
    command::ClaimPart,
    ids::Offset,
    state::{PartitionLog, ShardState},
};

use super::{At, Candidate, Job, MergeJob, PlanSettings, Planner, archive::SPAN};

/// So many of a partition's last files, in fan-ins, are looked at: those before are merged, or were not worth it.
const LOOK_BACK: usize = 4;

/// A compacted file is small when it has less than this part of a full file, and so many small ones are merged.
const SMALL: u64 = 4;
const SMALL_FILES: usize = 4;

/// Most merges in a plan, however small they are.
const MOST: usize = 64;

/// Neighbours, as indices of a partition's files, and their bytes.
pub(super) struct Group {
    files: Range<usize>,
    bytes: u64,
}

/// A group that is put together.
struct Growing {
    first: usize,
    count: usize,
    bytes: u64,
    times: (i64, i64),
    compacted: bool,
}

impl Growing {
    fn starting(index: usize, file: &ArchiveFile) -> Self {
        let times = (file.min_timestamp_ms, file.max_timestamp_ms);
        Self { first: index, count: 1, bytes: file.bytes, times, compacted: file.compacted }
    }

    fn take(&mut self, file: &ArchiveFile) {
        self.count += 1;
        self.bytes += file.bytes;
        self.times = self.times_with(file);
    }

    fn times_with(&self, file: &ArchiveFile) -> (i64, i64) {
        (self.times.0.min(file.min_timestamp_ms), self.times.1.max(file.max_timestamp_ms))
    }

    /// Whether it is merged. One that is not `closed` may get more neighbours.
    fn is_due(&self, closed: bool, settings: &PlanSettings) -> bool {
        if self.compacted {
            return self.count >= SMALL_FILES;
        }
        let full = closed || self.count >= settings.merge_fan_in || self.bytes >= settings.max_file_bytes;
        full && self.count >= settings.merge_least.max(2)
    }
}

impl Planner<'_> {
    /// The first neighbours in a partition that are to be merged.
    pub(super) fn merge(&self, at: &At<'_>) -> Option<Candidate<Group>> {
        let settings = self.settings;
        let files = at.log.files();
        if files.len() < settings.merge_least.max(2) {
            return None;
        }
        let keep = at.retention.time_ms;
        let span = if keep > 0 { keep / SPAN } else { u64::MAX };
        let share = if at.retention.bytes > 0 { at.retention.bytes / SPAN } else { u64::MAX };
        let most = settings.max_file_bytes.min(share);
        let mut group: Option<Growing> = None;
        let from = files.len().saturating_sub(LOOK_BACK * settings.merge_fan_in);
        for (index, file) in files.iter().enumerate().skip(from) {
            let may = self.may_merge(at, file);
            let joins = |group: &Growing| {
                let (min, max) = group.times_with(file);
                may && group.compacted == file.compacted
                    && group.count < settings.merge_fan_in
                    && group.bytes + file.bytes <= most
                    && max.abs_diff(min) <= span
            };
            match &mut group {
                Some(group) if joins(group) => group.take(file),
                Some(done) if done.is_due(true, settings) => break,
                _ => group = may.then(|| Growing::starting(index, file)),
            }
        }
        // If the loop broke, the group is one that was due with a neighbour behind it.
        let group = group?;
        let closed = group.first + group.count < files.len();
        let Growing { first, count, bytes, .. } = group;
        let what = Group { files: first..first + count, bytes };
        group.is_due(closed, settings).then(|| Candidate::new(at, count as u64, what))
    }

    fn may_merge(&self, at: &At<'_>, file: &ArchiveFile) -> bool {
        let whole = self.settings.max_file_bytes;
        let again = if file.compacted { file.bytes < whole / SMALL } else { file.merges == 0 && file.bytes < whole };
        again && !self.is_claimed(at, file.first, file.end)
    }
}

/// Where a merged file begins and ends: between the files there may be offsets without a message.
fn bounds(files: &[ArchiveFile]) -> Option<(Offset, Offset)> {
    Some((files.first()?.first, files.last()?.end))
}

/// Jobs for neighbours that are to be merged, in this order.
pub(super) fn jobs(
    candidates: impl Iterator<Item = Candidate<Group>>,
    state: &ShardState,
    settings: &PlanSettings,
) -> Vec<Job> {
    let most = settings.max_file_bytes.saturating_mul(settings.jobs_of_a_kind as u64);
    let (mut jobs, mut sum) = (Vec::new(), 0);
    for Candidate { topic, partition, what, .. } in candidates {
        let files = state.topic(topic).and_then(|topic| topic.partition(partition)).map(PartitionLog::files);
        let Some(files) = files.and_then(|files| files.get(what.files)) else { continue };
        let Some((first, end)) = bounds(files) else { continue };
        sum += what.bytes;
        if jobs.len() == MOST || (sum > most && !jobs.is_empty()) {
            break;
        }
        jobs.push(Job::Merge(MergeJob { part: ClaimPart { topic, partition, first, end }, files: files.to_vec() }));
    }
    jobs
}
