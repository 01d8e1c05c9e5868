//! One partition's log as the index sees it: runs of messages and where their bytes are.

use crate::{
    archive::ArchiveFile,
    batch::AttributeSet,
    ids::{Offset, Sequence},
    state::{FileTotals, Sum},
};

/// Where the bytes of a batch are: in the body of the entry `sequence`.
///
/// Copies of an entry lie in different objects in different regions, always at the same place in them; a region's extents
/// tell the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchLocation {
    /// The entry.
    pub sequence: Sequence,
    /// First byte in the object.
    pub at: u64,
    /// Length in bytes.
    pub len: u32,
    /// CRC-32C of the bytes.
    pub crc: u32,
}

/// Messages with consecutive offsets out of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset of the first message.
    pub base: Offset,
    /// Row of the first message in its batch.
    pub first_row: u32,
    /// Number of messages.
    pub rows: u32,
    /// The batch.
    pub batch: BatchLocation,
    /// Smallest timestamp of the batch, milliseconds since the Unix epoch.
    pub min_timestamp_ms: i64,
    /// Largest timestamp of the batch, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// Which attributes messages of the batch use.
    pub attributes: AttributeSet,
}

impl Run {
    /// The offset after its last message.
    pub const fn end(&self) -> Offset {
        self.base.plus(self.rows as u64)
    }
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionLog {
    /// First offset that can be read.
    pub log_start: Offset,
    /// Offset after the last committed message.
    pub high_watermark: Offset,
    /// Bytes of keys, values and headers published so far.
    pub bytes: u64,
    /// Attributes that its messages have had so far.
    pub(crate) attributes: AttributeSet,
    /// Archive files in the order of their offsets. Where none covers an offset before the first run, there is no message.
    pub(crate) files: Vec<ArchiveFile>,
    /// What they add up to.
    pub(crate) file_totals: FileTotals,
    /// Runs in the order of their offsets, without gaps, behind the files.
    pub(crate) runs: Vec<Run>,
    /// Bytes of the batches of all runs; it follows from them.
    pub(crate) journal_bytes: u64,
    /// When the oldest run was committed, milliseconds since the Unix epoch; or when runs before it left the journal, which
    /// was later; 0 without runs.
    pub(crate) waiting_since_ms: i64,
}

impl PartitionLog {
    /// Appends a run, committed at `now`; its `base` is the high watermark, which moves behind it.
    pub(crate) fn append(&mut self, mut run: Run, now: i64) -> Offset {
        run.base = self.high_watermark;
        self.high_watermark = run.end();
        assert!(run.rows > 0 && self.runs.last().is_none_or(|last| last.end() == run.base), "I7: offsets rise densely");
        self.attributes = self.attributes.union(run.attributes);
        if self.runs.is_empty() {
            self.waiting_since_ms = now;
        }
        // Runs of one batch follow each other.
        if self.runs.last().is_none_or(|last| last.batch != run.batch) {
            self.journal_bytes += u64::from(run.batch.len);
        }
        self.runs.push(run);
        run.base
    }

    /// Drops the first `count` runs at the time `now`; gives them.
    fn drop_runs(&mut self, count: usize, now: i64) -> Vec<Run> {
        let dropped = batch_bytes(&self.runs[..count]);
        let shared = count > 0 && self.runs.get(count).is_some_and(|next| next.batch == self.runs[count - 1].batch);
        let kept = if shared { u64::from(self.runs[count].batch.len) } else { 0 };
        self.journal_bytes -= dropped - kept;
        let dropped = self.runs.drain(..count).collect();
        self.waiting_since_ms = if self.runs.is_empty() { 0 } else { now };
        dropped
    }

    /// Messages that can be read. Of a compacted file in which the log start lies, at most so many.
    pub fn messages(&self) -> u64 {
        let readable = |file: &ArchiveFile| file.rows.min(file.end.0 - file.first.max(self.log_start).0);
        let archived = self.files_from(self.log_start).iter().map(readable).sum::<u64>();
        archived + (self.high_watermark.0 - self.archived_end().max(self.log_start).0)
    }

    /// Attributes that its messages have had so far: none has another.
    pub fn attributes(&self) -> AttributeSet {
        self.attributes
    }

    /// The runs, in the order of their offsets.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The runs from the one that holds `offset` on.
    pub fn runs_from(&self, offset: Offset) -> &[Run] {
        let first = self.runs.partition_point(|run| run.end() <= offset);
        &self.runs[first..]
    }

    /// The archive files, in the order of their offsets.
    pub fn files(&self) -> &[ArchiveFile] {
        &self.files
    }

