//! What is told of a transaction.

use std::ops::Bound;

use brigade_index::{
    command::{Fate, Placement, Prepare},
    ids::{Offset, Partition, TopicId},
    names::{SubscriptionName, TopicName, TransactionId},
    state::{Prepared, ShardState},
};

/// A transaction as the committed state knows it. What it did to topics that are gone is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Its id.
    pub id: TransactionId,
    /// What has become of it.
    pub fate: Fate,
    /// When it was decided, milliseconds since the Unix epoch.
    pub decided_ms: Option<i64>,
    /// What is known of it while it waits.
    pub prepared: Option<PreparedRecord>,
    /// Its messages.
    pub places: Vec<TransactionPlace>,
}

/// A transaction that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedRecord {
    /// When it came, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// How long it waits, and who is asked.
    pub prepare: Prepare,
    /// How many messages of which subscriptions it acknowledges.
    pub acks: Vec<(TopicName, SubscriptionName, u64)>,
}

/// Messages of a transaction in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPlace {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: Partition,
    /// Offset of the first message, once it is committed.
    pub offset: Option<Offset>,
    /// Number of messages. Once it is committed without those that were stored before under their deduplication ids.
    pub messages: u32,
}

/// What is known of a transaction.
pub(crate) fn record(state: &ShardState, id: &TransactionId) -> Option<TransactionRecord> {
    if let Some(prepared) = state.transactions.prepared().get(id) {
        return Some(waiting(state, id, prepared));
    }
    let fate = state.transactions.fate(id)?;
    let decided_ms = state.transactions.decided_ms(id);
    let mut places = Vec::new();
    if let Fate::Committed(placements) = &fate {
        for (topic, placement) in placements {
            places.extend(placed(state, *topic, placement));
        }
    }
    Some(TransactionRecord { id: id.clone(), fate, decided_ms, prepared: None, places })
}

/// Transactions that wait.
pub(crate) fn undecided(state: &ShardState, after: Option<&TransactionId>, limit: usize) -> Vec<TransactionRecord> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let waiting = |(id, prepared)| waiting(state, id, prepared);
    state.transactions.prepared().range::<TransactionId, _>((from, Bound::Unbounded)).take(limit).map(waiting).collect()
}

fn topic_name(state: &ShardState, topic: TopicId) -> Option<TopicName> {
    state.topic(topic).map(|topic| topic.name.clone())
}

fn placed(state: &ShardState, topic: TopicId, placement: &Placement) -> Vec<TransactionPlace> {
    let Some(topic) = topic_name(state, topic) else { return Vec::new() };
    let duplicates = |partition: Partition| {
        let dropped = placement.duplicates.iter().filter(|(other, _)| *other == partition);
        dropped.map(|(_, rows)| rows.rows).sum::<u32>()
    };
    let place = |(partition, offset, messages): &(Partition, Offset, u32)| TransactionPlace {
        topic: topic.clone(),
        partition: *partition,
        offset: Some(*offset),
        messages: messages.saturating_sub(duplicates(*partition)),
    };
    // Where every message was a duplicate, none is its own.
    placement.bases.iter().map(place).filter(|place| place.messages > 0).collect()
}

fn waiting(state: &ShardState, id: &TransactionId, prepared: &Prepared) -> TransactionRecord {
    let mut places = Vec::new();
    for publish in &prepared.publishes {
        if let Some(topic) = topic_name(state, publish.topic) {
            places.extend(publish.batches.iter().map(|batch| TransactionPlace {
                topic: topic.clone(),
                partition: batch.partition,
                offset: None,
                messages: batch.rows,
            }));
        }
    }
    let acks = prepared.settles.iter().filter_map(|settle| {
        let settled = settle.partitions.iter().flat_map(|part| &part.settled);
        let messages = settled.map(|(_, count)| u64::from(*count)).sum();
        Some((topic_name(state, settle.topic)?, settle.name.clone(), messages))
    });
    let known =
        PreparedRecord { created_ms: prepared.created_ms, prepare: prepared.prepare.clone(), acks: acks.collect() };
    TransactionRecord { id: id.clone(), fate: Fate::Prepared, decided_ms: None, prepared: Some(known), places }
}
