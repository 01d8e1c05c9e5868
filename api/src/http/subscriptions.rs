//! Subscriptions: creating, describing, changing, moving, deleting. Receiving is in `http/poll.rs`, settling what a queue
//! delivered in `http/queue.rs`.

mod place;
mod settings;
mod view;

use std::sync::Arc;

use axum::response::Response;
use brigade_index::{
    command::{Command, QueuePatch, QueueSettings, Rejection},
    ids::{Offset, Partition, TopicId},
    names::{SubscriptionName, TopicName},
};
use http::StatusCode;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    topics::{apply, body_time, not_found, topic_id},
};
use crate::serve::Leading;

pub(super) use place::{Position, committed, distinct};
pub(super) use settings::SubscriptionBody;
pub(super) use view::{SubscriptionList, SubscriptionView};

use self::{
    place::{Seek, Start, resolve},
    settings::Given,
};

/// `PUT /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn create(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let body: SubscriptionBody = body::document(body, &parts.headers, body_time(&node)).await?;
    if body.seek.is_some() {
        return Err(ApiError::new(kinds::INVALID_SETTINGS, "seek moves a subscription that exists; use start"));
    }
    let start = body.start.unwrap_or(Start::Earliest);
    match body.kind.as_deref() {
        None | Some("stream") => {
            body.none_of_a_stream()?;
            create_stream(&node, &topic, name, start).await
        }
        Some("queue") => {
            let new = body.apply(&QueueSettings::default(), &node)?;
            create_queue(&node, &topic, name, start, new).await
        }
        Some(kind) => {
            let problem = format!("kind is {kind:?}; there are \"stream\" and \"queue\"");
            Err(ApiError::new(kinds::INVALID_JSON, problem))
        }
    }
}

/// Where a new subscription begins. One that begins at the log start begins there when it is created, however far retention
/// has moved that by then: it needs no positions.
async fn begin(node: &Leading, topic: TopicId, start: Start) -> Result<Vec<(Partition, Offset)>, ApiError> {
    match start {
        Start::Earliest => Ok(Vec::new()),
        Start::Latest | Start::Timestamp(_) => resolve(node, topic, &start.into()).await,
    }
}

async fn create_stream(
    node: &Leading,
    topic: &TopicName,
    name: SubscriptionName,
    start: Start,
) -> Result<Response, ApiError> {
    if let Some(existing) = existing(node, topic, &name, "stream").await? {
        return Ok(existing);
    }
    let id = topic_id(node, topic)?;
    let positions = begin(node, id, start).await?;
    match apply(node, Command::CreateSubscription { topic: id, name: name.clone(), positions }).await? {
        Ok(_) => answer::value(StatusCode::CREATED, &view::of(node, topic, &name).await?),
        Err(rejection) => faster(node, topic, &name, "stream", rejection).await,
    }
}

async fn create_queue(
    node: &Leading,
    topic: &TopicName,
    name: SubscriptionName,
    start: Start,
    new: Given,
) -> Result<Response, ApiError> {
    if let Some(existing) = existing(node, topic, &name, "queue").await? {
        differs(node, topic, &name, &new.patch)?;
        return Ok(existing);
    }
    let id = topic_id(node, topic)?;
    let positions = begin(node, id, start).await?;
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&node.env.entropy.next_u64().to_be_bytes());
    }
    let patch = new.patch;
    let command = Command::CreateQueue { topic: id, name: name.clone(), settings: new.settings, secret, positions };
    match apply(node, command).await? {
        Ok(_) => {
            let view = view::of(node, topic, &name).await?.with_secret(new.secret);
            answer::value(StatusCode::CREATED, &view)
        }
        Err(rejection) => {
            let existing = faster(node, topic, &name, "queue", rejection).await?;
            differs(node, topic, &name, &patch)?;
            Ok(existing)
        }
    }
}

/// Refuses to create a queue that exists with other settings than those that are named. The secret of pushes is not compared:
/// one that is not named is drawn anew each time.
fn differs(node: &Leading, topic: &TopicName, name: &SubscriptionName, patch: &QueuePatch) -> Result<(), ApiError> {
    let state = node.shard.state();
    let found = state.topic_named(topic).and_then(|topic| topic.subscriptions.get(name)?.queue());
    let Some(present) = found.map(|queue| queue.settings.as_ref()) else { return Ok(()) };
    let mut asked = present.patched(patch);
    if let (Some(asked), Some(present)) = (&mut asked.push, &present.push) {
        asked.secret.clone_from(&present.secret);
    }
    if asked == *present {
        return Ok(());
    }
    let problem = format!("the subscription {name} exists with other settings");
    Err(ApiError::new(kinds::SUBSCRIPTION_EXISTS, problem))
}

