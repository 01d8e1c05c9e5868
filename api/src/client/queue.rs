//! Calls about subscriptions of kind `queue`.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{Client, ClientError, REQUEST_TIMEOUT, Subscription, SubscriptionStart, error};

/// Settings of a queue; those left out stay as they are, or take the server's default when the queue is new. `Some(None)`
/// takes a setting away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueSettings {
    /// How long a receipt is good when the poll does not say otherwise, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility_timeout_ms: Option<u32>,
    /// Deliveries after which a message becomes a dead letter; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deliveries: Option<u32>,
    /// Topic that dead letters are published to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<Option<String>>,
    /// Whether messages of one group are delivered strictly one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// Who takes turns: `group` or `header:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fair_by: Option<Option<String>>,
    /// What becomes of messages that expire: `drop` or `dead_letter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
    /// Pause before a message comes again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_delay_ms: Option<u32>,
    /// Which messages are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Option<String>>,
    /// Where messages are pushed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Option<QueuePush>>,
}

/// Where messages are pushed to, and how; what is left out stays as it is or takes the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueuePush {
    /// URL that messages are posted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Secret that posts are signed with; `Some(None)` has a new one made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Option<String>>,
    /// Time that the endpoint has to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Most posts at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Most messages a second; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
    /// Pause before the second attempt, in milliseconds; it doubles from attempt to attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_min_ms: Option<u32>,
    /// Longest pause between attempts, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u32>,
}

/// One poll of a queue.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QueuePoll {
    /// Most messages, up to 1,000.
    pub max_messages: u64,
    /// Most bytes of keys, values and headers.
    pub max_bytes: u64,
    /// How long the server may wait for a message, in milliseconds.
    pub wait_ms: u64,
    /// How long the receipts are good, in milliseconds, if not as the subscription says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility_timeout_ms: Option<u64>,
}

/// What belongs to a message because it was delivered by a queue.
#[derive(Debug, Deserialize)]
pub struct Handed<'a> {
    /// By it the message is settled.
    #[serde(borrow)]
    pub receipt: Cow<'a, str>,
    /// How often it was delivered, this time included.
    pub delivery_count: u32,
}

impl<'a> Handed<'a> {
    /// Parses it out of a message object of a poll.
    ///
    /// # Errors
    /// When the object has no receipt.
    pub fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// What is to become of delivered messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// They are done.
    Ack,
    /// They come again.
    Nack {
        /// After how many milliseconds, if not as the subscription says.
        delay_ms: Option<u64>,
    },
    /// Their receipts are good for so long from now on.
    Extend {
        /// How long, in milliseconds.
        visibility_timeout_ms: u64,
    },
    /// They become dead letters.
    Reject,
}

/// What became of a receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiptResult {
    /// The receipt.
    pub receipt: String,
    /// `acknowledged`, `returned`, `extended` or `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Of one that was extended: the receipt that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_receipt: Option<String>,
    /// Until when that is good, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReceiptRefusal>,
}

/// Why a receipt was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRefusal {
    /// The stable code, for example `receipt_expired`.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub hint: String,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeadLetterPick {
    /// Only those that it matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    /// Of those that are given back so many become ready a second. Not of those that are forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// A page of dead letters.
#[derive(Debug, Deserialize)]
pub struct DeadLetterPage {
    /// Message objects as the server sent them.
    pub messages: Vec<Box<RawValue>>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Delivered {
    messages: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<ReceiptResult>,
}

impl Client {
    fn queue_url(&self, topic: &str, name: &str, rest: &[&str]) -> url::Url {
        self.url(&[&["v1", "topics", topic, "subscriptions", name], rest].concat())
    }

    /// Creates a queue; one that exists is no error and keeps its settings.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_exists` when it is of another kind; wrong settings; an unreachable server.
    pub async fn create_queue(
        &self,
        topic: &str,
        name: &str,
        start: SubscriptionStart,
        settings: &QueueSettings,
    ) -> Result<Subscription, ClientError> {
        #[derive(Serialize)]
        struct Body<'a> {
            kind: &'static str,
            start: SubscriptionStart,
            #[serde(flatten)]
            settings: &'a QueueSettings,
        }
        let body = Body { kind: "queue", start, settings };
        self.send_for_json(self.request(Method::PUT, self.queue_url(topic, name, &[])).json(&body)).await
    }

    /// Changes the settings of a queue that are given.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; wrong settings; an unreachable server.
    pub async fn alter_queue(
        &self,
        topic: &str,
        name: &str,
        settings: &QueueSettings,
    ) -> Result<Subscription, ClientError> {
        self.send_for_json(self.request(Method::PATCH, self.queue_url(topic, name, &[])).json(settings)).await
    }

