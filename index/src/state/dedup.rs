//! Recognising repeated requests: producers with their sequences, and idempotency keys.
//!
//! What is forgotten, and when, follows from applied entries alone, so that every node forgets alike.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    command::{Identity, Placement},
    limits::{
        DEDUPLICATION_WINDOW_MS, MAX_IDEMPOTENCY_KEYS, MAX_PRODUCERS, MAX_REMEMBERED_DUPLICATES, PRODUCER_WINDOW,
    },
    names::ProducerId,
};

/// The recent sequences of one producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerWindow {
    /// Time of its last stored request, milliseconds since the Unix epoch.
    pub last_ms: i64,
    /// Sequences below this one may have been forgotten.
    pub forgotten_below: u64,
    /// Stored requests by sequence, at most [`PRODUCER_WINDOW`].
    pub recent: BTreeMap<u64, Arc<Placement>>,
}

/// A remembered idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedKey {
    /// When its request was stored, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Where its messages are.
    pub placement: Arc<Placement>,
}

/// Recent idempotent requests of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deduplication {
    pub(crate) producers: BTreeMap<ProducerId, ProducerWindow>,
    pub(crate) keys: BTreeMap<Arc<str>, RememberedKey>,
    /// Keys in the order in which they were stored, oldest first.
    pub(crate) key_order: VecDeque<Arc<str>>,
    /// Runs of duplicates in all placements.
    duplicates: usize,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Not stored before.
    New,
    /// Stored before.
    Duplicate(Arc<Placement>),
    /// Its sequence lies before the producer's window.
    TooOld,
}

impl Deduplication {
    /// What is known of the request with this identity.
    pub fn look_up(&self, identity: &Identity) -> Known {
        match identity {
            Identity::Producer(id, sequence) => match self.producers.get(id) {
                None => Known::New,
                Some(window) => match window.recent.get(sequence) {
                    Some(placement) => Known::Duplicate(placement.clone()),
                    None if *sequence < window.forgotten_below => Known::TooOld,
                    None => Known::New,
                },
            },
            Identity::Key(key) => match self.keys.get(key) {
                Some(remembered) => Known::Duplicate(remembered.placement.clone()),
                None => Known::New,
            },
        }
    }

    /// Puts it together from its parts: keys oldest first.
    pub(crate) fn from_parts(
        producers: BTreeMap<ProducerId, ProducerWindow>,
        keys: Vec<(Arc<str>, RememberedKey)>,
    ) -> Self {
        let of_producers: usize = producers.values().map(ProducerWindow::duplicates).sum();
        let of_keys: usize = keys.iter().map(|(_, key)| key.placement.duplicates.len()).sum();
        let key_order = keys.iter().map(|(key, _)| key.clone()).collect();
        let keys = keys.into_iter().collect();
        Self { producers, keys, key_order, duplicates: of_producers + of_keys }
    }

    /// Remembers a stored request and forgets what has fallen out of the windows.
    pub(crate) fn remember(&mut self, identity: &Identity, placement: Arc<Placement>, time_ms: i64) {
        self.duplicates += placement.duplicates.len();
        match identity {
            Identity::Producer(id, sequence) => self.remember_sequence(id, *sequence, placement, time_ms),
            Identity::Key(key) => {
                self.key_order.push_back(key.clone());
                self.keys.insert(key.clone(), RememberedKey { time_ms, placement });
                self.forget_keys(time_ms);
            }
        }
        self.forget_duplicates();
    }

    fn remember_sequence(&mut self, id: &ProducerId, sequence: u64, placement: Arc<Placement>, time_ms: i64) {
        if !self.producers.contains_key(id) && self.producers.len() >= MAX_PRODUCERS {
            // A scan for each new producer beyond the limit; few topics ever have so many.
            let idle = self.producers.iter().min_by_key(|&(id, window)| (window.last_ms, id));
            let idle = idle.map(|(id, _)| id.clone()).and_then(|id| self.producers.remove(&id));
            self.duplicates -= idle.map_or(0, |window| window.duplicates());
        }
        let window = self.producers.entry(id.clone()).or_default();
        window.last_ms = time_ms;
        window.recent.insert(sequence, placement);
        if window.recent.len() > PRODUCER_WINDOW {
            self.duplicates -= window.forget_oldest();
        }
    }

    fn forget_keys(&mut self, now_ms: i64) {
        while let Some(oldest) = self.key_order.front() {
            let expired = self.keys.get(oldest).is_none_or(|key| key.time_ms + DEDUPLICATION_WINDOW_MS < now_ms);
            if !expired && self.key_order.len() <= MAX_IDEMPOTENCY_KEYS {
                break;
            }
            self.forget_oldest_key();
        }
    }

    fn forget_oldest_key(&mut self) {
        let key = self.key_order.pop_front().and_then(|oldest| self.keys.remove(&oldest));
        self.duplicates -= key.map_or(0, |key| key.placement.duplicates.len());
    }

    /// Forgets the oldest keys, then the oldest sequences of the producers idle longest, until few enough duplicates are
    /// remembered.
    fn forget_duplicates(&mut self) {
        while self.duplicates > MAX_REMEMBERED_DUPLICATES {
            if self.key_order.len() > 1 {
                self.forget_oldest_key();
                continue;
            }
            let windows = self.producers.values_mut().filter(|window| window.recent.len() > 1);
            let Some(window) = windows.filter(|window| window.duplicates() > 0).min_by_key(|window| window.last_ms)
            else {
                return;
            };
            self.duplicates -= window.forget_oldest();
        }
    }
}

impl ProducerWindow {
    /// Runs of duplicates in its placements.
    fn duplicates(&self) -> usize {
        self.recent.values().map(|placement| placement.duplicates.len()).sum()
    }

    /// Forgets the lowest sequence; gives the number of runs of duplicates that went with it.
    fn forget_oldest(&mut self) -> usize {
        let Some((oldest, placement)) = self.recent.pop_first() else { return 0 };
        self.forgotten_below = self.forgotten_below.max(oldest.saturating_add(1));
        placement.duplicates.len()
    }
}