/// The answer to creating a subscription that exists, if it does.
async fn existing(
    node: &Leading,
    topic: &TopicName,
    name: &SubscriptionName,
    kind: &str,
) -> Result<Option<Response>, ApiError> {
    match kind_of(node, topic, name) {
        Ok(found) if found == kind => answer::value(StatusCode::OK, &view::of(node, topic, name).await?).map(Some),
        Ok(found) => {
            let problem = format!("the subscription {name} exists and is of kind {found}");
            Err(ApiError::new(kinds::SUBSCRIPTION_EXISTS, problem))
        }
        // Whether the topic exists shows when the subscription is created.
        Err(_) => Ok(None),
    }
}

/// The answer when a subscription was not created: perhaps somebody else did it meanwhile.
async fn faster(
    node: &Leading,
    topic: &TopicName,
    name: &SubscriptionName,
    kind: &str,
    rejection: Rejection,
) -> Result<Response, ApiError> {
    if rejection == Rejection::SubscriptionExists
        && let Some(existing) = existing(node, topic, name, kind).await?
    {
        return Ok(existing);
    }
    Err(rejection.into())
}

/// `GET /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn get(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    answer::value(StatusCode::OK, &view::of(&node, &topic, &name).await?)
}

/// `GET /v1/topics/{topic}/subscriptions`
pub(super) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let topic = call.topic()?;
    call.query()?.finish()?;
    answer::value(StatusCode::OK, &view::all(&node, &topic).await?)
}

/// `PATCH /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn alter(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let mut body: SubscriptionBody = body::document(body, &parts.headers, body_time(&node)).await?;
    if body.kind.is_some() || body.start.is_some() {
        let problem = "kind and start are given when a subscription is created; use seek to move it";
        return Err(ApiError::new(kinds::INVALID_SETTINGS, problem));
    }
    if body.seek.is_some() && body.first_setting().is_some() {
        return Err(ApiError::new(kinds::INVALID_SETTINGS, "move the subscription and change its settings one by one"));
    }
    let mut secret = None;
    match (kind_of(&node, &topic, &name)?, body.seek.take()) {
        ("stream", seek) => {
            body.none_of_a_stream()?;
            let seek = seek.ok_or_else(|| ApiError::new(kinds::INVALID_JSON, "missing field `seek`"))?;
            seek_stream(&node, &topic, &name, &seek).await?;
        }
        (_, Some(seek)) => {
            let queue = node.ingest.queue(&topic, &name)?;
            let positions = resolve(&node, topic_id(&node, &topic)?, &seek).await?;
            if !positions.is_empty() {
                queue.seek(positions).await.map_err(|error| ApiError::from(error).repeatable())?;
            }
        }
        (_, None) => secret = alter_queue(&node, &topic, &name, body).await?,
    }
    answer::value(StatusCode::OK, &view::of(&node, &topic, &name).await?.with_secret(secret))
}

async fn seek_stream(node: &Leading, topic: &TopicName, name: &SubscriptionName, seek: &Seek) -> Result<(), ApiError> {
    let topic = topic_id(node, topic)?;
    let positions = resolve(node, topic, seek).await?;
    if !positions.is_empty() {
        apply(node, Command::CommitPositions { topic, name: name.clone(), positions, seek: true }).await??;
    }
    Ok(())
}

/// Changes settings; gives the push secret if that was set.
async fn alter_queue(
    node: &Leading,
    topic: &TopicName,
    name: &SubscriptionName,
    body: SubscriptionBody,
) -> Result<Option<String>, ApiError> {
    let queue = node.ingest.queue(topic, name)?;
    let present = queue.settings()?;
    let given = body.apply(&present, node)?;
    if given.settings != *present {
        queue.alter(given.patch).await.map_err(|error| ApiError::from(error).repeatable())?;
    }
    Ok(given.secret)
}

/// `DELETE /v1/topics/{topic}/subscriptions/{subscription}`
pub(super) async fn delete(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    kind_of(&node, &topic, &name)?;
    let queue = node.ingest.queue(&topic, &name);
    let topic = topic_id(&node, &topic)?;
    apply(&node, Command::DeleteSubscription { topic, name }).await??;
    if let Ok(queue) = queue {
        // What works for it finds it gone and ends.
        queue.begin_again().await;
    }
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

/// What a subscription is.
pub(super) fn kind_of(node: &Leading, topic: &TopicName, name: &SubscriptionName) -> Result<&'static str, ApiError> {
    let state = node.shard.state();
    let topic = state.topic_named(topic).ok_or_else(|| not_found(topic))?;
    let subscription = topic.subscriptions.get(name).ok_or_else(|| no_subscription(name))?;
    Ok(subscription.kind_name())
}
