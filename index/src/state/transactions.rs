//! Transactions: those that wait for a decision, and what became of those that were decided lately.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    command::{Fate, Placement, Prepare, Publish, Settle},
    ids::{Sequence, TopicId},
    limits::{DEDUPLICATION_WINDOW_MS, MAX_DECIDED, MAX_DECIDED_PLACES},
    names::TransactionId,
};

/// A transaction that waits for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// When it came, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// How long it is kept, and who is asked.
    pub prepare: Prepare,
    /// Its messages; their batches are relative to `body_at` of the entry `sequence`.
    pub publishes: Vec<Publish>,
    /// What it acknowledges.
    pub settles: Vec<Settle>,
    /// The entry that has its messages.
    pub sequence: Sequence,
    /// Where that entry's body begins in every copy of it, in bytes.
    pub body_at: u64,
}

/// A transaction that was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What became of it.
    pub fate: Fate,
}

/// All transactions that the state knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transactions {
    pub(crate) prepared: BTreeMap<TransactionId, Prepared>,
    pub(crate) decided: BTreeMap<TransactionId, Decided>,
    /// Decided ones, oldest first.
    pub(crate) order: VecDeque<TransactionId>,
    /// Places that the decided ones name.
    places: usize,
}

/// Places that a decided transaction names, itself included.
fn places(fate: &Fate) -> usize {
    match fate {
        Fate::Committed(placements) => {
            let places = |placement: &Placement| placement.bases.len() + placement.duplicates.len();
            1 + placements.iter().map(|(_, placement)| places(placement)).sum::<usize>()
        }
        Fate::Prepared | Fate::RolledBack => 1,
    }
}

impl Transactions {
    /// Those that wait for a decision.
    pub fn prepared(&self) -> &BTreeMap<TransactionId, Prepared> {
        &self.prepared
    }

    /// What is known of a transaction.
    pub fn fate(&self, id: &TransactionId) -> Option<Fate> {
        if self.prepared.contains_key(id) {
            return Some(Fate::Prepared);
        }
        self.decided.get(id).map(|decided| decided.fate.clone())
    }

    /// One that publishes to the topic and waits for a decision.
    pub(super) fn publishing_to(&self, topic: TopicId) -> Option<&TransactionId> {
        let publishes = |prepared: &Prepared| prepared.publishes.iter().any(|publish| publish.topic == topic);
        self.prepared.iter().find(|(_, prepared)| publishes(prepared)).map(|(id, _)| id)
    }

    /// When a transaction that is remembered was decided, milliseconds since the Unix epoch.
    pub fn decided_ms(&self, id: &TransactionId) -> Option<i64> {
        self.decided.get(id).map(|decided| decided.time_ms)
    }

    /// Remembers a decision and forgets what is old.
    pub(super) fn decide(&mut self, id: TransactionId, fate: Fate, time_ms: i64) {
        self.remember(id, Decided { time_ms, fate });
        while let Some(oldest) = self.order.front() {
            let expired =
                self.decided.get(oldest).is_none_or(|decided| decided.time_ms + DEDUPLICATION_WINDOW_MS < time_ms);
            let too_many = self.order.len() > MAX_DECIDED || self.places > MAX_DECIDED_PLACES;
            // The youngest is remembered, however many places it names.
            let kept = !too_many || self.order.len() == 1;
            if kept && !expired {
                break;
            }
            let oldest = self.order.pop_front().and_then(|oldest| self.decided.remove(&oldest));
            self.places -= oldest.map_or(0, |oldest| places(&oldest.fate));
        }
    }

    /// Remembers a decision that is younger than all others.
    pub(crate) fn remember(&mut self, id: TransactionId, decided: Decided) {
        self.places += places(&decided.fate);
        self.order.push_back(id.clone());
        self.decided.insert(id, decided);
    }
}

#[cfg(test)]
mod tests;
