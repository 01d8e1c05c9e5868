//! Queue subscriptions: what of each partition is settled, and what has to be remembered of the rest.
//!
//! The state remembers, the leader decides: receipts, time-outs and turns are its business, and every one of its decisions
//! comes here as a [`Settle`].

mod retries;

use std::{collections::BTreeMap, sync::Arc};

pub use retries::Retries;

use roaring::RoaringTreemap;

use super::PartitionLog;
use crate::{
    command::{DeadLetter, QueueSettings, SettlePartition},
    ids::{Offset, Partition, SubscriptionId},
    names::TransactionId,
};

/// A queue subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its identity.
    pub id: SubscriptionId,
    /// Its settings.
    pub settings: Arc<QueueSettings>,
    /// Key that its receipts are sealed with.
    pub secret: Arc<[u8; 32]>,
    pub(crate) partitions: Vec<QueuePartition>,
}

/// What a queue subscription knows of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueuePartition {
    /// Everything before it is settled; the message at it is not.
    pub(crate) floor: Offset,
    /// What is settled behind the floor.
    pub(crate) settled: RoaringTreemap,
    pub(crate) retries: Retries,
    pub(crate) dead: BTreeMap<Offset, DeadLetter>,
    pub(crate) held: BTreeMap<Offset, TransactionId>,
}

impl Queue {
    /// What it knows of a partition; nothing yet of one that was added since anything was settled.
    pub fn partition(&self, partition: Partition) -> Option<&QueuePartition> {
        self.partitions.get(partition.0 as usize)
    }

    /// Room for every partition of the topic; new ones begin at their log start.
    pub(super) fn cover(&mut self, logs: &[PartitionLog]) {
        let known = self.partitions.len();
        self.partitions.extend(logs.iter().skip(known).map(|log| QueuePartition::starting_at(log.log_start)));
    }

    pub(super) fn partition_mut(&mut self, partition: Partition) -> Option<&mut QueuePartition> {
        self.partitions.get_mut(partition.0 as usize)
    }
}

impl QueuePartition {
    /// Nothing is settled from `floor` on.
    pub(crate) fn starting_at(floor: Offset) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Everything before this offset is settled.
    pub fn floor(&self) -> Offset {
        self.floor
    }

    /// Messages that were delivered before and are not settled.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// Messages that were given up.
    pub fn dead(&self) -> &BTreeMap<Offset, DeadLetter> {
        &self.dead
    }

    /// Messages that transactions which are not decided acknowledge.
    pub fn held(&self) -> &BTreeMap<Offset, TransactionId> {
        &self.held
    }

    /// Whether the subscription is done with a message.
    pub fn is_settled(&self, offset: Offset) -> bool {
        offset < self.floor || self.settled.contains(offset.0)
    }

    /// Whether a message may be delivered: neither settled nor held.
    pub fn is_open(&self, offset: Offset) -> bool {
        !self.is_settled(offset) && !self.held.contains_key(&offset)
    }

    /// The first run of messages that are not settled, from `from` on and before `end`: first offset and the offset after
    /// the last. Held messages count as not settled.
    pub fn next_unsettled(&self, from: Offset, end: Offset) -> Option<(Offset, Offset)> {
        let from = from.max(self.floor);
        let first = if from < end && self.settled.contains(from.0) { self.settled_until(from, end) } else { from };
        if first >= end {
            return None;
        }
        let mut settled = self.settled.iter();
        settled.advance_to(first.0);
        Some((first, settled.next().map_or(end, Offset).min(end)))
    }

    /// Number of messages before `high_watermark` that are not settled.
    pub fn unsettled(&self, high_watermark: Offset) -> u64 {
        high_watermark.0.saturating_sub(self.floor.0).saturating_sub(self.settled.len())
    }

    /// The end of the settled run that begins at `first`, at most `end`: found by doubling and halving, since a run may be
    /// millions long.
    fn settled_until(&self, first: Offset, end: Offset) -> Offset {
        let whole = |length: u64| self.settled.contains_range(first.0..first.0 + length);
        let most = end.0 - first.0;
        let mut long = 1;
        while long < most && whole(long) {
            long = (long * 2).min(most);
        }
        let (mut good, mut bad) = (long / 2, long + 1);
        while good + 1 < bad {
            let middle = good.midpoint(bad);
            if whole(middle) { good = middle } else { bad = middle }
        }
        Offset(first.0 + good)
    }

