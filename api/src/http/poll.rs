//! Receiving from a subscription: of a stream by poll and commit, of a queue by poll and what `http/queue.rs` has.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    command::{Command, Outcome, Rejection},
    ids::{Offset, Partition},
    names::{MemberName, SubscriptionName, TopicName},
};
use brigade_ingest::{Ingest, PendingCommit, PollReply, PollRequest, Turn};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    members::epoch,
    params::{MAX_WAIT_MS, READ_BYTES, READ_MESSAGES, milliseconds, within},
    queue,
    read::slices,
    subscriptions::{Position, committed, distinct, kind_of, names, no_subscription},
    topics::{apply, body_time, not_found, topic_id},
};
use crate::{serve::Leading, wire::encode_poll};

/// Messages of a poll when the client does not say how many: few, since it will process them one by one.
pub(super) const POLL_MESSAGES: u64 = 10;

/// What to receive.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PollBody {
    /// Most messages; 10 by default. Of a queue at most 1000.
    pub(super) max_messages: Option<u64>,
    /// Most bytes of keys, values and headers; 1 MiB by default. One message is returned even if it is larger.
    pub(super) max_bytes: Option<u64>,
    /// How long to wait when there is no message, in milliseconds; 0 by default, at most 60000.
    pub(super) wait_ms: Option<u64>,
    /// Of a stream: read on from here instead of the committed positions.
    pub(super) positions: Option<Vec<Position>>,
    /// Of a queue: how long the receipts are good, 1 to 43200000; by default as the subscription says.
    pub(super) visibility_timeout_ms: Option<u64>,
    /// Of a stream: read only what is assigned to this member. Counts as its heartbeat, waits for half its session at most, and ends
    /// early, without messages, when its assignment changes. Without it all partitions are read: then consumers have to
    /// share them out themselves.
    pub(super) member: Option<String>,
}

/// Positions to commit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitBody {
    positions: Vec<CommitPosition>,
    /// Commit only if all of these partitions are assigned to this member. Counts as its heartbeat. Without it anybody
    /// commits anything, as an operator may have to.
    member: Option<String>,
}

/// A position to commit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitPosition {
    partition: u32,
    /// The next offset to be read.
    offset: u64,
    /// With a member: commit only if this is still its ownership of the partition.
    epoch: Option<String>,
}

/// Committed positions of all partitions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Positions {
    positions: Vec<Position>,
}

/// `POST /v1/topics/{topic}/subscriptions/{subscription}/poll`
pub(super) async fn poll(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let body: PollBody = body::document(body, &parts.headers, body_time(&node)).await?;
    if kind_of(&node, &topic, &name)? == "queue" {
        return queue::poll(&node, (&topic, &name), &body, &parts.extensions).await;
    }
    if body.visibility_timeout_ms.is_some() {
        return Err(ApiError::parameter("visibility_timeout_ms", "is of queues; this subscription is a stream"));
    }
    let asked = body.positions.as_deref().unwrap_or_default();
    // Names the topic or subscription that is missing.
    let mut positions = self::positions(&node, &topic, &name, asked)?;
    let reader = match &body.member {
        None => Reader::Anybody(&node.ingest),
        Some(member) => {
            let named: Vec<_> = asked.iter().map(|position| Partition(position.partition)).collect();
            let turn = node.ingest.members(&topic, &name)?.turn(&MemberName::new(member)?, &named)?;
            positions = self::positions(&node, &topic, &name, asked)?;
            Reader::Member(turn)
        }
    };
    let request = PollRequest {
        topic,
        positions,
        only: None,
        max_messages: within("max_messages", body.max_messages, (POLL_MESSAGES, READ_MESSAGES.1), 1)?,
        max_bytes: within("max_bytes", body.max_bytes, READ_BYTES, 1)?,
        wait: milliseconds("wait_ms", body.wait_ms, (0, MAX_WAIT_MS), 0)?,
    };
    let reply = poll_or_stop(&node, &reader, request).await?;
    let next = reply.positions.iter().map(|(partition, offset)| (partition.0, offset.0));
    let next: Vec<_> = next.collect();
    Ok(answer::json(StatusCode::OK, encode_poll(&slices(reply.slices), next.into_iter())))
}

