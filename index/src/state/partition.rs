//! One partition's log as the index sees it: runs of messages and where their bytes are.

use crate::{
    batch::AttributeSet,
    ids::{Offset, Sequence},
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
    /// Runs in the order of their offsets, without gaps.
    pub(crate) runs: Vec<Run>,
}

impl PartitionLog {
    /// Appends a run; its `base` is the high watermark, which moves behind it.
    pub(crate) fn append(&mut self, mut run: Run) -> Offset {
        run.base = self.high_watermark;
        self.high_watermark = run.end();
        assert!(run.rows > 0 && self.runs.last().is_none_or(|last| last.end() == run.base), "I7: offsets rise densely");
        self.attributes = self.attributes.union(run.attributes);
        self.runs.push(run);
        run.base
    }

    /// Messages that can be read.
    pub const fn messages(&self) -> u64 {
        self.high_watermark.0 - self.log_start.0
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

    /// The first run that may hold a message of that time or later.
    pub fn run_at_time(&self, timestamp_ms: i64) -> Option<&Run> {
        self.runs.iter().find(|run| run.max_timestamp_ms >= timestamp_ms)
    }
}
