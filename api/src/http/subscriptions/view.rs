//! Subscriptions as clients see them.

use brigade_index::{
    command::{Expired, PushSettings, QueueSettings},
    ids::{Offset, Partition},
    names::{SubscriptionName, TopicName},
    state::{PartitionLog, Queue, Subscription, Topic},
};
use futures::{StreamExt, future, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::{no_subscription, place::committed, settings::fair_by};
use crate::{
    http::{error::ApiError, topics::not_found},
    serve::Leading,
    settings::redact_url,
};

/// Queues of a list that are asked at once.
const ASKED: usize = 64;

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SubscriptionView {
    name: String,
    /// `stream` or `queue`.
    kind: &'static str,
    topic: String,
    /// Milliseconds since the Unix epoch.
    created_ms: i64,
    /// Of a stream: its committed positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<Vec<PositionView>>,
    /// Messages that are not committed yet, or not settled, of all partitions.
    lag: u64,
    /// Of a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<SettingsView>,
    /// Of a queue: how far each partition is settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<SettledView>>,
    /// Of a queue: messages that are delivered under a receipt which is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    /// Of a queue: messages that are not ready yet, as far as they have been looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<u64>,
    /// Of a queue: messages acknowledged by transactions that are not decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<u64>,
    /// Of a queue: dead letters that are kept with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<u64>,
}

/// A committed position.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct PositionView {
    partition: u32,
    /// The next offset to be read.
    offset: u64,
    high_watermark: u64,
    /// Messages that are not committed yet.
    lag: u64,
}

/// How far a partition is settled.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::http) struct SettledView {
    partition: u32,
    /// Everything before this offset is settled.
    floor: u64,
    /// Messages from there on that are not settled.
    unsettled: u64,
    high_watermark: u64,
}

/// Settings of a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SettingsView {
    visibility_timeout_ms: u32,
    max_deliveries: u32,
    dead_letter_topic: Option<String>,
    ordered: bool,
    fair_by: Option<String>,
    expired: &'static str,
    retry_delay_ms: u32,
    filter: Option<String>,
    push: Option<PushView>,
}

/// Where messages are pushed to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct PushView {
    /// The URL without its query, which may hold a secret.
    url: String,
    /// In the answer to the request that set it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    timeout_ms: u32,
    max_in_flight: u32,
    max_per_second: u32,
    backoff_min_ms: u32,
    backoff_max_ms: u32,
}

/// All subscriptions of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SubscriptionList {
    subscriptions: Vec<SubscriptionView>,
}

/// A subscription as it is now.
pub(super) async fn of(
    node: &Leading,
    topic: &TopicName,
    name: &SubscriptionName,
) -> Result<SubscriptionView, ApiError> {
    let view = {
        let state = node.shard.state();
        let topic = state.topic_named(topic).ok_or_else(|| not_found(topic))?;
        let subscription = topic.subscriptions.get(name).ok_or_else(|| no_subscription(name))?;
        SubscriptionView::new(topic, name, subscription)
    };
    view.counted(node, topic, name).await
}

/// All subscriptions of a topic as they are now.
pub(super) async fn all(node: &Leading, topic: &TopicName) -> Result<SubscriptionList, ApiError> {
    let views: Vec<_> = {
        let state = node.shard.state();
        let topic = state.topic_named(topic).ok_or_else(|| not_found(topic))?;
        let view = |(name, subscription): (&SubscriptionName, &Subscription)| {
            (name.clone(), SubscriptionView::new(topic, name, subscription))
        };
        topic.subscriptions.iter().map(view).collect()
    };
    // Each asks the task of a queue, which may be busy. One that was deleted meanwhile is left out.
    let counted = views.into_iter().map(|(name, view)| async move { view.counted(node, topic, &name).await.ok() });
    let subscriptions = stream::iter(counted).buffered(ASKED).filter_map(future::ready).collect().await;
    Ok(SubscriptionList { subscriptions })
}

