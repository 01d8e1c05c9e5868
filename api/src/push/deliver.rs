//! One message posted to its endpoint, and what the answer means.
//!
//! Any 2xx accepts the message, and nothing else does. Everything else is tried again, a 4xx too: an endpoint that is being
//! deployed answers 404, one whose token has run out 401, and a queue that gave up on those would lose messages to a mistake of
//! minutes. What ends the attempts is the subscription's `max_deliveries`. An answer says how long to wait: `Retry-After`
//! is honoured within the subscription's bounds, and 410, which means for good, waits as long as these allow.

use std::time::Duration;

use brigade_index::{
    batch::Messages,
    names::{SubscriptionName, TopicName},
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use reqwest::StatusCode;
use tokio::time::{Instant, timeout};

use super::{
    endpoint::{Endpoint, Endpoints, SendError},
    metrics::PushMetrics,
    pace::Outcome,
};
use crate::wire::{write_delivery, write_message, write_string};

/// How long the rest of an answer may take, which nobody reads: it is taken only so that the connection can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The endpoint of a subscription.
#[derive(Clone, Debug)]
pub struct PushTarget {
    /// Where to post.
    pub endpoint: Endpoint,
    /// The subscription's topic.
    pub topic: TopicName,
    /// Its name.
    pub subscription: SubscriptionName,
    /// Number of the topic, which is never used again for another one of the name.
    pub topic_id: u64,
    /// Number of the subscription.
    pub subscription_id: u64,
}

/// A message to be posted.
#[derive(Clone, Debug)]
pub struct PushMessage {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The batch that it is in.
    pub messages: Messages,
    /// Its row in there.
    pub row: usize,
    /// Which delivery this is, counted from 1.
    pub delivery_count: u32,
    /// When the first one was, in milliseconds since the Unix epoch.
    pub first_delivered_ms: i64,
}

impl PushTarget {
    /// What names the message to the endpoint, in `webhook-id`: the same for each attempt to deliver it.
    fn id(&self, message: &PushMessage) -> String {
        format!("msg_{}_{}_{}_{}", self.topic_id, self.subscription_id, message.partition, message.offset)
    }

    /// About how long the body will be.
    fn body_size(&self, message: &PushMessage) -> usize {
        let Some(row) = Some(message.row).filter(|row| *row < message.messages.rows()) else { return 0 };
        let (key, value) = (message.messages.key(row), message.messages.value(row));
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        512 + bytes + bytes / 2
    }

    /// The message as a poll shows it, with `topic`, `subscription`, `delivery_count` and `first_delivered_at`. `None` if
    /// the batch has no such row.
    fn body(&self, message: &PushMessage) -> Option<Bytes> {
        if message.row >= message.messages.rows() {
            return None;
        }
        let mut out = Vec::with_capacity(self.body_size(message));
        write_message(&mut out, message.partition, message.offset, &message.messages, message.row, |out| {
            out.extend_from_slice(b",\"topic\":");
            write_string(out, self.topic.as_str());
            out.extend_from_slice(b",\"subscription\":");
            write_string(out, self.subscription.as_str());
            write_delivery(out, message.delivery_count, message.first_delivered_ms);
        });
        Some(out.into())
    }
}

/// Whose fault it is that a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The endpoint answered, and may well accept another message.
    Message,
    /// The endpoint cannot cope or is not there: other messages would fare no better.
    Endpoint,
    /// This node had no memory for the post.
    Node,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint accepted the message.
    Accepted,
    /// It did not, and is asked again.
    Retry {
        /// How long it asked to wait.
        after: Option<Duration>,
        /// Whose fault it is.
        fault: Fault,
        /// What happened, for the log.
        reason: String,
    },
    /// Nothing was sent, and nothing will be while the endpoint leads to a forbidden address.
    Refused {
        /// What is wrong.
        reason: String,
    },
}

/// Whether a status speaks for the endpoint as a whole. A 500 is as often the work of one bad message as of a bad endpoint;
/// if it is the latter, the other messages tell.
pub(super) fn is_overload(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 410 | 429 | 502..=504)
}

impl Verdict {
    fn of_status(status: StatusCode, retry_after: Option<Duration>) -> Self {
        if status.is_success() {
            return Self::Accepted;
        }
        let fault = if is_overload(status) { Fault::Endpoint } else { Fault::Message };
        let after = if status == StatusCode::GONE { Some(Duration::MAX) } else { retry_after };
        Self::Retry { after, fault, reason: format!("the endpoint answered {}", status.as_u16()) }
    }

    /// What it means for the pace of the endpoint.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Accepted => Outcome::Success,
            Self::Retry { fault: Fault::Message, .. } => Outcome::Rejected,
            Self::Retry { fault: Fault::Endpoint, after, .. } => Outcome::Failed { asked: *after },
            Self::Retry { fault: Fault::Node, .. } => Outcome::Unsent,
            Self::Refused { .. } => Outcome::Failed { asked: Some(Duration::MAX) },
        }
    }
}

/// How messages get to endpoints. Real nodes use a [`Deliverer`], simulated ones call handlers of their own.
pub trait Post: Send + Sync + 'static {
    /// Posts a message. Ends within twice the endpoint's time-out and a second, whatever happens.
    fn post<'a>(&'a self, target: &'a PushTarget, message: &'a PushMessage) -> BoxFuture<'a, Verdict>;
}

/// Posts messages over HTTP.
#[derive(Clone, Debug)]
pub struct Deliverer {
    endpoints: Endpoints,
    metrics: PushMetrics,
}

impl Deliverer {
    /// Posts through `endpoints` and counts in `metrics`.
    pub fn new(endpoints: Endpoints, metrics: PushMetrics) -> Self {
        Self { endpoints, metrics }
    }

    /// The client underneath, which checks addresses.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    async fn try_post(&self, target: &PushTarget, message: &PushMessage) -> Verdict {
        let no_place = || Verdict::Retry {
            after: None,
            fault: Fault::Node,
            reason: "the node has no memory left for it".to_owned(),
        };
        let Ok(Some(_place)) =
            timeout(target.endpoint.timeout(), self.endpoints.place(target.body_size(message))).await
        else {
            return no_place();
        };
        let Some(body) = target.body(message) else {
            return Verdict::Refused { reason: "the message is not in its batch".to_owned() };
        };
        let _in_flight = self.metrics.begin();
        let started = Instant::now();
        let sent = self.endpoints.post(&target.endpoint, &target.id(message), body).await;
        self.metrics.answered(&sent, started.elapsed());
        let failed = |fault, error: &SendError| Verdict::Retry { after: None, fault, reason: error.to_string() };
        match sent {
            Ok(answer) => {
                let verdict = Verdict::of_status(answer.status, answer.retry_after);
                // The status has decided; that the body ends, breaks or takes too long changes nothing.
                let _ = timeout(DRAIN_TIMEOUT, answer.body()).await;
                verdict
            }
            Err(SendError::Forbidden(name)) => Verdict::Refused { reason: SendError::Forbidden(name).to_string() },
            Err(error) => failed(Fault::Endpoint, &error),
        }
    }
}

impl Post for Deliverer {
    fn post<'a>(&'a self, target: &'a PushTarget, message: &'a PushMessage) -> BoxFuture<'a, Verdict> {
        self.try_post(target, message).boxed()
    }
}

#[cfg(test)]
mod tests;
