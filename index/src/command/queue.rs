//! Queue subscriptions: their settings, and what is settled.

use crate::{
    ids::{Offset, Partition, SubscriptionId, TopicId},
    limits::{MAX_BACKOFF_MS, MAX_DELIVERIES, MAX_FILTER_BYTES, MAX_PUSH_IN_FLIGHT, MAX_URL_BYTES, MAX_VISIBILITY_MS},
    names::{SubscriptionName, TopicName},
};

/// Whose turn it is when many wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fairness {
    /// Nobody's: messages go in their order.
    #[default]
    None,
    /// Groups take turns: a message's group, or else its key.
    Group,
    /// The values of a header take turns.
    Header(String),
}

/// What becomes of a message that was not settled before it expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expired {
    /// It is settled.
    #[default]
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
}

/// Where a subscription pushes its messages to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSettings {
    /// URL that messages are posted to.
    pub url: String,
    /// Secret that requests are signed with.
    pub secret: String,
    /// Time that the endpoint has to answer, in milliseconds.
    pub timeout_ms: u32,
    /// Most requests at once.
    pub max_in_flight: u32,
    /// Most messages a second; 0 for no limit.
    pub max_per_second: u32,
    /// Pause before the second attempt, in milliseconds; it doubles from attempt to attempt.
    pub backoff_min_ms: u32,
    /// Longest pause between attempts, in milliseconds.
    pub backoff_max_ms: u32,
}

/// Settings of a queue subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a receipt is good when the poll does not say otherwise, in milliseconds.
    pub visibility_timeout_ms: u32,
    /// Deliveries after which a message that is not settled becomes a dead letter; 0 for no limit.
    pub max_deliveries: u32,
    /// Topic that dead letters are moved to; without one they stay where they are.
    pub dead_letter_topic: Option<TopicName>,
    /// Whether messages of one group are delivered strictly one after the other.
    pub ordered: bool,
    /// Whose turn it is.
    pub fairness: Fairness,
    /// What becomes of expired messages.
    pub expired: Expired,
    /// Pause before a message whose time is over, or that was given back without a delay, comes again; milliseconds.
    pub retry_delay_ms: u32,
    /// Which messages are wanted, in the language of [`crate::filter`].
    pub filter: Option<String>,
    /// Where messages are pushed to.
    pub push: Option<PushSettings>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            visibility_timeout_ms: 30_000,
            max_deliveries: 0,
            dead_letter_topic: None,
            ordered: false,
            fairness: Fairness::None,
            expired: Expired::Drop,
            retry_delay_ms: 0,
            filter: None,
            push: None,
        }
    }
}

impl QueueSettings {
    /// What is wrong with these settings, if anything. Filters are parsed and addresses are judged where they come in.
    pub fn problem(&self) -> Option<&'static str> {
        if self.visibility_timeout_ms == 0 || self.visibility_timeout_ms > MAX_VISIBILITY_MS {
            Some("visibility_timeout_ms must be between 1 and 43200000")
        } else if self.max_deliveries > MAX_DELIVERIES {
            Some("max_deliveries must be between 0 and 1000")
        } else if self.retry_delay_ms > MAX_VISIBILITY_MS {
            Some("retry_delay_ms must be between 0 and 43200000")
        } else if self.filter.as_ref().is_some_and(|filter| filter.len() > MAX_FILTER_BYTES) {
            Some("filter is longer than 4096 bytes")
        } else if matches!(&self.fairness, Fairness::Header(name) if name.is_empty() || name.len() > 256) {
            Some("fair_by names a header of 1 to 256 bytes")
        } else {
            self.push.as_ref().and_then(PushSettings::problem)
        }
    }

    /// These settings with those of `patch` that are given.
    #[must_use]
    pub fn patched(&self, patch: &QueuePatch) -> Self {
        let patch = patch.clone();
        Self {
            visibility_timeout_ms: patch.visibility_timeout_ms.unwrap_or(self.visibility_timeout_ms),
            max_deliveries: patch.max_deliveries.unwrap_or(self.max_deliveries),
            dead_letter_topic: patch.dead_letter_topic.unwrap_or_else(|| self.dead_letter_topic.clone()),
            ordered: patch.ordered.unwrap_or(self.ordered),
            fairness: patch.fairness.unwrap_or_else(|| self.fairness.clone()),
            expired: patch.expired.unwrap_or(self.expired),
            retry_delay_ms: patch.retry_delay_ms.unwrap_or(self.retry_delay_ms),
            filter: patch.filter.unwrap_or_else(|| self.filter.clone()),
            push: patch.push.unwrap_or_else(|| self.push.clone()),
        }
    }
}

