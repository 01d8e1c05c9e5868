//! The read path: find where to start, wait if there is nothing yet, fetch what is needed and cut it to size.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition, TopicId},
    names::TopicName,
    state::{PartitionLog, Run, Topic},
};
use futures::{StreamExt, future::select_all};
use tokio::time::timeout;

use crate::{
    IngestError, IngestMetrics,
    cache::BatchCache,
    log::Log,
    plan::{self, Budget, Piece},
};

/// Batches that one read fetches at a time.
const FETCHES: usize = 8;

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

/// Rows of one decoded batch.
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
    /// The messages, in order and without gaps.
    pub slices: Vec<Slice>,
    /// Where to read on.
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
    /// The messages; those of one partition are in order and without gaps.
    pub slices: Vec<Slice>,
    /// Where to read on, for each partition that had messages, ascending.
    pub positions: Vec<(Partition, Offset)>,
}

/// Bounds of a partition when a read began.
#[derive(Clone, Copy)]
struct Bounds {
    topic: TopicId,
    log_start: Offset,
    high_watermark: Offset,
}

pub(crate) struct Reader {
    log: Log,
    cache: Arc<BatchCache>,
    metrics: IngestMetrics,
    /// Partition at which the next poll begins, so that every partition is first in turn.
    turn: AtomicUsize,
}

impl Reader {
    pub(crate) fn new(log: Log, cache: Arc<BatchCache>, metrics: IngestMetrics) -> Self {
        Self { log, cache, metrics, turn: AtomicUsize::new(0) }
    }

    pub(crate) async fn read(&self, request: ReadRequest) -> Result<ReadReply, IngestError> {
        let ReadRequest { topic: name, partition, from, max_messages, max_bytes, wait } = request;
        let mut bounds = self.bounds(&name, None, partition)?;
        let from = match from {
            ReadFrom::Earliest => bounds.log_start,
            ReadFrom::Latest => bounds.high_watermark,
            ReadFrom::Offset(offset) => offset,
            ReadFrom::Timestamp(time) => self.offset_at(bounds.topic, partition, time).await?,
        };
        if from == bounds.high_watermark && !wait.is_zero() {
            // Time over is no error: the answer is then empty.
            let _ = timeout(wait, self.log.grown_past(bounds.topic, partition, from)).await;
        }
        bounds = self.bounds(&name, Some(bounds.topic), partition)?;
        let Bounds { topic, log_start, high_watermark } = bounds;
        if from > high_watermark {
            return Err(IngestError::OffsetOutOfRange { offset: from, high_watermark });
        }
        if from < log_start {
            return Err(IngestError::OffsetExpired { offset: from, log_start });
        }
        let mut taken = Taken::new(max_messages, max_bytes);
        let mut next_offset = from;
        while next_offset < high_watermark && !taken.is_full() {
            let pieces = self.with_log(topic, partition, |log| {
                plan::plan(log, partition, next_offset, high_watermark, taken.budget)
            });
            let before = taken.slices.len();
            self.collect(pieces.unwrap_or_default(), &mut taken).await?;
            match taken.slices[before..].last() {
                Some(last) => next_offset = last.end(),
                None => break,
            }
        }
        Ok(ReadReply { slices: self.finish(taken), next_offset, high_watermark, log_start })
    }