    /// Receives messages of a queue: message objects as the server sent them, with what [`Handed`] has.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; an unreachable server. Messages whose delivery got lost come
    /// again when their time is over.
    pub async fn receive(&self, topic: &str, name: &str, poll: &QueuePoll) -> Result<Vec<Box<RawValue>>, ClientError> {
        let request = self
            .request(Method::POST, self.queue_url(topic, name, &["poll"]))
            .timeout(REQUEST_TIMEOUT + Duration::from_millis(poll.wait_ms))
            .json(poll);
        self.send_for_json::<Delivered>(request).await.map(|answer| answer.messages)
    }

    /// Settles messages by their receipts, at most 10,000, and tells of each what became of it: that all were refused is
    /// no error.
    ///
    /// # Errors
    /// Code `subscription_not_found`, `wrong_kind`; an unreachable server.
    pub async fn settle(
        &self,
        topic: &str,
        name: &str,
        settlement: Settlement,
        receipts: &[String],
    ) -> Result<Vec<ReceiptResult>, ClientError> {
        let (path, body) = match settlement {
            Settlement::Ack => ("ack", json!({"receipts": receipts})),
            Settlement::Nack { delay_ms: None } => ("nack", json!({"receipts": receipts})),
            Settlement::Nack { delay_ms } => ("nack", json!({"receipts": receipts, "delay_ms": delay_ms})),
            Settlement::Extend { visibility_timeout_ms } => {
                ("extend", json!({"receipts": receipts, "visibility_timeout_ms": visibility_timeout_ms}))
            }
            Settlement::Reject => ("reject", json!({"receipts": receipts})),
        };
        let request = self.request(Method::POST, self.queue_url(topic, name, &[path])).json(&body);
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let (status, retry_after) = (response.status(), error::retry_after(&response));
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        match serde_json::from_slice::<Results>(&body) {
            Ok(answer) => Ok(answer.results),
            Err(problem) if status.is_success() => Err(ClientError::Answer { why: problem.to_string() }),
            Err(_) => {
                let refusal = error::parse_refusal(status.as_u16(), retry_after, &body);
                Err(ClientError::Refused(Box::new(refusal)))
            }
        }
    }

    /// A page of dead letters behind `after`, which is `next` of the page before.
    ///
    /// # Errors
    /// Code `subscription_not_found`, `wrong_kind`, `invalid_filter`; an unreachable server.
    pub async fn dead_letters(
        &self,
        topic: &str,
        name: &str,
        after: Option<&str>,
        filter: Option<&str>,
        max_messages: u64,
    ) -> Result<DeadLetterPage, ClientError> {
        let mut url = self.queue_url(topic, name, &["dead-letters"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("max_messages", &max_messages.to_string());
            for (field, value) in [("after", after), ("filter", filter)] {
                value.into_iter().for_each(|value| _ = query.append_pair(field, value));
            }
        }
        self.send_for_json(self.request(Method::GET, url)).await
    }

    /// Gives dead letters back; they are delivered again as if for the first time. Returns how many.
    ///
    /// # Errors
    /// Like [`Self::dead_letters`].
    pub async fn redrive(&self, topic: &str, name: &str, pick: &DeadLetterPick) -> Result<u64, ClientError> {
        self.pick(topic, name, "redrive", "redriven", pick).await
    }

    /// Forgets dead letters. Returns how many.
    ///
    /// # Errors
    /// Like [`Self::dead_letters`].
    pub async fn purge(&self, topic: &str, name: &str, pick: &DeadLetterPick) -> Result<u64, ClientError> {
        self.pick(topic, name, "purge", "purged", pick).await
    }

    async fn pick(
        &self,
        topic: &str,
        name: &str,
        path: &str,
        field: &str,
        pick: &DeadLetterPick,
    ) -> Result<u64, ClientError> {
        let request = self.request(Method::POST, self.queue_url(topic, name, &["dead-letters", path])).json(pick);
        let answer: BTreeMap<String, Value> = self.send_for_json(request).await?;
        let number = answer.get(field).and_then(Value::as_u64);
        number.ok_or_else(|| ClientError::Answer { why: format!("it has no number {field}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_sent() {
        assert_eq!(json!(QueueSettings::default()), json!({}));
        let push = QueuePush { secret: Some(None), max_in_flight: Some(3), ..QueuePush::default() };
        let settings = QueueSettings {
            ordered: Some(true),
            filter: Some(None),
            fair_by: Some(Some("group".to_owned())),
            push: Some(Some(push)),
            ..QueueSettings::default()
        };
        let push = json!({"secret": null, "max_in_flight": 3});
        assert_eq!(json!(settings), json!({"ordered": true, "filter": null, "fair_by": "group", "push": push}));
        assert_eq!(json!(DeadLetterPick::default()), json!({}));
    }
}