    /// The files from the one that covers `offset` on.
    pub fn files_from(&self, offset: Offset) -> &[ArchiveFile] {
        let first = self.files.partition_point(|file| file.end <= offset);
        &self.files[first..]
    }

    /// Everything before this offset is in the archive, or gone; everything behind it in the journal.
    pub fn archived_end(&self) -> Offset {
        self.runs.first().map_or(self.high_watermark, |run| run.base)
    }

    /// Bytes of its batches that are in the journal only.
    pub fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    /// What its archive files add up to.
    pub fn file_totals(&self) -> &FileTotals {
        &self.file_totals
    }

    /// Bytes of its archive files.
    pub fn archive_bytes(&self) -> u64 {
        self.file_totals.all.bytes
    }

    /// Bytes stored of it in a region: archive files, and batches in the journal.
    pub fn stored_bytes(&self) -> u64 {
        self.journal_bytes().wrapping_add(self.archive_bytes())
    }

    /// How many of its files, from the first on, are key-compacted, and their bytes. Costs a look at those behind them.
    pub fn compacted_files(&self) -> (usize, u64) {
        let Sum { files, bytes } = self.file_totals.compacted;
        if files == 0 {
            return (0, 0);
        }
        let behind = usize::try_from(files).ok().and_then(|count| Some((count, self.files.get(count..)?)));
        match behind {
            Some((count, behind)) if !behind.iter().any(|file| file.compacted) => (count, bytes),
            // Not all of them are at the beginning.
            _ => {
                let compacted = self.files.iter().take_while(|file| file.compacted);
                compacted.fold((0, 0), |(count, bytes), file| (count + 1, file.bytes.wrapping_add(bytes)))
            }
        }
    }

    /// Since when messages of it wait to be archived, milliseconds since the Unix epoch by the leaders' clocks; `None` if
    /// none does. Never too early, unlike the timestamps that publishers give.
    pub fn waiting_since_ms(&self) -> Option<i64> {
        (!self.runs.is_empty()).then_some(self.waiting_since_ms)
    }

    /// Whether no file and no run lies across one of these bounds.
    pub(crate) fn is_aligned(&self, first: Offset, end: Offset) -> bool {
        let across = |bound: Offset| {
            let file = self.files_from(bound).first().is_some_and(|file| file.first < bound);
            file || self.runs_from(bound).first().is_some_and(|run| run.base < bound)
        };
        !across(first) && !across(end)
    }

    /// Messages between these offsets.
    pub(crate) fn rows_between(&self, first: Offset, end: Offset) -> u64 {
        let files = self.files_from(first).iter().take_while(|file| file.first < end).map(|file| file.rows);
        let runs = self.runs_from(first).iter().take_while(|run| run.base < end).map(|run| u64::from(run.rows));
        files.chain(runs).sum()
    }

    /// Puts an archive file, or nothing, in the place of all files and runs between these bounds, across which none of them
    /// lies, at the time `now`. Gives what is not referenced any more.
    pub(crate) fn replace(&mut self, first: Offset, end: Offset, file: Option<ArchiveFile>, now: i64) -> Dropped {
        let from = self.files.partition_point(|file| file.end <= first);
        let to = self.files.partition_point(|file| file.first < end);
        file.iter().for_each(|file| self.file_totals.add(file));
        let files: Vec<_> = self.files.splice(from..to, file).collect();
        files.iter().for_each(|file| self.file_totals.take(file));
        let (from, to) =
            (self.runs.partition_point(|run| run.end() <= first), self.runs.partition_point(|run| run.base < end));
        assert!(from == 0 || from == to, "I7: runs have no gaps, and files lie before them");
        let runs = if to > 0 && from == 0 { self.drop_runs(to, now) } else { Vec::new() };
        Dropped { files, runs }
    }

    /// Drops everything before `to`, at the time `now`. A file or run that lies across it stays. Gives what is dropped.
    pub(crate) fn trim(&mut self, to: Offset, now: i64) -> Dropped {
        self.log_start = to;
        let count = self.runs.partition_point(|run| run.end() <= to);
        let runs = if count > 0 { self.drop_runs(count, now) } else { Vec::new() };
        let files: Vec<_> = self.files.drain(..self.files.partition_point(|file| file.end <= to)).collect();
        files.iter().for_each(|file| self.file_totals.take(file));
        Dropped { files, runs }
    }
}

/// What a partition does not refer to any more.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) files: Vec<ArchiveFile>,
    pub(crate) runs: Vec<Run>,
}

/// Bytes of the batches that these runs are of.
pub(crate) fn batch_bytes(runs: &[Run]) -> u64 {
    let mut last = None;
    let batches = runs.iter().filter(|run| last.replace(run.batch) != Some(run.batch));
    batches.map(|run| u64::from(run.batch.len)).sum()
}