impl SubscriptionView {
    fn new(topic: &Topic, name: &SubscriptionName, subscription: &Subscription) -> Self {
        let view = Self {
            name: name.to_string(),
            kind: subscription.kind_name(),
            topic: topic.name.to_string(),
            created_ms: subscription.created_ms,
            positions: None,
            lag: 0,
            settings: None,
            partitions: None,
            in_flight: None,
            delayed: None,
            held: None,
            dead_letters: None,
        };
        match subscription.queue() {
            Some(queue) => view.of_queue(topic, queue),
            None => view.of_stream(topic, subscription),
        }
    }

    fn of_stream(self, topic: &Topic, subscription: &Subscription) -> Self {
        let position = |((partition, log), offset): ((u32, &PartitionLog), Offset)| {
            let high_watermark = log.high_watermark.0;
            PositionView { partition, offset: offset.0, high_watermark, lag: high_watermark.saturating_sub(offset.0) }
        };
        let partitions = (0..).zip(&topic.partitions).zip(committed(topic, subscription));
        let positions: Vec<_> = partitions.map(position).collect();
        let lag = positions.iter().map(|position| position.lag).sum();
        Self { positions: Some(positions), lag, ..self }
    }

    fn of_queue(self, topic: &Topic, queue: &Queue) -> Self {
        let partitions: Vec<_> =
            (0..).zip(&topic.partitions).map(|(number, log)| settled(queue, number, log)).collect();
        let lag = partitions.iter().map(|partition| partition.unsettled).sum();
        let settings = Some(SettingsView::from(&*queue.settings));
        Self { lag, settings, partitions: Some(partitions), ..self }
    }

    /// With what only the task of a queue knows.
    async fn counted(self, node: &Leading, topic: &TopicName, name: &SubscriptionName) -> Result<Self, ApiError> {
        if self.settings.is_none() {
            return Ok(self);
        }
        let counts = node.ingest.queue(topic, name)?.counts().await?;
        Ok(Self {
            in_flight: Some(counts.in_flight),
            delayed: Some(counts.delayed),
            held: Some(counts.held),
            dead_letters: Some(counts.dead_letters),
            ..self
        })
    }

    /// With the secret that the request has set, if it has.
    pub(super) fn with_secret(mut self, secret: Option<String>) -> Self {
        if let Some(push) = self.settings.as_mut().and_then(|settings| settings.push.as_mut()) {
            push.secret = secret;
        }
        self
    }
}

fn settled(queue: &Queue, number: u32, log: &PartitionLog) -> SettledView {
    let (floor, unsettled) = match queue.partition(Partition(number)) {
        Some(partition) => (partition.floor(), partition.unsettled(log.high_watermark)),
        // Added since anything was settled.
        None => (log.log_start, log.messages()),
    };
    SettledView { partition: number, floor: floor.0, unsettled, high_watermark: log.high_watermark.0 }
}

impl From<&QueueSettings> for SettingsView {
    fn from(settings: &QueueSettings) -> Self {
        Self {
            visibility_timeout_ms: settings.visibility_timeout_ms,
            max_deliveries: settings.max_deliveries,
            dead_letter_topic: settings.dead_letter_topic.as_ref().map(ToString::to_string),
            ordered: settings.ordered,
            fair_by: fair_by(&settings.fairness),
            expired: match settings.expired {
                Expired::Drop => "drop",
                Expired::DeadLetter => "dead_letter",
            },
            retry_delay_ms: settings.retry_delay_ms,
            filter: settings.filter.clone(),
            push: settings.push.as_ref().map(PushView::from),
        }
    }
}

impl From<&PushSettings> for PushView {
    fn from(push: &PushSettings) -> Self {
        let PushSettings { url, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms, .. } = push;
        Self {
            url: redact_url(url),
            secret: None,
            timeout_ms: *timeout_ms,
            max_in_flight: *max_in_flight,
            max_per_second: *max_per_second,
            backoff_min_ms: *backoff_min_ms,
            backoff_max_ms: *backoff_max_ms,
        }
    }
}
