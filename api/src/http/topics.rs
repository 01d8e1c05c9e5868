//! Topics: creating, describing, changing, deleting, listing.

pub(super) mod files;
mod settings;

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    command::{Applied, Command, Rejection, SettingsPatch, TopicSettings},
    ids::TopicId,
    names::TopicName,
    shard::ProposeError,
    state::{PartitionLog, Topic},
};
use brigade_ingest::IngestError;
use http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use self::settings::SettingsView;
pub(super) use self::{files::FilePage, settings::TopicBody};
use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    params::ListParams,
};
use crate::serve::Leading;

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicView {
    name: String,
    /// Identity; another topic that gets the same name later has another one.
    id: u64,
    /// Milliseconds since the Unix epoch.
    created_ms: i64,
    settings: SettingsView,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<PartitionView>>,
    /// In lists: messages of all partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    /// In lists: bytes of all partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartitionView {
    partition: u32,
    /// First offset that can be read.
    log_start: u64,
    /// Messages before this offset are in the archive, later ones in the journal.
    archived_end: u64,
    /// Offset after the last message.
    high_watermark: u64,
    /// Messages that can be read.
    messages: u64,
    /// Bytes of keys, values and headers published.
    bytes: u64,
    /// Archive files.
    files: u64,
    /// Bytes of archive files, in each region that has them.
    archived_bytes: u64,
    /// Bytes of archive files and of batches in the journal, in each region that has them: what `retention_bytes` bounds.
    stored_bytes: u64,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicPage {
    topics: Vec<TopicView>,
    /// The name after which the next page begins; `null` at the end.
    next: Option<String>,
}

impl TopicView {
    fn without_state(topic: &Topic) -> Self {
        let settings = SettingsView::from(&*topic.settings);
        let (name, id) = (topic.name.to_string(), topic.id.0);
        Self { name, id, created_ms: topic.created_ms, settings, partitions: None, messages: None, bytes: None }
    }

    fn described(topic: &Topic) -> Self {
        let partition = |(number, log): (u32, &PartitionLog)| PartitionView {
            partition: number,
            log_start: log.log_start.0,
            archived_end: log.archived_end().0,
            high_watermark: log.high_watermark.0,
            messages: log.messages(),
            bytes: log.bytes,
            files: log.files().len() as u64,
            archived_bytes: log.files().iter().map(|file| file.bytes).sum(),
            stored_bytes: log.stored_bytes(),
        };
        Self { partitions: Some((0..).zip(&topic.partitions).map(partition).collect()), ..Self::without_state(topic) }
    }

    fn listed(topic: &Topic) -> Self {
        let messages = topic.partitions.iter().map(PartitionLog::messages).sum();
        let bytes = topic.partitions.iter().map(|log| log.bytes).sum();
        Self { messages: Some(messages), bytes: Some(bytes), ..Self::without_state(topic) }
    }
}

/// `PUT /v1/topics/{topic}`
pub(super) async fn create(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let name = call.topic()?;
    call.query()?.finish()?;
    let settings = TopicSettings::default().patched(&settings_of(&node, call).await?);
    if let Some(problem) = settings.problem() {
        return Err(settings::invalid(problem));
    }
    if let Some(existing) = existing(&node, &name, &settings) {
        return existing;
    }
    let command = Command::CreateTopic { name: name.clone(), settings: settings.clone() };
    match apply(&node, command).await? {
        Ok(_) => describe(&node, &name, StatusCode::CREATED),
        // Somebody was faster.
        Err(Rejection::TopicExists(_)) => existing(&node, &name, &settings)
            .unwrap_or_else(|| Err(ApiError::new(kinds::TOPIC_EXISTS, "the topic exists with other settings"))),
        Err(rejection) => Err(rejection.into()),
    }
}

/// The answer to creating a topic that exists, if it does.
fn existing(node: &Leading, name: &TopicName, settings: &TopicSettings) -> Option<Result<Response, ApiError>> {
    let state = node.shard.state();
    let topic = state.topic_named(name)?;
    if *topic.settings == *settings {
        return Some(answer::value(StatusCode::OK, &TopicView::described(topic)));
    }
    Some(Err(ApiError::new(kinds::TOPIC_EXISTS, format!("the topic {name} exists with other settings"))))
}

/// `GET /v1/topics/{topic}`
pub(super) async fn get(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    describe(&node, &call.topic()?, StatusCode::OK)
}

/// `PATCH /v1/topics/{topic}`
pub(super) async fn alter(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let name = call.topic()?;
    call.query()?.finish()?;
    let patch = settings_of(&node, call).await?;
    let (topic, changes) = {
        let state = node.shard.state();
        let topic = state.topic_named(&name).ok_or_else(|| not_found(&name))?;
        (topic.id, topic.settings.patched(&patch) != *topic.settings)
    };
    if changes {
        apply(&node, Command::AlterTopic { topic, patch }).await?.map_err(|rejection| match rejection {
            Rejection::InvalidSettings(problem) => settings::invalid(problem),
            other => other.into(),
        })?;
    }
    describe(&node, &name, StatusCode::OK)
}

/// `DELETE /v1/topics/{topic}`
pub(super) async fn delete(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let topic = topic_id(&node, &call.topic()?)?;
    apply(&node, Command::DeleteTopic { topic }).await??;
    Ok(answer::empty())
}

/// `GET /v1/topics`
pub(super) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let params = ListParams::take(call.query()?)?;
    let after = params.after.as_deref().map(TopicName::new).transpose()?;
    let page = {
        let state = node.shard.state();
        let prefix = params.prefix.as_ref();
        let mut found = state
            .topics_by_name(after.as_ref())
            .skip_while(|topic| topic.name.as_str() < prefix)
            .take_while(|topic| topic.name.as_str().starts_with(prefix));
        let topics: Vec<_> = found.by_ref().take(params.limit).map(TopicView::listed).collect();
        let next = found.next().and(topics.last()).map(|last| last.name.clone());
        TopicPage { topics, next }
    };
    answer::value(StatusCode::OK, &page)
}