/// Where each partition is read on: at its committed position, unless the client says otherwise.
pub(super) fn positions(
    node: &Leading,
    topic: &TopicName,
    name: &SubscriptionName,
    asked: &[Position],
) -> Result<Vec<Offset>, ApiError> {
    let state = node.shard.state();
    let topic = state.topic_named(topic).ok_or_else(|| not_found(topic))?;
    let subscription = topic.subscriptions.get(name).ok_or_else(|| no_subscription(name))?;
    if subscription.stream().is_none() {
        return Err(Rejection::WrongKind(subscription.kind_name()).into());
    }
    let mut positions = committed(topic, subscription);
    for (partition, offset) in distinct(asked)? {
        let log = topic.partition(partition).ok_or(Rejection::PartitionNotFound(partition))?;
        let (log_start, high_watermark) = (log.log_start, log.high_watermark);
        if offset > high_watermark {
            return Err(Rejection::InvalidPosition { partition, offset, log_start, high_watermark }.into());
        }
        // Who reads on is moved by retention as the committed positions are.
        positions[partition.0 as usize] = offset.max(log_start);
    }
    Ok(positions)
}

/// For whom messages are read.
enum Reader<'a> {
    Anybody(&'a Ingest),
    Member(Turn),
}

impl Reader<'_> {
    async fn poll(&self, request: PollRequest) -> Result<PollReply, ApiError> {
        match self {
            Self::Anybody(ingest) => Ok(ingest.poll(request).await?),
            Self::Member(turn) => Ok(turn.poll(request).await?),
        }
    }
}

/// Polls; a wait ends early when the node shuts down, with what there is.
async fn poll_or_stop(node: &Leading, reader: &Reader<'_>, request: PollRequest) -> Result<PollReply, ApiError> {
    if request.wait.is_zero() {
        return reader.poll(request).await;
    }
    let at_once = PollRequest { wait: Duration::ZERO, ..request.clone() };
    tokio::select! {
        biased;
        reply = reader.poll(request) => reply,
        () = node.draining.cancelled() => reader.poll(at_once).await,
    }
}

/// `POST /v1/topics/{topic}/subscriptions/{subscription}/commit`
pub(super) async fn commit(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let body: CommitBody = body::document(body, &parts.headers, body_time(&node)).await?;
    let plain = |position: &CommitPosition| Position { partition: position.partition, offset: position.offset };
    let positions = distinct(&body.positions.iter().map(plain).collect::<Vec<_>>())?;
    // Names the topic or subscription that is missing, and answers an empty commit without a write.
    let before = self::positions(&node, &topic, &name, &[])?;
    // Held until the answer is known: nobody else is given these partitions before.
    let _pending = pending(&node, (&topic, &name), &body)?;
    if positions.is_empty() {
        return answer::value(StatusCode::OK, &view(&before));
    }
    let topic = topic_id(&node, &topic)?;
    match apply(&node, Command::CommitPositions { topic, name, positions, seek: false }).await?? {
        Outcome::Positions(positions) => answer::value(StatusCode::OK, &view(&positions)),
        _ => Err(ApiError::new(kinds::INTERNAL, "a commit had the outcome of another command")),
    }
}

/// Makes sure that a member may commit what it wants to.
fn pending(
    node: &Leading,
    (topic, name): (&TopicName, &SubscriptionName),
    body: &CommitBody,
) -> Result<Option<PendingCommit>, ApiError> {
    let owned = |position: &CommitPosition| {
        let epoch = position.epoch.as_deref().map(epoch).transpose()?;
        Ok((Partition(position.partition), epoch))
    };
    let owned = body.positions.iter().map(owned).collect::<Result<Vec<_>, ApiError>>()?;
    match &body.member {
        Some(member) => Ok(Some(node.ingest.members(topic, name)?.commit(&MemberName::new(member)?, &owned)?)),
        None if owned.iter().any(|(_, epoch)| epoch.is_some()) => {
            Err(ApiError::new(kinds::INVALID_EPOCH, "an epoch is named, and no member whose it is"))
        }
        None => Ok(None),
    }
}

fn view(positions: &[Offset]) -> Positions {
    let position = |(partition, offset): (u32, &Offset)| Position { partition, offset: offset.0 };
    Positions { positions: (0..).zip(positions).map(position).collect() }
}
