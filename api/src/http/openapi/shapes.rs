//! Shapes of bodies that the wire module reads and writes by hand, for the document only.
#![expect(dead_code, reason = "these types describe JSON and are never made")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// Messages to publish. They are stored whole or not at all.
#[derive(ToSchema)]
pub(super) struct Publication {
    messages: Vec<Message>,
}

/// A message to publish: a value, or a key without a value, which is a tombstone.
#[derive(ToSchema)]
pub(super) struct Message {
    /// Messages with the same key go to the same partition and keep their order.
    key: Option<String>,
    /// A key of any bytes, instead of `key`.
    key_base64: Option<String>,
    /// Text, or any other JSON value.
    value: Option<Value>,
    /// A value of any bytes, instead of `value`.
    value_base64: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    /// Milliseconds since the Unix epoch; the time of arrival by default.
    timestamp: Option<i64>,
    /// The partition, if it is not to be chosen.
    partition: Option<u32>,
}

/// What is to happen together or not at all.
#[derive(ToSchema)]
pub(super) struct TransactionBody {
    /// By which it is recognised when it is repeated; without it one is drawn.
    id: Option<String>,
    /// At most 100 topics, each once.
    publish: Option<Vec<TransactionPublish>>,
    /// At most 100 subscriptions, each once, with at most 10000 receipts together.
    ack: Option<Vec<TransactionAck>>,
    /// Whether it waits for a decision.
    prepare: Option<bool>,
    /// With `prepare`: it is rolled back when it is not decided within this time, in milliseconds; 60000 by default, at most
    /// seven days.
    timeout_ms: Option<u64>,
    /// With `prepare`: whom to ask what has become of it.
    check_back: Option<CheckBackBody>,
}

/// What a transaction publishes to a topic.
#[derive(ToSchema)]
pub(super) struct TransactionPublish {
    topic: String,
    messages: Vec<Message>,
}

/// What a transaction acknowledges.
#[derive(ToSchema)]
pub(super) struct TransactionAck {
    topic: String,
    /// A queue subscription of the topic.
    subscription: String,
    receipts: Vec<String>,
}

/// An endpoint that is sent `{"transaction":"id","prepared_at":ms}` and answers `{"decision":"commit"}`, `"rollback"` or
/// `"unknown"`. Anything else counts as unknown.
#[derive(ToSchema)]
pub(super) struct CheckBackBody {
    url: String,
    /// Time before the first question and between questions, in milliseconds; 5000 by default, 100 to 86400000.
    every_ms: Option<u32>,
}

/// Where published messages are, in the order in which they were sent.
#[derive(ToSchema)]
pub(super) struct Placements {
    messages: Vec<Placement>,
}

/// Where a message is.
#[derive(ToSchema)]
pub(super) struct Placement {
    partition: u32,
    offset: u64,
}

/// A stored message.
#[derive(ToSchema)]
pub(super) struct Published {
    partition: u32,
    offset: u64,
    key: Option<String>,
    /// Instead of `key` when it is no UTF-8.
    key_base64: Option<String>,
    /// `null` for a tombstone.
    value: Option<Value>,
    /// Instead of `value` when it was given as bytes.
    value_base64: Option<String>,
    headers: BTreeMap<String, String>,
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
}

/// Messages of a partition.
#[derive(ToSchema)]
pub(super) struct Read {
    messages: Vec<Published>,
    /// Where to read on.
    next_offset: u64,
    /// Offset after the last message of the partition.
    high_watermark: u64,
}

/// Messages of a subscription, and what to commit once they are processed.
#[derive(ToSchema)]
pub(super) struct Polled {
    messages: Vec<Published>,
    positions: Vec<Placement>,
}

/// An error.
#[derive(ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorObject,
}

/// What was wrong, and what to do.
#[derive(ToSchema)]
pub(super) struct ErrorObject {
    /// Stable, in snake case.
    code: String,
    /// What was wrong.
    message: String,
    /// What to do.
    hint: String,
    /// With code `offset_expired`: the first offset that can be read.
    log_start: Option<u64>,
    /// With code `offset_out_of_range`: the offset after the last message.
    high_watermark: Option<u64>,
}
