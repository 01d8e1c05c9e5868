//! What is asked of the reader and what it answers.

use std::time::Duration;

use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition},
    names::TopicName,
};

/// Where a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the log start.
    Earliest,
    /// At the high watermark: only what comes later.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first message of this time (milliseconds since the Unix epoch) or later; at the high watermark if there is
    /// none.
    Timestamp(i64),
}

/// A read of one partition.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: Partition,
    /// Where to start.
    pub from: ReadFrom,
    /// Most messages of the answer.
    pub max_messages: usize,
    /// Most bytes of keys, values and headers of the answer; a single message may have more.
    pub max_bytes: usize,
    /// How long to wait when there is nothing to read.
    pub wait: Duration,
}

/// Rows of one decoded batch, or of a decoded part of an archive file.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The partition.
    pub partition: Partition,
    /// Offset of row `first`; the rows after it follow without gaps.
    pub base: Offset,
    /// The batch.
    pub messages: Messages,
    /// First row.
    pub first: usize,
    /// Number of rows, at least one.
    pub rows: usize,
}

impl Slice {
    /// The offset after its last message.
    pub fn end(&self) -> Offset {
        self.base.plus(self.rows as u64)
    }
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub struct ReadReply {
    /// The messages, in order. Offsets are missing only where there is no message any more.
    pub slices: Vec<Slice>,
    /// Where to read on: never before the last message, and behind offsets that are known to have none.
    pub next_offset: Offset,
    /// Offset after the last committed message when the read began.
    pub high_watermark: Offset,
    /// First offset that can be read.
    pub log_start: Offset,
}

/// A read of all partitions of a topic.
#[derive(Clone, Debug)]
pub struct PollRequest {
    /// The topic.
    pub topic: TopicName,
    /// Next offset of each partition, by partition. Those left out start at their log start, as do those below it.
    pub positions: Vec<Offset>,
    /// Only these partitions instead of all.
    pub only: Option<Vec<Partition>>,
    /// Most messages of the answer.
    pub max_messages: usize,
    /// Most bytes of keys, values and headers of the answer; a single message may have more.
    pub max_bytes: usize,
    /// How long to wait when there is nothing to read in any partition.
    pub wait: Duration,
}

/// The answer to a poll.
#[derive(Clone, Debug, Default)]
pub struct PollReply {
    /// The messages; those of one partition are in order. Offsets are missing only where there is no message any more.
    pub slices: Vec<Slice>,
    /// Where to read on, ascending: for each partition that had messages, or offsets that have none any more.
    pub positions: Vec<(Partition, Offset)>,
}
