//! The read path: find where to start, wait if there is nothing yet, fetch what is needed and cut it to size.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use brigade_index::{
    ids::{Offset, Partition, TopicId},
    names::TopicName,
    state::{PartitionLog, Topic},
};
use futures::{StreamExt, future::select_all, stream};
use tokio::time::{Instant, timeout_at};

use crate::{
    IngestError, IngestMetrics,
    ahead::{Part, ReadAhead},
    cache::BatchCache,
    log::Log,
    plan::{self, Budget, Piece, Plan},
    source::{Source, sources_from},
};

mod types;

pub use types::{PollReply, PollRequest, ReadFrom, ReadReply, ReadRequest, Slice};

/// Batches, or parts of archive files, that one read fetches at a time.
const FETCHES: usize = 8;

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
    ahead: ReadAhead,
    metrics: IngestMetrics,
    /// Partition at which the next poll begins, so that every partition is first in turn.
    turn: AtomicUsize,
}

impl Reader {
    pub(crate) fn new(log: Log, cache: Arc<BatchCache>, ahead: ReadAhead, metrics: IngestMetrics) -> Self {
        Self { log, cache, ahead, metrics, turn: AtomicUsize::new(0) }
    }

    #[cfg(test)]
    pub(crate) fn cache(&self) -> &BatchCache {
        &self.cache
    }

    pub(crate) async fn read(&self, mut request: ReadRequest) -> Result<ReadReply, IngestError> {
        let until = Instant::now() + request.wait;
        loop {
            let reply = self.read_once(&request, until).await?;
            let on = ReadFrom::Offset(reply.next_offset);
            // If there were only offsets without messages, what comes behind them is waited for.
            if !reply.slices.is_empty() || request.from == on || until <= Instant::now() {
                return Ok(reply);
            }
            request.from = on;
        }
    }

    async fn read_once(&self, request: &ReadRequest, until: Instant) -> Result<ReadReply, IngestError> {
        let ReadRequest { topic: name, partition, from, max_messages, max_bytes, .. } = request;
        let partition = *partition;
        let mut bounds = self.bounds(name, None, partition)?;
        let from = match *from {
            ReadFrom::Earliest => bounds.log_start,
            ReadFrom::Latest => bounds.high_watermark,
            ReadFrom::Offset(offset) => offset,
            ReadFrom::Timestamp(time) => self.offset_at(bounds.topic, partition, time).await?,
        };
        if from == bounds.high_watermark && until > Instant::now() {
            // Time over is no error: the answer is then empty.
            let _ = timeout_at(until, self.log.grown_past(bounds.topic, partition, from)).await;
        }
        bounds = self.bounds(name, Some(bounds.topic), partition)?;
        let Bounds { topic, log_start, high_watermark } = bounds;
        if from > high_watermark {
            return Err(IngestError::OffsetOutOfRange { offset: from, high_watermark });
        }
        if from < log_start {
            return Err(IngestError::OffsetExpired { offset: from, log_start });
        }
        let mut taken = Taken::new(*max_messages, *max_bytes);
        let mut next_offset = from;
        while next_offset < high_watermark && !taken.is_full() {
            let plan = self.with_log(topic, partition, |log| {
                plan::plan(log, partition, next_offset, high_watermark, taken.budget)
            });
            let Some(plan) = plan else { break };
            self.collect(topic, plan.pieces, &mut taken).await?;
            next_offset = if taken.full { taken.reached(partition).unwrap_or(next_offset) } else { plan.end };
        }
        if taken.slices.is_empty() {
            // Messages may have been dropped, or the topic deleted, while they were looked for.
            let log_start = self.bounds(name, Some(topic), partition)?.log_start;
            if from < log_start {
                return Err(IngestError::OffsetExpired { offset: from, log_start });
            }
        }
        let slices = self.finish(topic, &[(partition, from, next_offset)], taken);
        Ok(ReadReply { slices, next_offset, high_watermark, log_start })
    }

