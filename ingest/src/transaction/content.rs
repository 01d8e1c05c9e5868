//! What a transaction says: its messages, encoded, and whether another one says the same.

use std::{collections::BTreeSet, sync::Arc};

use brigade_index::{
    command::{Command, Fate, IdempotentRequest, Placement, Publish},
    ids::{Offset, TopicId},
    limits::MAX_MESSAGES_PER_PUBLISH,
    shard::ProposeError,
    state::{BatchLocation, Prepared},
};
use bytes::Bytes;

use super::{MAX_PARTS, MAX_RECEIPTS, MAX_TOPICS, PART_BYTES, TransactionDraft, TransactionState};
use crate::{
    Admission, Draft, IngestError, MAX_REQUEST_BYTES, TransactionError,
    cache::BatchCache,
    flush::{SentBatch, encode_flush},
    open::{Flush, Request},
    placement::{Places, Route, replay},
    service::PublishReply,
};

/// Refuses what no transaction may be, and makes room for it.
pub(super) fn check(draft: &TransactionDraft, admission: &mut Admission) -> Result<(), IngestError> {
    let parts = draft.publishes.iter().map(|publish| publish.parts.len()).sum();
    let receipts = draft.acks.iter().map(|(_, receipts)| receipts.len()).sum();
    let most = [
        ("topics", draft.publishes.len(), MAX_TOPICS),
        ("subscriptions", draft.acks.len(), MAX_TOPICS),
        ("messages", draft.messages(), MAX_MESSAGES_PER_PUBLISH),
        ("partitions", parts, MAX_PARTS),
        ("receipts", receipts, MAX_RECEIPTS),
    ];
    for (what, count, limit) in most {
        if count > limit {
            return Err(TransactionError::TooMany { what, count, limit }.into());
        }
    }
    let mut topics = BTreeSet::new();
    for publish in &draft.publishes {
        if !topics.insert(publish.topic) {
            return Err(TransactionError::Twice(format!("topic {}", publish.name)).into());
        }
    }
    let bytes = draft.bytes();
    if bytes > MAX_REQUEST_BYTES {
        return Err(IngestError::TooLarge { bytes, limit: MAX_REQUEST_BYTES });
    }
    admission.cover(bytes + parts * PART_BYTES)
}

/// The messages of one draft, as far as it is needed to say where they are.
#[derive(Debug)]
pub(super) struct Sent {
    topic: TopicId,
    routes: Vec<Route>,
}

/// Takes drafts apart: what is encoded, and what is kept to answer.
pub(super) fn take_apart(drafts: Vec<Draft>) -> (Vec<Request<()>>, Vec<Sent>) {
    let mut requests = Vec::with_capacity(drafts.len());
    let apart = drafts.into_iter().map(|mut draft| {
        let identity = draft.request();
        let Draft { name, topic, settings, parts, routes, .. } = draft;
        if !parts.is_empty() {
            let compression = settings.compression;
            requests.push(Request { name, topic, compression, parts, identity, waiting: () });
        }
        Sent { topic, routes }
    });
    let sent = apart.collect();
    (requests, sent)
}

/// Batches of a transaction on their way.
pub(super) struct Encoded {
    pub(super) publishes: Vec<Publish>,
    pub(super) body: Vec<Bytes>,
    batches: Vec<SentBatch>,
}

pub(super) fn encode(requests: Vec<Request<()>>) -> Result<Encoded, IngestError> {
    let (encoded, problem) = encode_flush(Flush::of(requests));
    if let Some(problem) = problem {
        tracing::error!(error = %problem, "a batch of a transaction could not be encoded");
        return Err(ProposeError::Unavailable(problem.to_string()).into());
    }
    let publish = |command| match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    };
    let publishes = encoded.commands.into_iter().filter_map(publish).collect();
    let batches = encoded.topics.into_iter().flat_map(|topic| topic.batches).collect();
    Ok(Encoded { publishes, body: encoded.body, batches })
}

impl Encoded {
    /// Keeps its batches for readers, from `place` on. Those of a prepared transaction are read once it is committed, from
    /// the same place.
    pub(super) fn keep(batches: Vec<SentBatch>, place: (brigade_index::ids::Sequence, u64), cache: &BatchCache) {
        let (sequence, body_at) = place;
        for SentBatch { at, crc, bytes, .. } in batches {
            let location = BatchLocation { sequence, at: body_at + at, len: bytes.len() as u32, crc };
            cache.published(location, bytes);
        }
    }

    pub(super) fn take_batches(&mut self) -> Vec<SentBatch> {
        std::mem::take(&mut self.batches)
    }
}

/// Where each message is that was sent; `None` when other messages were stored under the id.
fn place(sent: &[Sent], placements: &[(TopicId, Arc<Placement>)]) -> Option<Vec<Places>> {
    let used = sent.iter().filter(|sent| !sent.routes.is_empty()).count();
    let of = |sent: &Sent| {
        if sent.routes.is_empty() {
            return Some(Places::default());
        }
        let (_, placement) = placements.iter().find(|(topic, _)| *topic == sent.topic)?;
        replay(&sent.routes, placement)
    };
    if used == placements.len() { sent.iter().map(of).collect() } else { None }
}

/// What became of a transaction with these messages.
pub(super) fn state_of(sent: &[Sent], fate: &Fate) -> Result<TransactionState, IngestError> {
    match fate {
        Fate::Prepared => Ok(TransactionState::Prepared),
        Fate::RolledBack => Ok(TransactionState::RolledBack),
        Fate::Committed(placements) => {
            let places = place(sent, placements).ok_or(IngestError::IdentityReused)?;
            let replies = places.into_iter().map(|places| PublishReply::new(places, false));
            Ok(TransactionState::Committed(replies.collect()))
        }
    }
}

/// Whether a prepared transaction has these messages, as far as that shows.
pub(super) fn is_same(sent: &[Sent], prepared: &Prepared) -> bool {
    let placement = |publish: &Publish| {
        let request: &IdempotentRequest = publish.requests.first()?;
        let bases = publish.batches.iter().map(|batch| (batch.partition, Offset(0), batch.rows)).collect();
        let (partition_count, keyless) = (request.partition_count, request.keyless);
        Some((publish.topic, Arc::new(Placement { partition_count, keyless, bases, duplicates: Vec::new() })))
    };
    let placements: Option<Vec<_>> = prepared.publishes.iter().map(placement).collect();
    placements.is_some_and(|placements| place(sent, &placements).is_some())
}
