//! Applying what concerns queue subscriptions.

use std::{collections::BTreeSet, sync::Arc};

use super::{Body, Touched, check_positions, check_publish, check_room, publish_to};
use crate::{
    command::{Applied, Outcome, Publish, QueuePatch, QueueSettings, Rejection, Settle, SettlePartition},
    ids::{Offset, Partition, SubscriptionId, TopicId},
    names::{SubscriptionName, TopicName},
    state::{Kind, Queue, QueuePartition, ShardState, Subscription, Topic},
};

/// A queue subscription as it is created.
pub(super) struct NewQueue<'a> {
    pub(super) topic: TopicId,
    pub(super) name: &'a SubscriptionName,
    pub(super) settings: &'a QueueSettings,
    pub(super) secret: [u8; 32],
    pub(super) positions: &'a [(Partition, Offset)],
}

impl ShardState {
    pub(super) fn create_queue(&mut self, new: &NewQueue<'_>) -> Applied {
        let (id, created_ms) = (SubscriptionId(self.next_subscription + 1), self.time_ms);
        let topic = self.topic(new.topic).ok_or(Rejection::TopicNotFound)?;
        check_room(topic, new.name)?;
        check_positions(topic, new.positions)?;
        self.check_settings(topic, new.settings)?;
        let topic = self.topic_mut(new.topic)?;
        let (settings, secret) = (Arc::new(new.settings.clone()), Arc::new(new.secret));
        let mut queue = Queue { id, settings, secret, partitions: Vec::new() };
        queue.cover(&topic.partitions);
        for (partition, offset) in new.positions {
            queue.partition_mut(*partition).into_iter().for_each(|at| at.seek(*offset));
        }
        let subscription = Subscription { created_ms, kind: Kind::Queue(Box::new(queue)) };
        topic.subscriptions.insert(new.name.clone(), subscription);
        self.next_subscription = id.0;
        Ok(Outcome::QueueCreated(id))
    }

    pub(super) fn alter_queue(&mut self, topic: TopicId, name: &SubscriptionName, patch: &QueuePatch) -> Applied {
        let of = self.topic(topic).ok_or(Rejection::TopicNotFound)?;
        let settings = queue_of(of, name)?.settings.patched(patch);
        self.check_settings(of, &settings)?;
        queue_mut(self.topic_mut(topic)?, name)?.settings = Arc::new(settings);
        Ok(Outcome::Done)
    }

    pub(super) fn bury(
        &mut self,
        copies: &Publish,
        buried: &Settle,
        body: Body,
        touched: &mut Vec<Touched>,
    ) -> Applied {
        check_publish(self.topic(copies.topic).ok_or(Rejection::TopicNotFound)?, copies)?;
        let topic = self.topic(buried.topic).ok_or(Rejection::TopicNotFound)?;
        check_settle(topic, buried)?;
        check_open(topic, buried)?;
        let now = self.time_ms;
        let published = publish_to(self.topic_mut(copies.topic)?, copies, body, now, touched)?;
        self.stored(published, body);
        settle(self.topic_mut(buried.topic)?, buried)
    }

    fn check_settings(&self, topic: &Topic, settings: &QueueSettings) -> Result<(), Rejection> {
        if let Some(problem) = settings.problem() {
            return Err(Rejection::InvalidSettings(problem));
        }
        match &settings.dead_letter_topic {
            Some(target) => self.check_dead_letters(topic, target),
            None => Ok(()),
        }
    }

    /// Dead letters must end somewhere: following every dead-letter topic from `target` on never leads back to `topic`.
    fn check_dead_letters(&self, topic: &Topic, target: &TopicName) -> Result<(), Rejection> {
        if self.topic_named(target).is_none() {
            return Err(Rejection::DeadLetterTopic("there is no such dead-letter topic"));
        }
        let (mut seen, mut next) = (BTreeSet::new(), vec![target]);
        while let Some(name) = next.pop() {
            if *name == topic.name {
                return Err(Rejection::DeadLetterTopic("the dead-letter topic leads back to the topic itself"));
            }
            if seen.insert(name)
                && let Some(topic) = self.topic_named(name)
            {
                let queues = topic.subscriptions.values().filter_map(Subscription::queue);
                next.extend(queues.filter_map(|queue| queue.settings.dead_letter_topic.as_ref()));
            }
        }
        Ok(())
    }
}

/// The queue subscription of that name.
pub(super) fn queue_of<'a>(topic: &'a Topic, name: &SubscriptionName) -> Result<&'a Queue, Rejection> {
    let subscription = topic.subscriptions.get(name).ok_or(Rejection::SubscriptionNotFound)?;
    subscription.queue().ok_or(Rejection::WrongKind(subscription.kind_name()))
}

/// The queue subscription of that name, with room for every partition.
pub(super) fn queue_mut<'a>(topic: &'a mut Topic, name: &SubscriptionName) -> Result<&'a mut Queue, Rejection> {
    let subscription = topic.subscriptions.get_mut(name).ok_or(Rejection::SubscriptionNotFound)?;
    let kind = subscription.kind_name();
    let Kind::Queue(queue) = &mut subscription.kind else { return Err(Rejection::WrongKind(kind)) };
    queue.cover(&topic.partitions);
    Ok(queue)
}

/// Checks everything that could be wrong with a settle before anything changes.
pub(super) fn check_settle(topic: &Topic, settle: &Settle) -> Result<(), Rejection> {
    if queue_of(topic, &settle.name)?.id != settle.subscription {
        return Err(Rejection::SubscriptionNotFound);
    }
    for part in &settle.partitions {
        let log = topic.partition(part.partition).ok_or(Rejection::PartitionNotFound(part.partition))?;
        check_runs(part, log.high_watermark)?;
    }
    Ok(())
}

fn check_runs(part: &SettlePartition, high_watermark: Offset) -> Result<(), Rejection> {
    let mut at = Offset(0);
    for (first, count) in &part.settled {
        let end = first.0.checked_add(u64::from(*count)).map(Offset);
        match end.filter(|end| *first >= at && *count > 0 && *end <= high_watermark) {
            Some(end) => at = end,
            None => return Err(Rejection::Malformed("runs of settled messages overlap or lie behind the log")),
        }
    }
    let retries = part.retries.iter().map(|(offset, _)| offset);
    let dead = part.dead.iter().map(|(offset, _)| offset);
    if retries.chain(dead).chain(&part.restored).any(|offset| *offset >= high_watermark) {
        return Err(Rejection::Malformed("a settled message lies behind the log"));
    }
    Ok(())
}

/// Every message that is settled must be open: neither settled before nor held.
pub(super) fn check_open(topic: &Topic, settle: &Settle) -> Result<(), Rejection> {
    let queue = queue_of(topic, &settle.name)?;
    for part in &settle.partitions {
        let log_start = topic.partition(part.partition).map(|log| log.log_start).unwrap_or_default();
        let fresh = QueuePartition::starting_at(log_start);
        let known = queue.partition(part.partition).unwrap_or(&fresh);
        if let Some(offset) = known.first_not_open(part) {
            return Err(Rejection::NotOpen { partition: part.partition, offset });
        }
    }
    Ok(())
}

/// Carries out a settle that was checked.
pub(super) fn settle(topic: &mut Topic, settle: &Settle) -> Applied {
    check_settle(topic, settle)?;
    let queue = queue_mut(topic, &settle.name)?;
    for part in &settle.partitions {
        queue.partition_mut(part.partition).into_iter().for_each(|at| at.apply(part));
    }
    Ok(Outcome::Done)
}
