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
    /// Messages with the same group, 1 to 256 bytes, go to the same partition, whatever their keys are.
    group: Option<String>,
    /// For queue subscriptions: 0 to 9, 9 first; 4 by default.
    priority: Option<u8>,
    /// For queue subscriptions: not delivered before so many milliseconds have gone by, at most 366 days.
    delay_ms: Option<u64>,
    /// Instead of `delay_ms`: not delivered before, milliseconds since the Unix epoch.
    deliver_at: Option<i64>,
    /// For queue subscriptions: not delivered any more after so many milliseconds, at most 366 days.
    ttl_ms: Option<u64>,
    /// Instead of `ttl_ms`: not delivered from then on, milliseconds since the Unix epoch.
    expires_at: Option<i64>,
    /// 1 to 200 bytes: the message is stored only if none with this id was stored in the topic within its
    /// `deduplication_window_ms`.
    deduplication_id: Option<String>,
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
    messages: Vec<PublishedAt>,
}

/// Where a published message is.
#[derive(ToSchema)]
pub(super) struct PublishedAt {
    partition: u32,
    offset: u64,
    /// `true` if a message with the same `deduplication_id` was stored before; this is then where that one is. Otherwise
    /// it is not there.
    duplicate: Option<bool>,
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
    /// This and what follows: only if the message was given it.
    group: Option<String>,
    priority: Option<u8>,
    /// Milliseconds since the Unix epoch.
    deliver_at: Option<i64>,
    /// Milliseconds since the Unix epoch.
    expires_at: Option<i64>,
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

/// The answer of a poll: that of a stream, or that of a queue.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Received {
    Stream(Polled),
    Queue(Delivered),
}

/// Messages of a queue, to be acknowledged once they are processed.
#[derive(ToSchema)]
pub(super) struct Delivered {
    messages: Vec<Delivery>,
}

/// A message of a queue.
#[derive(ToSchema)]
pub(super) struct Delivery {
    #[schema(inline)]
    #[serde(flatten)]
    message: Published,
    /// By it the message is settled.
    receipt: String,
    /// How often it was delivered, this time included.
    delivery_count: u32,
    /// Milliseconds since the Unix epoch.
    first_delivered_at: i64,
    /// Until when the receipt is good, milliseconds since the Unix epoch.
    deadline: i64,
}

/// What became of receipts, in their order.
#[derive(ToSchema)]
pub(super) struct Results {
    results: Vec<ReceiptResult>,
}

/// What became of a receipt.
#[derive(ToSchema)]
pub(super) struct ReceiptResult {
    receipt: String,
    /// `acknowledged`, `returned`, `extended` or `rejected`; not of a receipt that was refused.
    status: Option<String>,
    /// Of one that was extended: the receipt that takes its place.
    new_receipt: Option<String>,
    /// Until when that is good, milliseconds since the Unix epoch.
    deadline: Option<i64>,
    /// Of a receipt that was refused.
    error: Option<ErrorObject>,
}

/// A page of dead letters.
#[derive(ToSchema)]
pub(super) struct DeadLetters {
    messages: Vec<DeadLetter>,
    /// The place behind which the next page begins, even if this one is short or empty; `null` at the end.
    next: Option<String>,
}

/// A message that was given up.
#[derive(ToSchema)]
pub(super) struct DeadLetter {
    #[schema(inline)]
    #[serde(flatten)]
    message: Published,
    topic: String,
    /// `max_deliveries`, `expired` or `rejected`.
    reason: String,
    /// How often it was delivered.
    delivery_count: u32,
    /// Milliseconds since the Unix epoch; `null` if it never was.
    first_delivered_at: Option<i64>,
    /// Milliseconds since the Unix epoch.
    dead_at: i64,
}

/// How many dead letters were given back.
#[derive(ToSchema)]
pub(super) struct Redriven {
    redriven: u64,
}

/// How many dead letters were forgotten.
#[derive(ToSchema)]
pub(super) struct Purged {
    purged: u64,
}

/// An error.
#[derive(ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorObject,
    /// When every receipt of a call was refused.
    results: Option<Vec<ReceiptResult>>,
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
    /// With code `invalid_filter`: where it is wrong, in bytes.
    position: Option<u64>,
}