    pub(crate) async fn poll(&self, mut request: PollRequest) -> Result<PollReply, IngestError> {
        let until = Instant::now() + request.wait;
        let mut moved = BTreeMap::new();
        loop {
            let reply = self.poll_once(&request, until).await?;
            let nothing = reply.positions.is_empty();
            for (partition, offset) in reply.positions {
                let number = partition.0 as usize;
                request.positions.resize(request.positions.len().max(number + 1), Offset(0));
                request.positions[number] = offset;
                moved.insert(partition, offset);
            }
            // If there were only gaps, what comes behind them is waited for.
            if nothing || !reply.slices.is_empty() {
                return Ok(PollReply { slices: reply.slices, positions: moved.into_iter().collect() });
            }
        }
    }

    async fn poll_once(&self, request: &PollRequest, until: Instant) -> Result<PollReply, IngestError> {
        let PollRequest { topic: name, positions, only, max_messages, max_bytes, .. } = request;
        let wanted = |start: &Start| only.as_ref().is_none_or(|only| only.contains(&start.partition));
        let (topic, mut starts) = self.starts(name, None, positions)?;
        starts.retain(wanted);
        let at_the_end = starts.iter().all(|start| start.at == start.high_watermark) && !starts.is_empty();
        if at_the_end && until > Instant::now() {
            let grown = starts.iter().map(|start| Box::pin(self.log.grown_past(topic, start.partition, start.at)));
            let _ = timeout_at(until, select_all(grown)).await;
            (_, starts) = self.starts(name, Some(topic), positions)?;
        }
        starts.retain(|start| wanted(start) && start.at < start.high_watermark);
        if !starts.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let turn = turn % starts.len();
            starts.rotate_left(turn);
        }
        let mut parts: Vec<_> = starts.iter().map(|start| (start.partition, start.at, start.at)).collect();
        let mut taken = Taken::new(*max_messages, *max_bytes);
        while !starts.is_empty() && !taken.is_full() {
            let plans = self.share(topic, &starts, taken.budget);
            let ends: Vec<_> = plans.iter().map(|(start, plan)| (*start, plan.end)).collect();
            self.collect(topic, plans.into_iter().flat_map(|(_, plan)| plan.pieces).collect(), &mut taken).await?;
            let mut went_on = false;
            for (partition, end) in ends {
                let end = if taken.full { taken.reached(partition) } else { Some(end) };
                let Some(end) = end else { continue };
                let start = starts.iter_mut().find(|start| start.partition == partition);
                start.into_iter().for_each(|start| (went_on, start.at) = (went_on || end > start.at, end));
                parts.iter_mut().filter(|part| part.0 == partition).for_each(|part| part.2 = end);
            }
            starts.retain(|start| start.at < start.high_watermark);
            if !went_on {
                break;
            }
        }
        parts.retain(|(_, from, next)| from < next);
        parts.sort_unstable();
        let slices = self.finish(topic, &parts, taken);
        Ok(PollReply { slices, positions: parts.into_iter().map(|(partition, _, next)| (partition, next)).collect() })
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
        let mut failed = None;
        while at < end {
            let late = |source: &Source| source.timestamps().1 >= time_ms;
            let source = self.with_log(topic, partition, |log| sources_from(log, at).find(late)).flatten();
            let Some(source) = source.filter(|source| source.first() < end) else { break };
            let from = source.first().max(at);
            if source.timestamps().0 >= time_ms {
                return Ok(from);
            }
            match self.cache.at_time(topic, partition, &source, (from, time_ms)).await {
                Ok(Some(offset)) => return Ok(offset),
                Ok(None) => at = source.end(),
                Err(error) if failed.as_ref() == Some(&source) => return Err(error.into()),
                // It may have been replaced or dropped meanwhile: what the state says now is tried once more.
                Err(_) => failed = Some(source),
            }
        }
        Ok(end)
    }

    /// Fetches the pieces, several at a time, and takes their messages in order until the budget is spent. What was taken
    /// before a failure stays taken; a failure counts only if nothing was.
    async fn collect(&self, topic: TopicId, pieces: Vec<Piece>, taken: &mut Taken) -> Result<(), IngestError> {
        let fetch = |piece: Piece| async move {
            let found = self.cache.chunks(topic, piece.partition, &piece.source, (piece.from, piece.until)).await;
            (piece, found)
        };
        let parts = stream::iter(pieces).map(|piece| self.split(topic, piece)).buffered(FETCHES);
        let mut all = std::pin::pin!(parts.flat_map(stream::iter).map(fetch).buffered(FETCHES));
        while let Some((piece, found)) = all.next().await {
            let found = match found {
                Ok(found) => found,
                Err(error) if taken.slices.is_empty() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, partition = %piece.partition, offset = %piece.from, "read cut short");
                    taken.full = true;
                    return Ok(());
                }
            };
            if found.from > piece.from {
                // Dropped meanwhile: who reads on here is told.
                taken.full = true;
                return Ok(());
            }
            let any = taken.slices.is_empty();
            let left = plan::cut(&piece, &found.chunks, &mut taken.budget, any, &mut taken.slices);
            taken.full = left.is_some();
            taken.reached.insert(piece.partition, left.unwrap_or(piece.until));
            if taken.full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A piece, as parts that are fetched apart from each other.
    async fn split(&self, topic: TopicId, piece: Piece) -> Vec<Piece> {
        let parts = self.cache.parts(topic, piece.partition, &piece.source, (piece.from, piece.until)).await;
        parts.into_iter().map(|part| piece.part(part)).collect()
    }

    /// Plans for a poll: every partition gets an equal share of the messages, and what one leaves goes to the next.
    fn share(&self, topic: TopicId, starts: &[Start], budget: Budget) -> Vec<(Partition, Plan)> {
        let state = self.log.state();
        let Some(topic) = state.topic(topic) else { return Vec::new() };
        let (mut plans, mut left) = (Vec::with_capacity(starts.len()), budget.messages);
        for (served, start) in starts.iter().enumerate() {
            let messages = left.div_ceil(starts.len() - served);
            let want = Budget { messages, bytes: budget.bytes };
            let Some(log) = topic.partition(start.partition) else { continue };
            let plan = plan::plan(log, start.partition, start.at, start.high_watermark, want);
            left -= plan.rows();
            plans.push((start.partition, plan));
        }
        plans
    }

    /// Counts what was read, and notes it for each partition: its number, where it was read from, and where it goes on.
    fn finish(&self, topic: TopicId, parts: &[(Partition, Offset, Offset)], taken: Taken) -> Vec<Slice> {
        let (mut messages, mut bytes) = (0, BTreeMap::<_, usize>::new());
        for slice in &taken.slices {
            messages += slice.rows;
            *bytes.entry(slice.partition).or_default() += plan::bytes(slice);
        }
        self.metrics.read(messages, bytes.values().sum());
        for (partition, from, next) in parts.iter().copied() {
            let bytes = bytes.get(&partition).copied().unwrap_or(0) as u64;
            self.ahead.read(Part { topic, partition, from, next, bytes });
        }
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
    /// Where partitions are read on, as far as that is known from what was taken.
    reached: BTreeMap<Partition, Offset>,
    /// A batch was cut short, or could not be had.
    full: bool,
}

impl Taken {
    fn new(messages: usize, bytes: usize) -> Self {
        // At least one message is given if there is one, whatever was asked for.
        let budget = Budget { messages: messages.max(1), bytes: bytes.max(1) };
        Self { slices: Vec::new(), budget, reached: BTreeMap::new(), full: false }
    }

    fn is_full(&self) -> bool {
        self.full || self.budget.is_spent()
    }

    fn reached(&self, partition: Partition) -> Option<Offset> {
        self.reached.get(&partition).copied()
    }
}