async fn settings_of(node: &Leading, call: Call) -> Result<SettingsPatch, ApiError> {
    let Call { parts, body, .. } = call;
    body::document::<TopicBody>(body, &parts.headers, body_time(node)).await?.patch()
}

/// Longest time for a request's body.
pub(super) fn body_time(node: &Leading) -> Duration {
    Duration::from_millis(node.settings.http.body_timeout_ms)
}

pub(super) fn not_found(name: &TopicName) -> ApiError {
    IngestError::TopicNotFound(name.clone()).into()
}

pub(super) fn topic_id(node: &Leading, name: &TopicName) -> Result<TopicId, ApiError> {
    let id = node.shard.state().topic_named(name).map(|topic| topic.id);
    id.ok_or_else(|| not_found(name))
}

fn describe(node: &Leading, name: &TopicName, status: StatusCode) -> Result<Response, ApiError> {
    let view = node.shard.state().topic_named(name).map(TopicView::described);
    answer::value(status, &view.ok_or_else(|| not_found(name))?)
}

/// Commits one command and says what came of it.
pub(super) async fn apply(node: &Leading, command: Command) -> Result<Applied, ApiError> {
    let limit = Duration::from_millis(node.settings.publish.request_timeout_ms);
    let committed = match timeout(limit, node.shard.propose(vec![command])).await {
        Ok(committed) => committed,
        Err(_) => Err(ProposeError::Unknown(format!("no answer within {limit:?}"))),
    };
    let mut committed = committed.map_err(|error| match error {
        ProposeError::Unknown(_) => {
            let hint = "look whether it took effect, or simply repeat the request";
            ApiError { hint: hint.into(), ..error.into() }
        }
        other => other.into(),
    })?;
    committed.outcomes.pop().ok_or_else(|| ApiError::new(kinds::INTERNAL, "a command had no outcome"))
}