    pub(crate) async fn poll(&self, request: PollRequest) -> Result<PollReply, IngestError> {
        let PollRequest { topic: name, positions, only, max_messages, max_bytes, wait } = request;
        let wanted = |start: &Start| only.as_ref().is_none_or(|only| only.contains(&start.partition));
        let (topic, mut starts) = self.starts(&name, None, &positions)?;
        starts.retain(wanted);
        if starts.iter().all(|start| start.at == start.high_watermark) && !wait.is_zero() && !starts.is_empty() {
            let grown = starts.iter().map(|start| Box::pin(self.log.grown_past(topic, start.partition, start.at)));
            let _ = timeout(wait, select_all(grown)).await;
            (_, starts) = self.starts(&name, Some(topic), &positions)?;
        }
        starts.retain(|start| wanted(start) && start.at < start.high_watermark);
        if !starts.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let turn = turn % starts.len();
            starts.rotate_left(turn);
        }
        let mut taken = Taken::new(max_messages, max_bytes);
        while !starts.is_empty() && !taken.is_full() {
            let pieces = self.share(topic, &starts, taken.budget);
            let before = taken.slices.len();
            self.collect(pieces, &mut taken).await?;
            if taken.slices.len() == before {
                break;
            }
            for slice in &taken.slices[before..] {
                starts.iter_mut().filter(|start| start.partition == slice.partition).for_each(|s| s.at = slice.end());
            }
            starts.retain(|start| start.at < start.high_watermark);
        }
        let ends = taken.slices.iter().map(|slice| (slice.partition, slice.end()));
        let positions: std::collections::BTreeMap<_, _> = ends.collect();
        Ok(PollReply { slices: self.finish(taken), positions: positions.into_iter().collect() })
    }

    /// First offset whose message has that timestamp or a later one; the high watermark if there is none.
    pub(crate) async fn offset_at(
        &self,
        topic: TopicId,
        partition: Partition,
        time_ms: i64,
    ) -> Result<Offset, IngestError> {
        let (mut at, end) =
            self.with_log(topic, partition, |log| (log.log_start, log.high_watermark)).unwrap_or_default();
        while at < end {
            let late = |run: &&Run| run.max_timestamp_ms >= time_ms;
            let run = self.with_log(topic, partition, |log| log.runs_from(at).iter().find(late).copied()).flatten();
            let Some(run) = run.filter(|run| run.base < end) else { break };
            if run.min_timestamp_ms >= time_ms {
                return Ok(run.base.max(at));
            }
            let messages = self.cache.messages(&run.batch).await?;
            let first = run.first_row as usize;
            let rows = messages.timestamps().get(first..first + run.rows as usize).unwrap_or_default();
            let found = rows.iter().position(|timestamp| *timestamp >= time_ms);
            if let Some(row) = found {
                return Ok(run.base.plus(row as u64).max(at));
            }
            at = run.end();
        }
        Ok(end)
    }

    /// Fetches the pieces, several at a time, and takes their rows in order until the budget is spent. What was taken
    /// before a failure stays taken; a failure counts only if nothing was.
    async fn collect(&self, pieces: Vec<Piece>, taken: &mut Taken) -> Result<(), IngestError> {
        let fetch = |piece: Piece| async move { (piece, self.cache.messages(&piece.run.batch).await) };
        let mut batches = std::pin::pin!(futures::stream::iter(pieces).map(fetch).buffered(FETCHES));
        while let Some((piece, batch)) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) if taken.slices.is_empty() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, partition = %piece.partition, offset = %piece.from, "read cut short");
                    taken.full = true;
                    return Ok(());
                }
            };
            let any = taken.slices.is_empty();
            match plan::cut(&piece, &batch, &mut taken.budget, any) {
                Some(slice) => {
                    taken.full = slice.rows < piece.rows;
                    taken.slices.push(slice);
                }
                None => taken.full = true,
            }
            if taken.full {
                break;
            }
        }
        Ok(())
    }

    /// Pieces for a poll: every partition gets an equal share of the messages, and what one leaves goes to the next.
    fn share(&self, topic: TopicId, starts: &[Start], budget: Budget) -> Vec<Piece> {
        let state = self.log.state();
        let Some(topic) = state.topic(topic) else { return Vec::new() };
        let (mut pieces, mut left) = (Vec::new(), budget.messages);
        for (served, start) in starts.iter().enumerate() {
            let messages = left.div_ceil(starts.len() - served);
            let want = Budget { messages, bytes: budget.bytes };
            let Some(log) = topic.partition(start.partition) else { continue };
            let planned = plan::plan(log, start.partition, start.at, start.high_watermark, want);
            left -= planned.iter().map(|piece| piece.rows).sum::<usize>();
            pieces.extend(planned);
        }
        pieces
    }

    fn finish(&self, taken: Taken) -> Vec<Slice> {
        let messages: usize = taken.slices.iter().map(|slice| slice.rows).sum();
        let bytes: usize = taken.slices.iter().map(plan::bytes).sum();
        self.metrics.read(messages, bytes);
        taken.slices
    }

    fn with_log<R>(&self, topic: TopicId, partition: Partition, f: impl FnOnce(&PartitionLog) -> R) -> Option<R> {
        let state = self.log.state();
        state.topic(topic)?.partition(partition).map(f)
    }

    /// Bounds of a partition of the topic of that name, which must still be the topic `same` if given.
    fn bounds(&self, name: &TopicName, same: Option<TopicId>, partition: Partition) -> Result<Bounds, IngestError> {
        let state = self.log.state();
        let topic = named(state.topic_named(name), name, same)?;
        let log = topic.partition(partition);
        let log = log.ok_or(IngestError::PartitionNotFound { partition, partitions: topic.settings.partitions })?;
        Ok(Bounds { topic: topic.id, log_start: log.log_start, high_watermark: log.high_watermark })
    }

    /// Where a poll begins in each partition.
    fn starts(
        &self,
        name: &TopicName,
        same: Option<TopicId>,
        positions: &[Offset],
    ) -> Result<(TopicId, Vec<Start>), IngestError> {
        let state = self.log.state();
        let topic = named(state.topic_named(name), name, same)?;
        if positions.len() > topic.partitions.len() {
            let partition = Partition(topic.partitions.len() as u32);
            return Err(IngestError::PartitionNotFound { partition, partitions: partition.0 });
        }
        let start = |(number, log): (usize, &PartitionLog)| {
            let high_watermark = log.high_watermark;
            let at = positions.get(number).copied().unwrap_or_default().max(log.log_start);
            if at > high_watermark {
                return Err(IngestError::OffsetOutOfRange { offset: at, high_watermark });
            }
            Ok(Start { partition: Partition(number as u32), at, high_watermark })
        };
        let starts = topic.partitions.iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok((topic.id, starts))
    }
}

fn named<'a>(topic: Option<&'a Topic>, name: &TopicName, same: Option<TopicId>) -> Result<&'a Topic, IngestError> {
    let topic = topic.filter(|topic| same.is_none_or(|same| topic.id == same));
    topic.ok_or_else(|| IngestError::TopicNotFound(name.clone()))
}

/// Where a poll is in one partition.
#[derive(Clone, Copy)]
struct Start {
    partition: Partition,
    at: Offset,
    high_watermark: Offset,
}

/// What a read has taken so far.
struct Taken {
    slices: Vec<Slice>,
    budget: Budget,
    /// A batch was cut short, or could not be had.
    full: bool,
}

impl Taken {
    fn new(messages: usize, bytes: usize) -> Self {
        // At least one message is given if there is one, whatever was asked for.
        Self { slices: Vec::new(), budget: Budget { messages: messages.max(1), bytes: bytes.max(1) }, full: false }
    }

    fn is_full(&self) -> bool {
        self.full || self.budget.is_spent()
    }
}
