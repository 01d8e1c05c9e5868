//! Stored form of queue subscriptions: settings, what is settled, dead letters.

use prost::Message;

use super::{
    command::{StoredPosition, positions_from, store_positions},
    frame::FrameError,
};
use crate::{
    command::{
        Command, DeadLetter, DeadReason, Expired, Fairness, PushSettings, QueuePatch, QueueSettings, Retry, Settle,
        SettlePartition,
    },
    ids::{Offset, Partition, SubscriptionId, TopicId},
    names::{SubscriptionName, TopicName},
};

/// Settings, or a change of them. A setting that can be taken away is absent when it does not change and empty when it is
/// taken away.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredQueueSettings {
    #[prost(uint32, optional, tag = "1")]
    visibility_timeout_ms: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    max_deliveries: Option<u32>,
    #[prost(string, optional, tag = "3")]
    dead_letter_topic: Option<String>,
    #[prost(bool, optional, tag = "4")]
    ordered: Option<bool>,
    /// 0 nobody, 1 groups, 2 the values of a header.
    #[prost(uint32, optional, tag = "5")]
    fairness: Option<u32>,
    #[prost(string, tag = "6")]
    fairness_header: String,
    /// 0 dropped, 1 dead letters.
    #[prost(uint32, optional, tag = "7")]
    expired: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    retry_delay_ms: Option<u32>,
    #[prost(string, optional, tag = "9")]
    filter: Option<String>,
    #[prost(message, optional, tag = "10")]
    push: Option<StoredPush>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPush {
    #[prost(string, tag = "1")]
    url: String,
    #[prost(string, tag = "2")]
    secret: String,
    #[prost(uint32, tag = "3")]
    timeout_ms: u32,
    #[prost(uint32, tag = "4")]
    max_in_flight: u32,
    #[prost(uint32, tag = "5")]
    max_per_second: u32,
    #[prost(uint32, tag = "6")]
    backoff_min_ms: u32,
    #[prost(uint32, tag = "7")]
    backoff_max_ms: u32,
}