    /// Moves the floor over what is settled right behind it.
    fn rise(&mut self) {
        if self.settled.contains(self.floor.0) {
            let last = self.settled.max().map_or(self.floor, |last| Offset(last + 1));
            let floor = self.settled_until(self.floor, last);
            self.settled.remove_range(self.floor.0..floor.0);
            self.floor = floor;
        }
    }

    fn settle_run(&mut self, first: Offset, end: Offset) {
        let first = first.max(self.floor);
        if first >= end {
            return;
        }
        self.settled.insert_range(first.0..end.0);
        self.retries.forget(first, end);
        forget(&mut self.held, first, end);
    }

    fn unsettle(&mut self, offset: Offset) {
        if offset < self.floor {
            self.settled.insert_range(offset.0 + 1..self.floor.0);
            self.floor = offset;
        } else {
            self.settled.remove(offset.0);
        }
    }

    /// Carries out what the leader has decided. What is settled already stays as it is.
    pub(super) fn apply(&mut self, settle: &SettlePartition) {
        for offset in &settle.purged {
            self.dead.remove(offset);
        }
        // Before the retries, which may say when what is given back comes again.
        for offset in &settle.restored {
            if self.dead.remove(offset).is_some() {
                self.unsettle(*offset);
            }
        }
        for (offset, letter) in &settle.dead {
            if !self.is_settled(*offset) {
                self.dead.insert(*offset, *letter);
                self.settle_run(*offset, offset.next());
            }
        }
        for (first, count) in &settle.settled {
            self.settle_run(*first, first.plus(u64::from(*count)));
        }
        for (offset, retry) in &settle.retries {
            if !self.is_settled(*offset) {
                self.retries.insert(*offset, *retry);
            }
        }
        self.rise();
    }

    /// Everything before `log_start` is gone, dead letters included.
    pub(super) fn trim(&mut self, log_start: Offset) {
        self.settled.remove_range(0..log_start.0);
        self.retries.forget(Offset(0), log_start);
        self.dead = self.dead.split_off(&log_start);
        self.held = self.held.split_off(&log_start);
        self.floor = self.floor.max(log_start);
        self.rise();
    }

    /// The first message that is still needed: one that is not settled, or a dead letter.
    pub(super) fn needed_from(&self) -> Offset {
        self.dead.keys().next().map_or(self.floor, |dead| self.floor.min(*dead))
    }

    /// Begins again at `position`: everything before it is settled, nothing behind it. Dead letters before it stay.
    pub(super) fn seek(&mut self, position: Offset) {
        self.floor = position;
        self.settled.clear();
        self.retries.forget(Offset(0), position);
        let _ = self.dead.split_off(&position);
        self.held = self.held.split_off(&position);
    }

    /// Whether every message of these runs could be acknowledged now; otherwise the first that could not.
    pub(super) fn first_not_open(&self, settle: &SettlePartition) -> Option<Offset> {
        let runs = settle.settled.iter().map(|(first, count)| (*first, first.plus(u64::from(*count))));
        let dead = settle.dead.iter().map(|(offset, _)| (*offset, offset.next()));
        runs.chain(dead).find_map(|(first, end)| {
            let open = self.next_unsettled(first, end);
            if open != Some((first, end)) {
                return Some(open.map_or(first, |(open, until)| if open == first { until } else { first }));
            }
            self.held.range(first..end).next().map(|(offset, _)| *offset)
        })
    }

    /// Holds messages for a transaction that is not decided.
    pub(super) fn hold(&mut self, settle: &SettlePartition, id: &TransactionId) {
        for (first, count) in &settle.settled {
            let offsets = (first.0..first.0 + u64::from(*count)).map(Offset);
            self.held.extend(offsets.map(|offset| (offset, id.clone())));
        }
    }

    /// Lets go what a transaction held.
    pub(super) fn let_go(&mut self, settle: &SettlePartition, id: &TransactionId) {
        for (first, count) in &settle.settled {
            let end = first.plus(u64::from(*count));
            let held: Vec<_> =
                self.held.range(*first..end).filter(|(_, by)| *by == id).map(|(offset, _)| *offset).collect();
            held.iter().for_each(|offset| _ = self.held.remove(offset));
        }
    }
}

/// Removes a range of keys, in proportion to what is removed.
fn forget<V>(map: &mut BTreeMap<Offset, V>, first: Offset, end: Offset) {
    while let Some(offset) = map.range(first..end).next().map(|(offset, _)| *offset) {
        map.remove(&offset);
    }
}

#[cfg(test)]
mod tests;
