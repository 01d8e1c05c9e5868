//! Why messages and requests are refused.

use std::time::Duration;

use brigade_index::{
    command::Rejection,
    ids::{Offset, Partition},
    names::TopicName,
    shard::{FetchError, ProposeError},
};

use crate::ReceiptError;

/// Why a message was refused while a draft was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Key, value and headers together are larger than the topic accepts.
    #[error("message has {bytes} bytes, the topic accepts {limit}")]
    TooLarge {
        /// Bytes of key, value and headers.
        bytes: usize,
        /// Most that the topic accepts.
        limit: usize,
    },
    /// The key is too long.
    #[error("key has {bytes} bytes, at most {limit}")]
    KeyTooLarge {
        /// Bytes of the key.
        bytes: usize,
        /// Most bytes of a key.
        limit: usize,
    },
    /// The message has too many headers.
    #[error("{count} headers, at most {limit}")]
    TooManyHeaders {
        /// Number of headers.
        count: usize,
        /// Most headers of a message.
        limit: usize,
    },
    /// Names and values of the headers are too long together.
    #[error("headers have {bytes} bytes")]
    HeadersTooLarge {
        /// Bytes of all names and values.
        bytes: usize,
    },
    /// A header has no name, or the name of another one.
    #[error("the header name {name:?} is empty or stands twice")]
    HeaderName {
        /// The name.
        name: String,
    },
    /// A partition was asked for that the topic does not have.
    #[error("the topic has no partition {partition} (it has {partitions})")]
    NoSuchPartition {
        /// The partition asked for.
        partition: u32,
        /// Number of partitions.
        partitions: u32,
    },
    /// Neither key nor value.
    #[error("a message needs a value or a key")]
    Empty,
    /// The group is empty or too long.
    #[error("group has {bytes} bytes, it may have 1 to {limit}")]
    Group {
        /// Bytes of the group.
        bytes: usize,
        /// Most bytes of a group.
        limit: usize,
    },
    /// There is no such priority.
    #[error("priority {priority} does not exist, they are 0 to 9")]
    Priority {
        /// The priority.
        priority: u8,
    },
    /// To be delivered too far ahead, or before the Unix epoch.
    #[error("deliver_at {time_ms} is not between 0 and 366 days after now, which is {now_ms}")]
    Delay {
        /// When it is to be delivered, milliseconds since the Unix epoch.
        time_ms: i64,
        /// Now, likewise.
        now_ms: i64,
    },
    /// It expires too far ahead, or has expired.
    #[error("expires_at {time_ms} is not between now, which is {now_ms}, and 366 days later")]
    Ttl {
        /// When it expires, milliseconds since the Unix epoch.
        time_ms: i64,
        /// Now, likewise.
        now_ms: i64,
    },
    /// The deduplication id is empty or too long.
    #[error("deduplication id has {bytes} bytes, it may have 1 to {limit}")]
    DeduplicationId {
        /// Bytes of the id.
        bytes: usize,
        /// Most bytes of an id.
        limit: usize,
    },
    /// The request has more messages than one request may have.
    #[error("a request has at most {limit} messages")]
    TooManyMessages {
        /// Most messages of one request.
        limit: usize,
    },
}

/// Why a transaction was refused before anything of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// A receipt is not good.
    #[error("ack[{ack}].receipts[{place}]: {error}")]
    Receipt {
        /// Which acknowledgement, counted from 0.
        ack: usize,
        /// Which of its receipts, counted from 0.
        place: usize,
        /// What is wrong with it.
        error: ReceiptError,
    },
    /// A topic or subscription is named twice.
    #[error("{0} is named twice")]
    Twice(String),
    /// There is more of something than a transaction may have.
    #[error("the transaction has {count} {what}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// No topic of that name, or it was deleted meanwhile. Nothing was stored.
    #[error("there is no topic {0}")]
    TopicNotFound(TopicName),
    /// The topic has fewer partitions.
    #[error("the topic has no partition {partition} (it has {partitions})")]
    PartitionNotFound {
        /// The partition asked for.
        partition: Partition,
        /// Number of partitions.
        partitions: u32,
    },
    /// Nothing has this offset yet.
    #[error("offset {offset} is above the high watermark {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Offset after the last committed message.
        high_watermark: Offset,
    },
    /// The message with this offset is no longer kept.
    #[error("offset {offset} is below the log start {log_start}")]
    OffsetExpired {
        /// The offset asked for.
        offset: Offset,
        /// First offset that can be read.
        log_start: Offset,
    },
    /// No room for the request now. Nothing was stored.
    #[error("too many bytes are being published at once")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The producer's sequence lies so far back that nobody can tell whether it was stored. Not stored now.
    #[error("the sequence lies before the producer's window")]
    SequenceTooOld,
    /// Another request with other messages was stored under the same identity. This one was not stored.
    #[error("another request with other messages was stored under the same identity")]
    IdentityReused,
    /// The transaction cannot be. Nothing was stored.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The request is larger than any may be. Nothing was stored.
    #[error("the request has {bytes} bytes, at most {limit}")]
    TooLarge {
        /// Bytes of the request.
        bytes: usize,
        /// Most bytes of a request.
        limit: usize,
    },
    /// Its outcome is unknown: it may have been stored, or may be later.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The shard refused the request when it was applied. Nothing was stored.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// The shard did not acknowledge the request; the error says whether it can have been stored.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Messages could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}
