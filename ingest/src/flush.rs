//! Turning a flush into a proposal: columns become encoded batches, placed end to end.

use std::mem;

use brigade_index::{
    batch::{BatchError, Compression, encode},
    command::{BatchRef, Command, IdempotentRequest, Publish},
    format::checksum,
    ids::{Partition, TopicId},
    names::TopicName,
};
use bytes::Bytes;

use crate::open::{Batched, Flush, OpenBatch, OpenTopic};

/// Batches below this many bytes of payload are stored as they are: for one small message compression takes longer than
/// the few bytes it saves, and a store bills requests.
const COMPRESSED_BYTES: u64 = 4 * 1024;

/// Flushes below this many bytes are encoded on the batcher's own task: a hop to another costs more than that.
pub(crate) const INLINE_BYTES: usize = 64 * 1024;

/// An encoded batch and its place in the proposal's body.
#[derive(Debug)]
pub(crate) struct SentBatch {
    pub(crate) partition: Partition,
    pub(crate) at: u64,
    pub(crate) crc: u32,
    pub(crate) bytes: Bytes,
}

/// One topic of a flush on its way: who waits for it.
#[derive(Debug)]
pub(crate) struct SentTopic<T> {
    pub(crate) topic: TopicId,
    pub(crate) name: TopicName,
    pub(crate) batches: Vec<SentBatch>,
    pub(crate) requests: Vec<IdempotentRequest>,
    pub(crate) batched: Vec<Batched<T>>,
}

/// A flush that is encoded: what is proposed, and who waits for it.
#[derive(Debug)]
pub(crate) struct Encoded<T> {
    pub(crate) commands: Vec<Command>,
    pub(crate) body: Vec<Bytes>,
    /// In the order of the commands.
    pub(crate) topics: Vec<SentTopic<T>>,
}

/// Encodes a flush: one publish command for each topic, one batch for each partition.
///
/// The second value says what went wrong, if anything; the first then still has everyone who waits.
pub(crate) fn encode_flush<T>(flush: Flush<T>) -> (Encoded<T>, Option<BatchError>) {
    let mut encoded = Encoded { commands: Vec::new(), body: Vec::new(), topics: Vec::new() };
    let mut at = 0;
    let mut problem = None;
    for (_, mut open) in flush.topics {
        let mut sent = Vec::with_capacity(open.batches.len());
        match encode_topic(&mut open, &mut at, &mut sent) {
            Ok(publish) => encoded.commands.push(Command::Publish(publish)),
            Err(error) => problem = Some(error),
        }
        encoded.body.extend(sent.iter().map(|batch| batch.bytes.clone()));
        let OpenTopic { topic, name, requests, batched, .. } = open;
        encoded.topics.push(SentTopic { topic, name, batches: sent, requests, batched });
    }
    (encoded, problem)
}

fn encode_topic<T>(open: &mut OpenTopic<T>, at: &mut u64, sent: &mut Vec<SentBatch>) -> Result<Publish, BatchError> {
    let batches = encode_batches(mem::take(&mut open.batches), open.compression, at, sent)?;
    Ok(Publish { topic: open.topic, requests: open.requests.clone(), batches })
}

/// Encodes batches of one topic; they begin at `at` in the body, which is moved behind them.
pub(crate) fn encode_batches(
    open: Vec<OpenBatch>,
    compression: Compression,
    at: &mut u64,
    sent: &mut Vec<SentBatch>,
) -> Result<Vec<BatchRef>, BatchError> {
    let mut batches = Vec::with_capacity(open.len());
    for OpenBatch { partition, columns, owned, ids } in open {
        let rows = columns.rows();
        let (payload_bytes, attributes) = (columns.payload_bytes() as u64, columns.attribute_set());
        let (min_timestamp_ms, max_timestamp_ms) = columns.timestamp_range();
        let compression = if payload_bytes < COMPRESSED_BYTES { Compression::None } else { compression };
        let bytes = encode(&columns.into_record_batch(), compression)?;
        let crc = checksum(&bytes);
        // Requests are bounded far below 4 GiB and 4 billion messages.
        let (len, rows) = (bytes.len() as u32, rows as u32);
        batches.push(BatchRef {
            partition,
            at: *at,
            len,
            crc,
            rows,
            payload_bytes,
            min_timestamp_ms,
            max_timestamp_ms,
            owned,
            attributes,
            ids,
        });
        sent.push(SentBatch { partition, at: *at, crc, bytes });
        *at += u64::from(len);
    }
    Ok(batches)
}
