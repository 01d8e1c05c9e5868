//! Subscriptions of kind `stream`: creating, describing, moving, deleting. Receiving is in `http/poll.rs`.

use std::sync::Arc;

use axum::response::Response;
use brigade_index::{
    command::{Command, Rejection},
    ids::{Offset, Partition, TopicId},
    names::{SubscriptionName, TopicName},
    state::{Subscription, Topic},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    topics::{apply, body_time, not_found, topic_id},
};
use crate::serve::Leading;

/// A subscription as a client creates it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionBody {
    /// `stream`, the default.
    kind: Option<String>,
    /// Where it starts; by default at the earliest message.
    start: Option<Start>,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Start {
    /// At the log start.
    Earliest,
    /// At the high watermark.
    Latest,
    /// At the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
}

/// How a subscription is moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeekBody {
    /// Where to.
    seek: Seek,
}

/// Where a subscription is moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seek {
    /// To the log start.
    Earliest,
    /// To the high watermark.
    Latest,
    /// To the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
    /// To these positions; other partitions stay.
    Positions(Vec<Position>),
}

/// The next offset of a partition.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    pub(super) partition: u32,
    /// The next offset to be read.
    pub(super) offset: u64,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriptionView {
    name: String,
    kind: &'static str,
    topic: String,
    /// Milliseconds since the Unix epoch.
    created_ms: i64,
    positions: Vec<PositionView>,
    /// Messages that are not committed yet, of all partitions.
    lag: u64,
}

/// A committed position.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PositionView {
    partition: u32,
    /// The next offset to be read.
    offset: u64,
    high_watermark: u64,
    /// Messages that are not committed yet.
    lag: u64,
}

/// All subscriptions of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriptionList {
    subscriptions: Vec<SubscriptionView>,
}

impl SubscriptionView {
    fn new(topic: &Topic, name: &SubscriptionName, subscription: &Subscription) -> Self {
        let position = |((partition, log), offset): ((u32, &brigade_index::state::PartitionLog), Offset)| {
            let high_watermark = log.high_watermark.0;
            PositionView { partition, offset: offset.0, high_watermark, lag: high_watermark.saturating_sub(offset.0) }
        };
        let partitions = (0..).zip(&topic.partitions).zip(committed(topic, subscription));
        let positions: Vec<_> = partitions.map(position).collect();
        let lag = positions.iter().map(|position| position.lag).sum();
        let (name, topic) = (name.to_string(), topic.name.to_string());
        Self { name, kind: subscription.kind_name(), topic, created_ms: subscription.created_ms, positions, lag }
    }
}

/// Committed positions of all partitions; those added since the last commit are at their log start.
pub(super) fn committed(topic: &Topic, subscription: &Subscription) -> Vec<Offset> {
    let known = subscription.stream().unwrap_or_default();
    known.iter().copied().chain(topic.partitions.iter().skip(known.len()).map(|log| log.log_start)).collect()
}

/// `PUT /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn create(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let body: SubscriptionBody = body::document(body, &parts.headers, body_time(&node)).await?;
    match body.kind.as_deref() {
        None | Some("stream") => {}
        Some("queue") => return Err(ApiError::new(kinds::KIND_UNAVAILABLE, "this version has no queue subscriptions")),
        Some(kind) => return Err(ApiError::new(kinds::INVALID_JSON, format!("kind is {kind:?}; there is \"stream\""))),
    }
    if let Ok(existing) = view(&node, &topic, &name) {
        return answer::value(StatusCode::OK, &existing);
    }
    let id = topic_id(&node, &topic)?;
    let positions = match body.start.unwrap_or(Start::Earliest) {
        Start::Earliest => resolve(&node, id, &Seek::Earliest).await?,
        Start::Latest => resolve(&node, id, &Seek::Latest).await?,
        Start::Timestamp(timestamp) => resolve(&node, id, &Seek::Timestamp(timestamp)).await?,
    };
    let command = Command::CreateSubscription { topic: id, name: name.clone(), positions };
    let status = match apply(&node, command).await? {
        Ok(_) => StatusCode::CREATED,
        // Somebody was faster.
        Err(Rejection::SubscriptionExists) => StatusCode::OK,
        Err(rejection) => return Err(rejection.into()),
    };
    answer::value(status, &view(&node, &topic, &name)?)
}

