//! When a partition of which only the last message of each key is kept is compacted: when enough of it is dirty, and when
//! what is clean has tombstones whose time is over.

use std::ops::Range;

use brigade_index::{archive::ArchiveFile, state::ShardState};

use super::{At, Candidate, CompactJob, Job, Planner};

/// The dirty part is compacted when it has this part of the bytes that are compacted already: then each compaction pays.
const RATIO: u64 = 2;

/// A tombstone in the clean part stays for this part of its time longer, and at least for so many milliseconds, so that a
/// file is written again for many of them at once.
const GRACE_PART: u64 = 2;
const LEAST_GRACE_MS: u64 = 10 * 60 * 1000;

/// Files of a partition that are written again, and how many of all its files are clean.
pub(super) struct Dirty {
    files: Range<usize>,
    clean: usize,
}

impl Planner<'_> {
    /// Whether a partition is to be compacted.
    pub(super) fn compact(&mut self, at: &At<'_>) -> Option<Candidate<Dirty>> {
        let files = at.log.files();
        if !at.retention.key_compaction || files.is_empty() {
            return None;
        }
        let (clean, clean_bytes) = at.log.compacted_files();
        let (clean_files, behind) = files.split_at(clean);
        let lag = at.retention.compaction_lag_ms;
        let dirty = behind.iter().take_while(|file| self.is_past(file.max_timestamp_ms, lag)).count();
        let dirty_bytes = bytes(&behind[..dirty]);
        let demanded = behind.first().is_some_and(|file| at.is_demanded(file.first));
        let due = dirty > 0 && (demanded || dirty_bytes >= clean_bytes / RATIO);
        let (range, weight) = match self.old_tombstones(at, clean_files) {
            _ if due => (0..clean + dirty, dirty_bytes),
            Some(range) => (range.clone(), bytes(&files[range])),
            None => return None,
        };
        let (first, last) = (files.get(range.start)?, files.get(range.end.checked_sub(1)?)?);
        let claimed = self.is_claimed(at, first.first, last.end);
        (!claimed).then(|| Candidate::new(at, weight, Dirty { files: range, clean }))
    }

    /// From the first to the last of the clean files with a tombstone that has been there for too long.
    fn old_tombstones(&mut self, at: &At<'_>, clean: &[ArchiveFile]) -> Option<Range<usize>> {
        let keep = at.retention.tombstones_ms;
        let grace = (keep / GRACE_PART).max(LEAST_GRACE_MS);
        let mut range: Option<Range<usize>> = None;
        for (index, file) in clean.iter().enumerate() {
            let Some(oldest) = file.oldest_tombstone_ms else { continue };
            // It is dropped when its time is over, and not at the moment when it is.
            let grace = if at.is_demanded(file.first) { 1 } else { grace };
            if self.is_past(oldest, keep.saturating_add(grace)) {
                range = Some(range.map_or(index, |range| range.start)..index + 1);
            }
        }
        range
    }
}

fn bytes(files: &[ArchiveFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// The job for the first partition that is to be compacted.
pub(super) fn job(mut candidates: impl Iterator<Item = Candidate<Dirty>>, state: &ShardState) -> Option<Job> {
    let Candidate { topic, partition, what: Dirty { files, clean }, .. } = candidates.next()?;
    let of = state.topic(topic)?;
    let (retention, all) = (of.settings.retention, of.partition(partition)?.files());
    let files = all.get(files)?.to_vec();
    let until = files.last()?.end;
    let dirty_from = all.get(clean).map_or(until, |file| file.first.min(until));
    Some(Job::Compact(CompactJob { topic, partition, dirty_from, until, files, retention }))
}
