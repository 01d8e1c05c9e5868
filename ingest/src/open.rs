//! What is open: messages that wait to go into an entry, and the rules by which they leave. Pure; the driver is
//! [`batcher`](crate::batcher).
//!
//! The rules: with nothing in flight everything open goes out at once, so a lone publish never waits. Otherwise messages
//! gather until they fill an entry or the oldest of them has waited for the linger. What is not full leaves no sooner than
//! the pace after the flush before it: each flush is a request to every store, and requests are the bill. At most
//! [`MAX_FLIGHTS`] flushes are in flight; what is full meanwhile waits in line. A request is never split between flushes.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use brigade_index::{
    batch::{Columns, Compression},
    command::{IdRow, IdempotentRequest, OwnedRows},
    ids::{Partition, TopicId},
    limits::{DEFAULT_WINDOW, ENTRY_TARGET_BYTES, MAX_BATCH_ROWS, MAX_MESSAGES_PER_PUBLISH},
    names::TopicName,
};

/// Flushes in flight at once: one for each append that the journal takes at once.
pub(crate) const MAX_FLIGHTS: usize = DEFAULT_WINDOW;

// A message counts for at least 32 bytes, so a flush of many requests stays below the row limit by its bytes alone.
const _: () = assert!(ENTRY_TARGET_BYTES / 32 <= MAX_BATCH_ROWS && MAX_MESSAGES_PER_PUBLISH <= MAX_BATCH_ROWS);

/// Messages of one request for one partition.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    pub(crate) columns: Columns,
    /// Rows with a deduplication id, ascending.
    pub(crate) ids: Vec<IdRow>,
}

impl Part {
    /// Approximate bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.bytes() + size_of_val(self.ids.as_slice())
    }
}

/// A publish request on its way into a flush. `T` is whoever waits for it.
#[derive(Debug)]
pub(crate) struct Request<T> {
    pub(crate) name: TopicName,
    pub(crate) topic: TopicId,
    pub(crate) compression: Compression,
    pub(crate) parts: Vec<Part>,
    pub(crate) identity: Option<IdempotentRequest>,
    pub(crate) waiting: T,
}

impl<T> Request<T> {
    fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }
}

/// Messages of one partition that leave together.
#[derive(Debug, Default)]
pub(crate) struct OpenBatch {
    pub(crate) partition: Partition,
    pub(crate) columns: Columns,
    /// Rows of requests with an identity.
    pub(crate) owned: Vec<OwnedRows>,
    /// Rows with a deduplication id, ascending.
    pub(crate) ids: Vec<IdRow>,
}

/// Where the messages of a request in one partition are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of the batch within its topic.
    pub(crate) batch: u32,
    /// First row.
    pub(crate) first: u32,
    /// Number of rows.
    pub(crate) rows: u32,
}

/// A request whose messages are in batches.
#[derive(Debug)]
pub(crate) struct Batched<T> {
    /// One for each partition that it used, in the order of first use.
    pub(crate) spans: Vec<Span>,
    /// Its index among the topic's requests with an identity.
    pub(crate) request: Option<u32>,
    pub(crate) waiting: T,
}

/// Everything of one topic in a flush: one publish command.
#[derive(Debug)]
pub(crate) struct OpenTopic<T> {
    pub(crate) topic: TopicId,
    pub(crate) name: TopicName,
    pub(crate) compression: Compression,
    pub(crate) batches: Vec<OpenBatch>,
    pub(crate) requests: Vec<IdempotentRequest>,
    pub(crate) batched: Vec<Batched<T>>,
    slots: BTreeMap<Partition, u32>,
}

impl<T> OpenTopic<T> {
    fn new(topic: TopicId, name: TopicName, compression: Compression) -> Self {
        let (batches, requests, batched) = (Vec::new(), Vec::new(), Vec::new());
        Self { topic, name, compression, batches, requests, batched, slots: BTreeMap::new() }
    }

    fn add(&mut self, request: Request<T>) {
        self.compression = request.compression;
        let index = request.identity.is_some().then_some(self.requests.len() as u32);
        self.requests.extend(request.identity);
        let mut spans = Vec::with_capacity(request.parts.len());
        for Part { partition, columns, ids } in request.parts {
            let batch = *self.slots.entry(partition).or_insert(self.batches.len() as u32);
            if batch as usize == self.batches.len() {
                self.batches.push(OpenBatch { partition, ..OpenBatch::default() });
            }
            let open = &mut self.batches[batch as usize];
            let (first, rows) = (open.columns.rows() as u32, columns.rows() as u32);
            open.owned.extend(index.map(|request| OwnedRows { first, rows, request }));
            open.ids.extend(ids.into_iter().map(|id| IdRow { row: first + id.row, ..id }));
            open.columns.append(columns);
            spans.push(Span { batch, first, rows });
        }
        self.batched.push(Batched { spans, request: index, waiting: request.waiting });
    }
}

