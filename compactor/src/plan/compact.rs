//! When a partition of which only the last message of each key is kept is compacted.

use brigade_index::state::ShardState;

use super::{At, Candidate, CompactJob, Job, Planner};

/// The dirty part is compacted when it has this part of the bytes that are compacted already: then each compaction pays.
const RATIO: u64 = 2;

/// Files of a partition that are to be compacted: how many are, and how many are not.
pub(super) struct Dirty {
    clean: usize,
    dirty: usize,
}

impl Planner<'_> {
    /// Whether a partition is to be compacted.
    pub(super) fn compact(&mut self, at: &At<'_>) -> Option<Candidate<Dirty>> {
        let files = at.log.files();
        if !at.retention.key_compaction || files.last().is_none_or(|last| last.compacted) {
            return None;
        }
        let (clean, clean_bytes) = at.log.compacted_files();
        let behind = &files[clean..];
        let lag = at.retention.compaction_lag_ms;
        let dirty = behind.iter().take_while(|file| self.is_past(file.max_timestamp_ms, lag)).count();
        let dirty_bytes: u64 = behind[..dirty].iter().map(|file| file.bytes).sum();
        let demanded = behind.first().is_some_and(|file| at.is_demanded(file.first));
        let due = dirty > 0 && (demanded || dirty_bytes >= clean_bytes / RATIO);
        let (first, last) = (files.first()?, files.get((clean + dirty).checked_sub(1)?)?);
        if !due || self.is_claimed(at, first.first, last.end) {
            return None;
        }
        Some(Candidate::new(at, dirty_bytes, Dirty { clean, dirty }))
    }
}

/// The job for the first partition that is to be compacted.
pub(super) fn job(mut candidates: impl Iterator<Item = Candidate<Dirty>>, state: &ShardState) -> Option<Job> {
    let Candidate { topic, partition, what: Dirty { clean, dirty }, .. } = candidates.next()?;
    let of = state.topic(topic)?;
    let (retention, files) = (of.settings.retention, of.partition(partition)?.files().get(..clean + dirty)?.to_vec());
    let (dirty_from, until) = (files.get(clean)?.first, files.last()?.end);
    Some(Job::Compact(CompactJob { topic, partition, dirty_from, until, files, retention }))
}
