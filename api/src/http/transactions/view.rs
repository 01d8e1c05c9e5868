//! Transactions as clients see them.

use brigade_index::{
    command::Fate,
    ids::{Offset, Partition},
    names::{TopicName, TransactionId},
};
use brigade_ingest::{PublishReply, TransactionPlace, TransactionRecord, TransactionState};
use serde::Serialize;
use utoipa::ToSchema;

use crate::settings::redact_url;

/// What has become of a transaction that was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Transacted {
    id: String,
    /// `committed`, `prepared` or `rolled_back`.
    state: &'static str,
    /// Once it is committed: where its messages are, in the order in which they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Placed>>,
}

/// Where a message of a transaction is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Placed {
    topic: String,
    partition: u32,
    offset: u64,
    /// Whether it was not stored because one with the same deduplication id was, which is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

impl Placed {
    fn all(topic: &TopicName, reply: &PublishReply) -> Vec<Self> {
        let place = |(at, (partition, offset)): (usize, &(Partition, Offset))| Self {
            topic: topic.to_string(),
            partition: partition.0,
            offset: offset.0,
            duplicate: reply.duplicates.binary_search(&at).is_ok().then_some(true),
        };
        reply.placed.iter().enumerate().map(place).collect()
    }
}

impl Transacted {
    /// `topics` are those of the drafts.
    pub(super) fn new(id: &TransactionId, topics: &[TopicName], state: TransactionState) -> Self {
        let (state, messages) = match state {
            TransactionState::Prepared => ("prepared", None),
            TransactionState::RolledBack => ("rolled_back", None),
            TransactionState::Committed(drafts) => {
                let placed = topics.iter().zip(drafts).flat_map(|(topic, reply)| Placed::all(topic, &reply));
                ("committed", Some(placed.collect()))
            }
        };
        Self { id: id.to_string(), state, messages }
    }
}

/// A transaction.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TransactionView {
    id: String,
    /// `prepared`, `committed` or `rolled_back`.
    state: &'static str,
    /// While it waits: when it came, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    prepared_at: Option<i64>,
    /// While it waits: when it is rolled back unless it is decided, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    /// While it waits: who is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_back: Option<CheckBackView>,
    /// When it was decided, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<i64>,
    /// Its messages, of topics that are still there; none when it was rolled back.
    publish: Vec<PlaceView>,
    /// While it waits: what it acknowledges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ack: Vec<AckView>,
}

/// Who is asked about a transaction.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CheckBackView {
    /// The URL without its query, which may hold a secret.
    url: String,
    every_ms: u32,
}

/// Messages of a transaction in one partition.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct PlaceView {
    topic: String,
    partition: u32,
    /// Offset of the first, once it is committed; the others follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// Number of messages.
    messages: u32,
}

/// Messages of a queue that a transaction acknowledges.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct AckView {
    topic: String,
    subscription: String,
    /// Number of messages.
    messages: u64,
}

impl TransactionView {
    pub(super) fn new(record: TransactionRecord) -> Self {
        let state = match record.fate {
            Fate::Prepared => "prepared",
            Fate::Committed(_) => "committed",
            Fate::RolledBack => "rolled_back",
        };
        let place = |place: TransactionPlace| PlaceView {
            topic: place.topic.to_string(),
            partition: place.partition.0,
            offset: place.offset.map(|offset| offset.0),
            messages: place.messages,
        };
        let prepared = record.prepared;
        let check_back = prepared.as_ref().and_then(|prepared| prepared.prepare.check_back.as_ref());
        let check_back =
            check_back.map(|check| CheckBackView { url: redact_url(&check.url), every_ms: check.every_ms });
        Self {
            id: record.id.to_string(),
            state,
            prepared_at: prepared.as_ref().map(|prepared| prepared.created_ms),
            expires_at: prepared.as_ref().map(|prepared| prepared.prepare.expires_ms),
            check_back,
            decided_at: record.decided_ms,
            publish: record.places.into_iter().map(place).collect(),
            ack: prepared.map_or_else(Vec::new, |prepared| {
                let ack = |(topic, name, messages): (TopicName, brigade_index::names::SubscriptionName, u64)| AckView {
                    topic: topic.to_string(),
                    subscription: name.to_string(),
                    messages,
                };
                prepared.acks.into_iter().map(ack).collect()
            }),
        }
    }
}

/// A page of transactions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TransactionList {
    transactions: Vec<TransactionView>,
    /// Ask with this as `after` for the next page; `null` on the last.
    next: Option<String>,
}

impl TransactionList {
    /// `found` may hold one more than `limit`.
    pub(super) fn new(mut found: Vec<TransactionRecord>, limit: usize) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.id.to_string());
        Self { transactions: found.into_iter().map(TransactionView::new).collect(), next }
    }
}
