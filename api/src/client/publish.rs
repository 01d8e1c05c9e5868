//! Publishing, retried under one identity so that nothing is stored twice.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use reqwest::Method;
use serde::Deserialize;

use super::{Client, ClientError, Position, RetryPolicy};

/// Format of a publish body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `{"messages":[…]}`.
    Json,
    /// One message object a line.
    NdJson,
    /// One message: the body is its binary value.
    Bytes,
    /// One message: the body is its text value.
    Text,
    /// An Arrow IPC stream with a column `value`.
    Arrow,
}

impl ContentType {
    /// The media type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Bytes => "application/octet-stream",
            Self::Text => "text/plain",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A publish body.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Its format.
    pub content_type: ContentType,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The identity under which the server recognises a repeated request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishIdentity {
    /// One of a sequence of requests of one producer.
    Producer {
        /// The producer's name.
        id: String,
        /// Number of the request.
        sequence: u64,
    },
    /// A key of its own.
    Key(String),
}

/// An acknowledged publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where each message was stored, in the order sent.
    pub messages: Vec<Position>,
    /// Whether the server had stored this request before, in an earlier try for instance.
    pub duplicate: bool,
    /// How often the request was repeated.
    pub retries: u32,
}

#[derive(Deserialize)]
struct Answer {
    messages: Vec<Position>,
}

impl Client {
    /// Publishes a body, whole or not at all. Repeats it under the same identity when the server is away or busy, or the
    /// outcome of a try is unknown.
    ///
    /// # Errors
    /// What the server refused, or the last try's error when the policy gives up; the body may then have been stored if
    /// the error is [`ClientError::Unreachable`] or the code is `outcome_unknown`.
    pub async fn publish(
        &self,
        topic: &str,
        payload: &Payload,
        identity: &PublishIdentity,
        policy: &RetryPolicy,
    ) -> Result<Published, ClientError> {
        let (published, retries) = self.retry(policy, || self.publish_once(topic, payload, identity)).await?;
        Ok(Published { retries, ..published })
    }

    async fn publish_once(
        &self,
        topic: &str,
        payload: &Payload,
        identity: &PublishIdentity,
    ) -> Result<Published, ClientError> {
        let mut request = self
            .request(Method::POST, self.url(&["v1", "topics", topic, "messages"]))
            .header(CONTENT_TYPE, payload.content_type.as_str())
            .body(payload.bytes.clone());
        request = match identity {
            PublishIdentity::Producer { id, sequence } => {
                request.header("Producer-Id", id).header("Producer-Sequence", *sequence)
            }
            PublishIdentity::Key(key) => request.header("Idempotency-Key", key),
        };
        let response = self.send(request).await?;
        let duplicate = response.headers().get("Brigade-Duplicate").is_some_and(|value| value == "true");
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|e| ClientError::Answer { why: e.to_string() })?;
        Ok(Published { messages: answer.messages, duplicate, retries: 0 })
    }
}