/// What leaves together, in one proposal.
#[derive(Debug)]
pub(crate) struct Flush<T> {
    pub(crate) topics: BTreeMap<TopicId, OpenTopic<T>>,
    /// Approximate bytes of all columns.
    pub(crate) bytes: usize,
}

impl<T> Default for Flush<T> {
    fn default() -> Self {
        Self { topics: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Flush<T> {
    /// These requests, each whole.
    pub(crate) fn of(requests: impl IntoIterator<Item = Request<T>>) -> Self {
        let mut flush = Self::default();
        requests.into_iter().for_each(|request| flush.add(request));
        flush
    }

    fn add(&mut self, request: Request<T>) {
        self.bytes += request.bytes();
        let topic = self.topics.entry(request.topic);
        topic.or_insert_with(|| OpenTopic::new(request.topic, request.name.clone(), request.compression)).add(request);
    }
}

/// Why a flush left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    /// Nothing was in flight.
    Idle,
    /// It was full.
    Full,
    /// Its oldest message had waited long enough.
    Linger,
    /// The node is draining.
    Drain,
}

/// What is open and what is in flight. Times are measured from any fixed moment.
#[derive(Debug)]
pub(crate) struct OpenBatches<T> {
    linger: Duration,
    pace: Duration,
    /// When the last flush left.
    left: Option<Duration>,
    open: Flush<T>,
    /// When the oldest open request came.
    oldest: Duration,
    full: VecDeque<Flush<T>>,
    in_flight: usize,
    draining: bool,
}

impl<T> OpenBatches<T> {
    pub(crate) fn new(linger: Duration, pace: Duration) -> Self {
        let (open, full) = (Flush::default(), VecDeque::new());
        Self { linger, pace, left: None, open, oldest: Duration::ZERO, full, in_flight: 0, draining: false }
    }

    /// Adds a request, whole.
    pub(crate) fn push(&mut self, request: Request<T>, now: Duration) {
        let bytes = request.bytes();
        // Full before it is over the target: one large request is then alone in its flush and its columns are moved,
        // not copied.
        if !self.open.topics.is_empty() && self.open.bytes + bytes > ENTRY_TARGET_BYTES {
            self.full.push_back(mem::take(&mut self.open));
        }
        if self.open.topics.is_empty() {
            self.oldest = now;
        }
        self.open.add(request);
        if self.open.bytes >= ENTRY_TARGET_BYTES {
            self.full.push_back(mem::take(&mut self.open));
        }
    }

    /// From now on nothing lingers.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Flushes that were in flight and no longer are.
    pub(crate) fn finished(&mut self, flushes: usize) {
        assert!(flushes <= self.in_flight, "only what was taken can finish");
        self.in_flight -= flushes;
    }

    /// The next flush if one is to leave now; it is in flight from here on.
    pub(crate) fn take(&mut self, now: Duration) -> Option<(Flush<T>, Trigger)> {
        if self.in_flight >= MAX_FLIGHTS {
            return None;
        }
        let taken = if let Some(full) = self.full.pop_front() {
            (full, Trigger::Full)
        } else {
            let trigger = self.trigger(now)?;
            (mem::take(&mut self.open), trigger)
        };
        self.in_flight += 1;
        self.left = Some(now);
        Some(taken)
    }

    fn trigger(&self, now: Duration) -> Option<Trigger> {
        if self.open.topics.is_empty() {
            None
        } else if self.draining {
            Some(Trigger::Drain)
        } else if now < self.paced() {
            None
        } else if self.in_flight == 0 {
            Some(Trigger::Idle)
        } else {
            (now >= self.oldest + self.linger).then_some(Trigger::Linger)
        }
    }

    /// What is not full does not leave before.
    fn paced(&self) -> Duration {
        self.left.map_or(Duration::ZERO, |left| left + self.pace)
    }

    /// When to ask again although nothing has come or finished.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let waits = !self.open.topics.is_empty() && self.in_flight < MAX_FLIGHTS;
        let lingered = if self.in_flight == 0 { Duration::ZERO } else { self.oldest + self.linger };
        waits.then(|| lingered.max(self.paced()))
    }

    /// Whether nothing is open and nothing in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.full.is_empty() && self.open.topics.is_empty()
    }
}

#[cfg(test)]
mod tests;
