//! Admission, batching, the publish path, the read path and its cache.
#![allow(dead_code, unused_variables, missing_docs, clippy::unimplemented)]

use std::{borrow::Cow, time::Duration};
use brigade_index::{batch::{MessageRef, Messages}, command::Identity, ids::{Offset, Partition, TopicId}, names::{TopicName}, shard::{Shard, ProposeError, FetchError}, env::Env};

#[derive(Clone, Debug)]
pub struct IngestSettings { pub linger: Duration, pub publish_memory_bytes: usize, pub cache_bytes: u64, pub request_timeout: Duration }

/// Handle; cheap to clone.
#[derive(Clone)]
pub struct Ingest;
impl Ingest {
    /// Starts the batcher task (tracked by `tasks`).
    pub fn start(shard: Shard, settings: IngestSettings, env: Env, tasks: &tokio_util::task::TaskTracker) -> Self { unimplemented!() }
    pub fn metrics(&self) -> &IngestMetrics { unimplemented!() }
    /// Room for `bytes` of request body, before it is read. Refused at once when full: 429.
    pub fn admit(&self, bytes: usize) -> Result<Admission, IngestError> { unimplemented!() }
    /// An empty draft of a publish to a topic.
    pub fn draft(&self, topic: &TopicName, identity: Option<Identity>) -> Result<Draft, IngestError> { unimplemented!() }
    /// Publishes; answers when committed. The answer is in the order in which messages were pushed.
    pub async fn publish(&self, draft: Draft, admission: Admission) -> Result<PublishReply, IngestError> { unimplemented!() }
    pub async fn read(&self, request: ReadRequest) -> Result<ReadReply, IngestError> { unimplemented!() }
    /// Stream subscriptions: reads on from the given position of every partition, round robin over partitions.
    pub async fn poll(&self, request: PollRequest) -> Result<PollReply, IngestError> { unimplemented!() }
    /// First offset whose message has that timestamp or a later one; the high watermark if there is none.
    pub async fn offset_at(&self, topic: TopicId, partition: Partition, timestamp_ms: i64) -> Result<Offset, IngestError> { unimplemented!() }
    /// Flushes what is open and refuses more; resolves when all is answered.
    pub async fn drain(&self) { unimplemented!() }
}
pub struct IngestMetrics;
impl IngestMetrics { pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {} }

/// A permit for bytes in memory; give it to `publish`. `grow` is for bodies whose length was not announced.
pub struct Admission;
impl Admission { pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> { unimplemented!() } }

/// A publish request being built: validates, picks partitions, appends to columns.
pub struct Draft;
impl Draft {
    /// Time that messages without a timestamp get.
    pub fn now_ms(&self) -> i64 { unimplemented!() }
    pub fn push(&mut self, message: &MessageRef<'_>, partition: Option<u32>) -> Result<(), MessageError> { unimplemented!() }
    pub fn messages(&self) -> usize { unimplemented!() }
}
pub struct PublishReply { pub placed: Vec<(Partition, Offset)>, pub duplicate: bool }

#[derive(Clone, Debug)]
pub enum ReadFrom { Earliest, Latest, Offset(Offset), Timestamp(i64) }
#[derive(Clone, Debug)]
pub struct ReadRequest { pub topic: TopicName, pub partition: Partition, pub from: ReadFrom, pub max_messages: usize, pub max_bytes: usize, pub wait: Duration }
/// Rows of one decoded batch.
#[derive(Clone, Debug)]
pub struct Slice { pub partition: Partition, pub base: Offset /* of row `first` */, pub messages: Messages, pub first: usize, pub rows: usize }
#[derive(Clone, Debug)]
pub struct ReadReply { pub slices: Vec<Slice>, pub next_offset: Offset, pub high_watermark: Offset, pub log_start: Offset }
#[derive(Clone, Debug)]
pub struct PollRequest { pub topic: TopicName, pub positions: Vec<Offset>, pub max_messages: usize, pub max_bytes: usize, pub wait: Duration }
pub struct PollReply { pub slices: Vec<Slice>, pub positions: Vec<(Partition, Offset)> /* next offset of each partition that had messages */ }

/// Why a message was refused while a draft was built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MessageError { #[error("message has {bytes} bytes, the topic accepts {limit}")] TooLarge { bytes: usize, limit: usize }, #[error("key has {bytes} bytes, at most {limit}")] KeyTooLarge { bytes: usize, limit: usize }, #[error("{count} headers, at most {limit}")] TooManyHeaders { count: usize, limit: usize }, #[error("headers have {bytes} bytes")] HeadersTooLarge { bytes: usize }, #[error("the topic has no partition {partition} (it has {partitions})")] NoSuchPartition { partition: u32, partitions: u32 }, #[error("a message needs a value or a key")] Empty }

/// Why a request was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    #[error("there is no topic {0}")] TopicNotFound(TopicName),
    #[error("the topic has no partition {partition} (it has {partitions})")] PartitionNotFound { partition: Partition, partitions: u32 },
    #[error("offset {offset} is above the high watermark {high_watermark}")] OffsetOutOfRange { offset: Offset, high_watermark: Offset },
    #[error("offset {offset} is below the log start {log_start}")] OffsetExpired { offset: Offset, log_start: Offset },
    #[error("too many bytes are being published at once")] Busy { retry_after: Duration },
    #[error("the sequence lies before the producer's window")] SequenceTooOld,
    #[error("the request has {bytes} bytes, at most {limit}")] TooLarge { bytes: usize, limit: usize },
    #[error("no answer within {0:?}")] TimedOut(Duration),   // outcome unknown
    #[error(transparent)] Propose(#[from] ProposeError),
    #[error(transparent)] Fetch(#[from] FetchError),
}
