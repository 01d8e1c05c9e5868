//! Calls about subscriptions of kind `stream`.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{Client, ClientError, Position, REQUEST_TIMEOUT, SeekTo, Subscription, SubscriptionStart};

/// One poll.
#[derive(Clone, Debug, Serialize)]
pub struct PollRequest {
    /// Most messages.
    pub max_messages: u64,
    /// Most bytes of keys, values and headers.
    pub max_bytes: u64,
    /// How long the server may wait for a message, in milliseconds.
    pub wait_ms: u64,
    /// Read on from here instead of the committed positions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
    /// Read only what is assigned to this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
}

/// The answer to a poll.
#[derive(Debug, Deserialize)]
pub struct Polled {
    /// Message objects as the server sent them; see [`super::Message::parse`].
    pub messages: Vec<Box<RawValue>>,
    /// What to commit once these messages are processed: only partitions that had messages.
    pub positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Positions {
    positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
}

impl Client {
    /// Creates a subscription; one that exists is no error and keeps its positions.
    ///
    /// # Errors
    /// Code `topic_not_found`, invalid names; an unreachable server.
    pub async fn create_subscription(
        &self,
        topic: &str,
        name: &str,
        start: SubscriptionStart,
    ) -> Result<Subscription, ClientError> {
        let request = self
            .request(Method::PUT, self.url(&["v1", "topics", topic, "subscriptions", name]))
            .json(&json!({"kind": "stream", "start": start}));
        self.send_for_json(request).await
    }

    /// A subscription with its committed positions and lag.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; an unreachable server.
    pub async fn subscription(&self, topic: &str, name: &str) -> Result<Subscription, ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions", name]);
        self.send_for_json(self.request(Method::GET, url)).await
    }

    /// All subscriptions of a topic.
    ///
    /// # Errors
    /// Code `topic_not_found`; an unreachable server.
    pub async fn subscriptions(&self, topic: &str) -> Result<Vec<Subscription>, ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions"]);
        self.send_for_json::<Subscriptions>(self.request(Method::GET, url)).await.map(|list| list.subscriptions)
    }

    /// Deletes a subscription.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; an unreachable server.
    pub async fn delete_subscription(&self, topic: &str, name: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions", name]);
        self.send(self.request(Method::DELETE, url)).await.map(drop)
    }

    /// Moves a subscription, backwards too.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`, `invalid_position`; an unreachable server.
    pub async fn seek(&self, topic: &str, name: &str, to: &SeekTo) -> Result<Subscription, ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions", name]);
        self.send_for_json(self.request(Method::PATCH, url).json(&json!({"seek": to}))).await
    }

    /// Reads on from the committed (or the given) positions. Commits nothing.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; an unreachable server.
    pub async fn poll(&self, topic: &str, name: &str, poll: &PollRequest) -> Result<Polled, ClientError> {
        let request = self
            .request(Method::POST, self.url(&["v1", "topics", topic, "subscriptions", name, "poll"]))
            .timeout(REQUEST_TIMEOUT + Duration::from_millis(poll.wait_ms))
            .json(poll);
        self.send_for_json(request).await
    }

    /// Commits positions; one below the committed position changes nothing. Returns all committed positions.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`, `invalid_position`; an unreachable server.
    pub async fn commit(&self, topic: &str, name: &str, positions: &[Position]) -> Result<Vec<Position>, ClientError> {
        let request = self
            .request(Method::POST, self.url(&["v1", "topics", topic, "subscriptions", name, "commit"]))
            .json(&json!({"positions": positions}));
        self.send_for_json::<Positions>(request).await.map(|answer| answer.positions)
    }
}
