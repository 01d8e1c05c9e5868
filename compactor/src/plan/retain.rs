//! What is dropped from the beginning of a partition: by time, by size, and when every subscription is done with it.

use brigade_index::{command::Trim, ids::Offset, state::PartitionLog};

use super::{At, Planner};

/// By so much of the retention time, at most, something is dropped late: so that a partition with many small runs is not
/// trimmed at each of them.
const GRAIN: u64 = 20;

/// Bounds of that, in milliseconds.
const GRAIN_MS: (u64, u64) = (1_000, 3_600_000);

/// So many runs, or so many bytes of them, that every subscription is done with are dropped at once; fewer, after a while.
const DONE_RUNS: usize = 256;
const DONE_BYTES: u64 = 1 << 20;
const DONE_AFTER_MS: u64 = 60_000;

/// A file or run: what is dropped as a whole.
struct Piece {
    end: Offset,
    max_timestamp_ms: i64,
    /// Bytes that are free when it is dropped after all before it.
    bytes: u64,
}

fn pieces(log: &PartitionLog) -> impl Iterator<Item = Piece> {
    let files = log.files().iter();
    let files = files.map(|file| Piece { end: file.end, max_timestamp_ms: file.max_timestamp_ms, bytes: file.bytes });
    let runs = log.runs();
    let runs = runs.iter().enumerate().map(|(index, run)| {
        // The last run of a batch frees it.
        let shared = runs.get(index + 1).is_some_and(|next| next.batch == run.batch);
        let bytes = if shared { 0 } else { u64::from(run.batch.len) };
        Piece { end: run.end(), max_timestamp_ms: run.max_timestamp_ms, bytes }
    });
    files.chain(runs)
}

impl Planner<'_> {
    /// Adds what is to be dropped of a partition. Gives whether there is any.
    pub(super) fn retain(&mut self, at: &At<'_>, trims: &mut Vec<Trim>) -> bool {
        let before = trims.len();
        let (topic, partition, retention) = (at.topic.id, at.partition, *at.retention);
        let kept = self.expired(at).max(self.excess(at));
        trims.extend(kept.map(|to| Trim { topic, partition, to, acknowledged: false, retention }));
        if self.is_done(at, kept) {
            let to = at.log.high_watermark;
            trims.push(Trim { topic, partition, to, acknowledged: true, retention });
        }
        trims.len() > before
    }

    /// Up to where messages are older than the topic keeps them.
    fn expired(&mut self, at: &At<'_>) -> Option<Offset> {
        let keep = at.retention.time_ms;
        if keep == 0 {
            return None;
        }
        let first = pieces(at.log).next()?;
        let grain = if at.is_demanded(at.log.log_start) { 0 } else { (keep / GRAIN).clamp(GRAIN_MS.0, GRAIN_MS.1) };
        if !self.is_past(first.max_timestamp_ms, keep + grain) {
            return None;
        }
        let old = |piece: &Piece| piece.max_timestamp_ms.saturating_add_unsigned(keep) <= self.now_ms;
        pieces(at.log).take_while(old).last().map(|piece| piece.end)
    }

    /// Up to where messages are dropped because of the bytes behind them: as many as the topic keeps stay.
    fn excess(&self, at: &At<'_>) -> Option<Offset> {
        let keep = at.retention.bytes;
        if keep == 0 {
            return None;
        }
        let excess = at.log.stored_bytes().checked_sub(keep)?;
        let mut freed = 0;
        let fits = |piece: &Piece| {
            freed += piece.bytes;
            freed <= excess
        };
        let last = pieces(at.log).take_while(fits).last()?;
        let whole_file = at.log.files().first().is_some_and(|file| file.end <= last.end);
        let worthwhile = whole_file || at.is_demanded(at.log.log_start) || excess >= keep / GRAIN;
        worthwhile.then_some(last.end)
    }

    /// Whether enough is behind every subscription to be dropped, apart from what is dropped anyway.
    fn is_done(&mut self, at: &At<'_>, dropped: Option<Offset>) -> bool {
        let empty = at.log.files().is_empty() && at.log.runs().is_empty();
        if !at.retention.after_ack || empty {
            return false;
        }
        let Some(done) = at.topic.acknowledged(at.partition).filter(|done| *done > at.log.log_start) else {
            return false;
        };
        if dropped.is_some_and(|to| done <= to) {
            return false;
        }
        if at.log.files().first().is_some_and(|file| file.end <= done) {
            return true;
        }
        let runs = at.log.runs();
        let whole = runs.partition_point(|run| run.end() <= done);
        if whole == 0 {
            return false;
        }
        // Of a batch in several runs this counts too much, which does no harm.
        let bytes = || runs[..whole].iter().map(|run| u64::from(run.batch.len)).sum::<u64>();
        at.is_demanded(at.log.log_start)
            || whole >= DONE_RUNS
            || bytes() >= DONE_BYTES
            || at.log.waiting_since_ms().is_some_and(|since| self.is_past(since, DONE_AFTER_MS))
    }
}