impl PushSettings {
    fn problem(&self) -> Option<&'static str> {
        if self.url.is_empty() || self.url.len() > MAX_URL_BYTES || self.secret.len() > MAX_URL_BYTES {
            Some("the push URL and the secret have at most 2048 bytes")
        } else if self.timeout_ms == 0 || self.timeout_ms > MAX_BACKOFF_MS {
            Some("push timeout_ms must be between 1 and 3600000")
        } else if self.max_in_flight == 0 || self.max_in_flight > MAX_PUSH_IN_FLIGHT {
            Some("push max_in_flight must be between 1 and 1000")
        } else if self.backoff_min_ms > self.backoff_max_ms || self.backoff_max_ms > MAX_BACKOFF_MS {
            Some("push backoff_min_ms must not exceed backoff_max_ms, nor that 3600000")
        } else {
            None
        }
    }
}

/// A change of settings: only what is given changes. `Some(None)` takes a setting away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePatch {
    /// See [`QueueSettings::visibility_timeout_ms`].
    pub visibility_timeout_ms: Option<u32>,
    /// See [`QueueSettings::max_deliveries`].
    pub max_deliveries: Option<u32>,
    /// See [`QueueSettings::dead_letter_topic`].
    pub dead_letter_topic: Option<Option<TopicName>>,
    /// See [`QueueSettings::ordered`].
    pub ordered: Option<bool>,
    /// See [`QueueSettings::fairness`].
    pub fairness: Option<Fairness>,
    /// See [`QueueSettings::expired`].
    pub expired: Option<Expired>,
    /// See [`QueueSettings::retry_delay_ms`].
    pub retry_delay_ms: Option<u32>,
    /// See [`QueueSettings::filter`].
    pub filter: Option<Option<String>>,
    /// See [`QueueSettings::push`].
    pub push: Option<Option<PushSettings>>,
}

/// What is known of a message that was delivered before and is not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// How often it was delivered.
    pub deliveries: u32,
    /// When it was first delivered, milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// It is not delivered again before this time, milliseconds since the Unix epoch.
    pub not_before_ms: i64,
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// It was delivered as often as it may be.
    MaxDeliveries,
    /// It expired.
    Expired,
    /// A consumer said so.
    Rejected,
}

impl DeadReason {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxDeliveries => "max_deliveries",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }
}

/// A message that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: DeadReason,
    /// How often it was delivered.
    pub deliveries: u32,
    /// When it was first delivered, milliseconds since the Unix epoch; 0 if it never was.
    pub first_ms: i64,
    /// When it was given up, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// What a queue subscription is done with, and what it has to remember of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The topic.
    pub topic: TopicId,
    /// Name of the subscription.
    pub name: SubscriptionName,
    /// Its identity: one that was deleted and created again is another one.
    pub subscription: SubscriptionId,
    /// Partition by partition, ascending.
    pub partitions: Vec<SettlePartition>,
}

/// [`Settle`] in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlePartition {
    /// The partition.
    pub partition: Partition,
    /// Runs of settled messages: first offset and number, ascending and disjoint.
    pub settled: Vec<(Offset, u32)>,
    /// Messages that were delivered and come again.
    pub retries: Vec<(Offset, Retry)>,
    /// Messages that are settled and kept as dead letters.
    pub dead: Vec<(Offset, DeadLetter)>,
    /// Dead letters that are given back: not settled any more.
    pub restored: Vec<Offset>,
    /// Dead letters that are forgotten.
    pub purged: Vec<Offset>,
}

impl SettlePartition {
    /// Nothing yet, in that partition.
    pub fn new(partition: Partition) -> Self {
        Self { partition, ..Self::default() }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let Self { settled, retries, dead, restored, purged, .. } = self;
        settled.is_empty() && retries.is_empty() && dead.is_empty() && restored.is_empty() && purged.is_empty()
    }
}