/// `GET /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn get(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    answer::value(StatusCode::OK, &view(&node, &topic, &name)?)
}

/// `GET /v1/topics/{topic}/subscriptions`
pub(super) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let topic = call.topic()?;
    call.query()?.finish()?;
    let list = {
        let state = node.shard.state();
        let topic = state.topic_named(&topic).ok_or_else(|| not_found(&topic))?;
        let view = |(name, subscription)| SubscriptionView::new(topic, name, subscription);
        SubscriptionList { subscriptions: topic.subscriptions.iter().map(view).collect() }
    };
    answer::value(StatusCode::OK, &list)
}

/// `PATCH /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn seek(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let SeekBody { seek } = body::document(body, &parts.headers, body_time(&node)).await?;
    view(&node, &topic, &name)?;
    let id = topic_id(&node, &topic)?;
    let positions = resolve(&node, id, &seek).await?;
    if !positions.is_empty() {
        apply(&node, Command::CommitPositions { topic: id, name: name.clone(), positions, seek: true }).await??;
    }
    answer::value(StatusCode::OK, &view(&node, &topic, &name)?)
}

/// `DELETE /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn delete(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    view(&node, &topic, &name)?;
    let topic = topic_id(&node, &topic)?;
    apply(&node, Command::DeleteSubscription { topic, name }).await??;
    Ok(answer::empty())
}

/// Names in the path of a subscription, which takes no parameters.
pub(super) fn names(call: &Call) -> Result<(TopicName, SubscriptionName), ApiError> {
    call.query()?.finish()?;
    Ok((call.topic()?, call.subscription()?))
}

pub(super) fn no_subscription(name: &SubscriptionName) -> ApiError {
    ApiError::new(kinds::SUBSCRIPTION_NOT_FOUND, format!("the topic has no subscription {name}"))
}

fn view(node: &Leading, topic: &TopicName, name: &SubscriptionName) -> Result<SubscriptionView, ApiError> {
    let state = node.shard.state();
    let topic = state.topic_named(topic).ok_or_else(|| not_found(topic))?;
    let subscription = topic.subscriptions.get(name).ok_or_else(|| no_subscription(name))?;
    Ok(SubscriptionView::new(topic, name, subscription))
}

/// Positions that a seek means at present.
async fn resolve(node: &Leading, topic: TopicId, seek: &Seek) -> Result<Vec<(Partition, Offset)>, ApiError> {
    let bounds: Vec<_> = {
        let state = node.shard.state();
        let topic = state.topic(topic).ok_or(Rejection::TopicNotFound)?;
        topic.partitions.iter().map(|log| (log.log_start, log.high_watermark)).collect()
    };
    let partitions = (0..).map(Partition).zip(bounds);
    match seek {
        Seek::Earliest => Ok(partitions.map(|(partition, (start, _))| (partition, start)).collect()),
        Seek::Latest => Ok(partitions.map(|(partition, (_, end))| (partition, end)).collect()),
        Seek::Timestamp(timestamp) if *timestamp < 0 => Err(ApiError::parameter("timestamp", "must not be negative")),
        Seek::Timestamp(timestamp) => {
            let mut positions = Vec::new();
            for (partition, _) in partitions {
                positions.push((partition, node.ingest.offset_at(topic, partition, *timestamp).await?));
            }
            Ok(positions)
        }
        Seek::Positions(positions) => distinct(positions),
    }
}

/// Positions as the shard takes them; none may be named twice.
pub(super) fn distinct(positions: &[Position]) -> Result<Vec<(Partition, Offset)>, ApiError> {
    let mut sorted: Vec<_> =
        positions.iter().map(|position| (Partition(position.partition), Offset(position.offset))).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let problem = format!("partition {} is named twice", pair[0].0);
        return Err(ApiError::new(kinds::INVALID_POSITION, problem));
    }
    Ok(sorted)
}