/// Create and alter share their fields.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredQueueCommand {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, required, tag = "3")]
    settings: StoredQueueSettings,
    #[prost(bytes = "vec", tag = "4")]
    secret: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    positions: Vec<StoredPosition>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSettle {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    subscription: u64,
    #[prost(message, repeated, tag = "4")]
    partitions: Vec<StoredSettlePartition>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSettlePartition {
    #[prost(uint32, tag = "1")]
    partition: u32,
    /// Of each run the distance of its first message from the end of the run before, and its length.
    #[prost(uint64, repeated, tag = "2")]
    settled: Vec<u64>,
    #[prost(message, repeated, tag = "3")]
    retries: Vec<StoredRetry>,
    #[prost(message, repeated, tag = "4")]
    dead: Vec<StoredDead>,
    #[prost(uint64, repeated, tag = "5")]
    restored: Vec<u64>,
    #[prost(uint64, repeated, tag = "6")]
    purged: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRetry {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(uint32, tag = "2")]
    deliveries: u32,
    #[prost(sint64, tag = "3")]
    first_ms: i64,
    #[prost(sint64, tag = "4")]
    not_before_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDead {
    #[prost(uint64, tag = "1")]
    offset: u64,
    /// 0 max deliveries, 1 expired, 2 rejected.
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(uint32, tag = "3")]
    deliveries: u32,
    #[prost(sint64, tag = "4")]
    first_ms: i64,
    #[prost(sint64, tag = "5")]
    time_ms: i64,
}

impl From<&PushSettings> for StoredPush {
    fn from(push: &PushSettings) -> Self {
        let PushSettings { url, secret, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms } =
            push.clone();
        Self { url, secret, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms }
    }
}

impl From<StoredPush> for PushSettings {
    fn from(stored: StoredPush) -> Self {
        let StoredPush { url, secret, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms } =
            stored;
        Self { url, secret, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms }
    }
}

impl From<&QueuePatch> for StoredQueueSettings {
    fn from(patch: &QueuePatch) -> Self {
        let (fairness, fairness_header) = match &patch.fairness {
            None => (None, String::new()),
            Some(Fairness::None) => (Some(0), String::new()),
            Some(Fairness::Group) => (Some(1), String::new()),
            Some(Fairness::Header(name)) => (Some(2), name.clone()),
        };
        let expired = |expired| match expired {
            Expired::Drop => 0,
            Expired::DeadLetter => 1,
        };
        let none = StoredPush::default;
        Self {
            visibility_timeout_ms: patch.visibility_timeout_ms,
            max_deliveries: patch.max_deliveries,
            dead_letter_topic: patch
                .dead_letter_topic
                .as_ref()
                .map(|topic| topic.as_ref().map(ToString::to_string).unwrap_or_default()),
            ordered: patch.ordered,
            fairness,
            fairness_header,
            expired: patch.expired.map(expired),
            retry_delay_ms: patch.retry_delay_ms,
            filter: patch.filter.as_ref().map(|filter| filter.clone().unwrap_or_default()),
            push: patch.push.as_ref().map(|push| push.as_ref().map_or_else(none, Into::into)),
        }
    }
}

impl TryFrom<StoredQueueSettings> for QueuePatch {
    type Error = FrameError;

    fn try_from(stored: StoredQueueSettings) -> Result<Self, FrameError> {
        let fairness = match stored.fairness {
            None => None,
            Some(0) => Some(Fairness::None),
            Some(1) => Some(Fairness::Group),
            Some(2) => Some(Fairness::Header(stored.fairness_header)),
            Some(_) => return Err(FrameError::Malformed("fairness")),
        };
        let expired = match stored.expired {
            None => None,
            Some(0) => Some(Expired::Drop),
            Some(1) => Some(Expired::DeadLetter),
            Some(_) => return Err(FrameError::Malformed("what becomes of expired messages")),
        };
        let topic = |name: String| if name.is_empty() { Ok(None) } else { TopicName::new(&name).map(Some) };
        Ok(Self {
            visibility_timeout_ms: stored.visibility_timeout_ms,
            max_deliveries: stored.max_deliveries,
            dead_letter_topic: stored.dead_letter_topic.map(topic).transpose()?,
            ordered: stored.ordered,
            fairness,
            expired,
            retry_delay_ms: stored.retry_delay_ms,
            filter: stored.filter.map(|filter| Some(filter).filter(|filter| !filter.is_empty())),
            push: stored.push.map(|push| Some(push).filter(|push| !push.url.is_empty()).map(Into::into)),
        })
    }
}

impl From<&QueueSettings> for StoredQueueSettings {
    fn from(settings: &QueueSettings) -> Self {
        let settings = settings.clone();
        Self::from(&QueuePatch {
            visibility_timeout_ms: Some(settings.visibility_timeout_ms),
            max_deliveries: Some(settings.max_deliveries),
            dead_letter_topic: settings.dead_letter_topic.map(Some),
            ordered: Some(settings.ordered),
            fairness: Some(settings.fairness),
            expired: Some(settings.expired),
            retry_delay_ms: Some(settings.retry_delay_ms),
            filter: settings.filter.map(Some),
            push: settings.push.map(Some),
        })
    }
}

impl StoredQueueSettings {
    /// Settings in full; what an older writer left out has its default.
    pub(super) fn settings(self) -> Result<QueueSettings, FrameError> {
        Ok(QueueSettings::default().patched(&self.try_into()?))
    }
}

/// A secret of the right length.
pub(super) fn secret_from(stored: &[u8]) -> Result<[u8; 32], FrameError> {
    stored.try_into().map_err(|_| FrameError::Malformed("secret of a subscription"))
}

impl StoredQueueCommand {
    pub(super) fn create(
        topic: TopicId,
        name: &SubscriptionName,
        settings: &QueueSettings,
        secret: &[u8; 32],
        positions: &[(Partition, Offset)],
    ) -> Self {
        let (name, settings, positions) = (name.to_string(), settings.into(), store_positions(positions));
        Self { topic: topic.0, name, settings, secret: secret.to_vec(), positions }
    }

    pub(super) fn alter(topic: TopicId, name: &SubscriptionName, patch: &QueuePatch) -> Self {
        Self { topic: topic.0, name: name.to_string(), settings: patch.into(), ..Self::default() }
    }

    pub(super) fn into_create(self) -> Result<Command, FrameError> {
        Ok(Command::CreateQueue {
            topic: TopicId(self.topic),
            name: SubscriptionName::new(&self.name)?,
            settings: self.settings.settings()?,
            secret: secret_from(&self.secret)?,
            positions: positions_from(self.positions),
        })
    }

    pub(super) fn into_alter(self) -> Result<Command, FrameError> {
        let name = SubscriptionName::new(&self.name)?;
        Ok(Command::AlterQueue { topic: TopicId(self.topic), name, patch: self.settings.try_into()? })
    }
}

impl From<(Offset, &Retry)> for StoredRetry {
    fn from((offset, retry): (Offset, &Retry)) -> Self {
        let Retry { deliveries, first_ms, not_before_ms } = *retry;
        Self { offset: offset.0, deliveries, first_ms, not_before_ms }
    }
}

impl From<StoredRetry> for (Offset, Retry) {
    fn from(stored: StoredRetry) -> Self {
        let StoredRetry { offset, deliveries, first_ms, not_before_ms } = stored;
        (Offset(offset), Retry { deliveries, first_ms, not_before_ms })
    }
}

impl From<(&Offset, &DeadLetter)> for StoredDead {
    fn from((offset, letter): (&Offset, &DeadLetter)) -> Self {
        let DeadLetter { reason, deliveries, first_ms, time_ms } = *letter;
        let reason = match reason {
            DeadReason::MaxDeliveries => 0,
            DeadReason::Expired => 1,
            DeadReason::Rejected => 2,
        };
        Self { offset: offset.0, reason, deliveries, first_ms, time_ms }
    }
}

impl TryFrom<StoredDead> for (Offset, DeadLetter) {
    type Error = FrameError;

    fn try_from(stored: StoredDead) -> Result<Self, FrameError> {
        let StoredDead { offset, reason, deliveries, first_ms, time_ms } = stored;
        let reason = match reason {
            0 => DeadReason::MaxDeliveries,
            1 => DeadReason::Expired,
            2 => DeadReason::Rejected,
            _ => return Err(FrameError::Malformed("reason of a dead letter")),
        };
        Ok((Offset(offset), DeadLetter { reason, deliveries, first_ms, time_ms }))
    }
}

impl From<&SettlePartition> for StoredSettlePartition {
    fn from(part: &SettlePartition) -> Self {
        let mut at = 0;
        let mut settled = Vec::with_capacity(2 * part.settled.len());
        for (first, count) in &part.settled {
            settled.extend([first.0.wrapping_sub(at), u64::from(*count)]);
            at = first.0.wrapping_add(u64::from(*count));
        }
        Self {
            partition: part.partition.0,
            settled,
            retries: part.retries.iter().map(|(offset, retry)| (*offset, retry).into()).collect(),
            dead: part.dead.iter().map(|(offset, letter)| (offset, letter).into()).collect(),
            restored: part.restored.iter().map(|offset| offset.0).collect(),
            purged: part.purged.iter().map(|offset| offset.0).collect(),
        }
    }
}

impl TryFrom<StoredSettlePartition> for SettlePartition {
    type Error = FrameError;

    fn try_from(stored: StoredSettlePartition) -> Result<Self, FrameError> {
        let mut at = 0_u64;
        let mut settled = Vec::with_capacity(stored.settled.len() / 2);
        let (runs, rest) = stored.settled.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(FrameError::Malformed("runs of settled messages"));
        }
        for [distance, count] in runs {
            let count = u32::try_from(*count).map_err(|_| FrameError::Malformed("run of settled messages"))?;
            let first = at.wrapping_add(*distance);
            settled.push((Offset(first), count));
            at = first.wrapping_add(u64::from(count));
        }
        Ok(Self {
            partition: Partition(stored.partition),
            settled,
            retries: stored.retries.into_iter().map(Into::into).collect(),
            dead: stored.dead.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            restored: stored.restored.into_iter().map(Offset).collect(),
            purged: stored.purged.into_iter().map(Offset).collect(),
        })
    }
}

impl From<&Settle> for StoredSettle {
    fn from(settle: &Settle) -> Self {
        Self {
            topic: settle.topic.0,
            name: settle.name.to_string(),
            subscription: settle.subscription.0,
            partitions: settle.partitions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<StoredSettle> for Settle {
    type Error = FrameError;

    fn try_from(stored: StoredSettle) -> Result<Self, FrameError> {
        Ok(Self {
            topic: TopicId(stored.topic),
            name: SubscriptionName::new(&stored.name)?,
            subscription: SubscriptionId(stored.subscription),
            partitions: stored.partitions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}
