//! Finding messages that are open, from the front of each partition on.
//!
//! A subscription that needs nothing but offsets is looked through in runs and archive files, without reading a message,
//! and only as far as needed. One that orders groups, is fair, or has messages with priorities is looked through to the end, since the next
//! message to deliver may be the last: batch by batch, those of the newest messages from the cache.

use std::sync::Arc;

use brigade_index::{
    batch::{AttributeSet, Messages},
    command::{Fairness, QueueSettings, Retry},
    filter::Filter,
    ids::{Offset, Partition, TopicId},
    shard::FetchError,
    state::{PartitionLog, Queue, QueuePartition},
};
use futures::{StreamExt, stream};
use xxhash_rust::xxh3::xxh3_64;

use super::{handle::Around, load::FETCHES};
use crate::{
    cache,
    dispatch::{At, Found, Rules},
    source::{Source, scale, sources_from},
};

/// Pieces of one step.
const PIECES: usize = 64;
/// Messages of one step: their batches are in memory together.
const ROWS: u64 = 65_536;
/// Bytes of messages that must be read for one step, about, and of those read together: an archive file is large.
const BYTES: (u64, u64) = (16 << 20, 4 << 20);

/// How a subscription looks at messages.
#[derive(Clone, Debug)]
pub(super) struct Lens {
    pub(super) rules: Rules,
    filter: Option<Filter>,
    fairness: Fairness,
}

impl Lens {
    /// `None` when the filter cannot be parsed: it was when it was set, by a newer version then.
    pub(super) fn new(settings: &QueueSettings) -> Option<Self> {
        let filter = settings.filter.as_deref().map(Filter::parse).transpose().ok()?;
        let rules = Rules {
            ordered: settings.ordered,
            fair: settings.fairness != Fairness::None,
            retry_delay_ms: settings.retry_delay_ms,
        };
        Some(Self { rules, filter, fairness: settings.fairness.clone() })
    }

    /// Whether the same messages are delivered in the same order.
    pub(super) fn is_same(&self, settings: &QueueSettings) -> bool {
        let filter = self.filter.as_ref().map(Filter::text);
        self.rules.ordered == settings.ordered
            && self.fairness == settings.fairness
            && filter == settings.filter.as_deref()
    }

    /// Whether the next message to deliver may be anywhere.
    pub(super) fn needs_all(&self, logs: &[PartitionLog]) -> bool {
        self.rules.ordered
            || self.rules.fair
            || logs.iter().any(|log| log.attributes().contains(AttributeSet::PRIORITY))
    }

    /// Whether messages must be read before it is known what they are, or whether they are there.
    fn must_read(&self, source: &Source) -> bool {
        let looks = self.rules.ordered || self.rules.fair || self.filter.is_some();
        looks || !source.attributes().is_empty() || source.has_gaps()
    }

    /// What a message is to the dispatcher; `None` if it is not wanted.
    pub(super) fn look(&self, at: At, messages: &Messages, row: usize, retry: Option<&Retry>) -> Option<Found> {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches_row(messages, row)) {
            return None;
        }
        let attributes = messages.attributes(row);
        let group = || attributes.group.map(str::as_bytes).or_else(|| messages.key(row)).map(xxh3_64);
        let tenant = match &self.fairness {
            Fairness::None => 0,
            Fairness::Group => group().unwrap_or_default(),
            Fairness::Header(name) => {
                let value = messages.headers(row).find(|(header, _)| header == name).map(|(_, value)| value);
                value.map(|value| xxh3_64(value.as_bytes())).unwrap_or_default()
            }
        };
        let found = Found {
            group: if self.rules.ordered { group() } else { None },
            tenant,
            priority: attributes.priority.unwrap_or(Found::plain(at).priority),
            ready_ms: attributes.deliver_at_ms.unwrap_or_default(),
            expires_ms: attributes.expires_at_ms,
            ..Found::plain(at)
        };
        Some(retry.map_or(found, |retry| again(found, retry)))
    }
}

/// A message that was delivered before.
pub(super) fn again(found: Found, retry: &Retry) -> Found {
    let (deliveries, first_ms) = (retry.deliveries, retry.first_ms);
    Found { ready_ms: found.ready_ms.max(retry.not_before_ms), deliveries, first_ms, ..found }
}

/// Offsets in a row that are not settled, of one batch or archive file.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) partition: Partition,
    /// Where their messages are; `None` when there are none.
    pub(super) source: Option<Source>,
    pub(super) first: Offset,
    pub(super) end: Offset,
    /// Those of them that were delivered before.
    pub(super) retries: Vec<(Offset, Retry)>,
    /// Those of them that transactions hold.
    pub(super) held: Vec<Offset>,
    /// Whether its messages must be read.
    read: bool,
}

impl Stretch {
    fn new(
        part: &QueuePartition,
        (partition, source): (Partition, Option<Source>),
        (first, end): (Offset, Offset),
        read: bool,
    ) -> Self {
        let retries = part.retries().range(first, end).map(|(offset, retry)| (offset, *retry)).collect();
        let held = part.held().range(first..end).map(|(offset, _)| *offset).collect();
        Self { partition, source, first, end, retries, held, read }
    }

    pub(super) fn at(&self, offset: Offset) -> At {
        At::new(self.partition, offset)
    }

    pub(super) fn must_read(&self) -> bool {
        self.read
    }

    /// Messages of it, and the bytes of those that must be read, about.
    fn cost(&self) -> (u64, u64) {
        let offsets = self.end.0 - self.first.0;
        match &self.source {
            None => (1, 0),
            Some(source) if self.read => (offsets, source.share(offsets)),
            Some(_) => (offsets, 0),
        }
    }

    /// The part of it between these offsets.
    fn part(&self, (first, end): (Offset, Offset)) -> Self {
        let within = |offset: &Offset| (first..end).contains(offset);
        Self {
            source: self.source.clone(),
            first,
            end,
            retries: self.retries.iter().filter(|(offset, _)| within(offset)).copied().collect(),
            held: self.held.iter().copied().filter(within).collect(),
            ..*self
        }
    }
}

impl Scanned {
    /// A stretch whose messages need not be read.
    pub(super) fn unread(stretch: Stretch) -> Self {
        Self { stretch, messages: None }
    }
}

/// What of these stretches is still not settled, now that they were read: meanwhile, messages may have been settled with
/// receipts of an earlier reign.
pub(super) fn still_open(scanned: Vec<Scanned>, queue: &Queue) -> Vec<Scanned> {
    let mut open = Vec::with_capacity(scanned.len());
    for scanned in scanned {
        let Some(part) = queue.partition(scanned.stretch.partition) else {
            open.push(scanned);
            continue;
        };
        let Scanned { stretch: whole, messages } = scanned;
        let mut from = whole.first;
        while let Some((first, end)) = part.next_unsettled(from, whole.end) {
            let from_there = (whole.partition, whole.source.clone());
            let stretch = Stretch::new(part, from_there, (first, end), whole.read);
            open.push(Scanned { stretch, messages: messages.clone() });
            from = end;
        }
    }
    open
}

/// A stretch, and its messages if they had to be read.
pub(super) struct Scanned {
    pub(super) stretch: Stretch,
    pub(super) messages: Option<Result<Arc<cache::Found>, FetchError>>,
}

/// How far each partition was looked through.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) next: Vec<Offset>,
    /// Partition that is looked at first, in turn.
    turn: usize,
}

impl Progress {
    /// Whether there is nothing to be found now.
    pub(super) fn is_done(&self, logs: &[PartitionLog]) -> bool {
        let next = |partition: usize| self.next.get(partition).copied().unwrap_or_default();
        logs.iter().enumerate().all(|(partition, log)| next(partition) >= log.high_watermark)
    }

    /// Looks at a partition again from there on, if it was looked through so far since it was last begun with.
    pub(super) fn go_back(&mut self, partition: Partition, to: Offset) {
        if let Some(next) = self.next.get_mut(partition.0 as usize) {
            *next = to.min(*next);
        }
    }

    /// The next step: stretches of each partition in turn, ascending within a partition.
    pub(super) fn step(&mut self, lens: &Lens, queue: &Queue, logs: &[PartitionLog]) -> Vec<Stretch> {
        self.next.resize(logs.len().max(self.next.len()), Offset(0));
        let (mut stretches, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for round in 0..logs.len() {
            let number = (self.turn + round) % logs.len();
            let (log, partition) = (&logs[number], Partition(number as u32));
            let fresh = QueuePartition::default();
            let part = queue.partition(partition).unwrap_or(&fresh);
            while stretches.len() < PIECES && rows < ROWS && bytes < BYTES.0 {
                let from = self.next[number].max(log.log_start);
                let Some(stretch) = next_stretch(lens, part, log, partition, from) else {
                    self.next[number] = log.high_watermark.max(self.next[number]);
                    break;
                };
                let cost = stretch.cost();
                (rows, bytes) = (rows + cost.0, bytes + cost.1);
                self.next[number] = stretch.end;
                stretches.push(stretch);
            }
        }
        self.turn = (self.turn + 1) % logs.len().max(1);
        stretches
    }
}

fn next_stretch(
    lens: &Lens,
    part: &QueuePartition,
    log: &PartitionLog,
    partition: Partition,
    from: Offset,
) -> Option<Stretch> {
    let (first, end) = part.next_unsettled(from, log.high_watermark)?;
    let next = sources_from(log, first).next();
    let Some(source) = next.clone().filter(|source| source.first() <= first) else {
        // There is nothing before the next source. As many offsets as a decision settles at once.
        let until = next.map_or(end, |next| next.first()).min(first.plus(u32::MAX.into()));
        return Some(Stretch::new(part, (partition, None), (first, end.min(until)), false));
    };
    let (end, read) = (end.min(source.end()).min(first.plus(ROWS)), lens.must_read(&source));
    let most = match &source {
        Source::File(_) if read => scale(source.rows(), BYTES.1, source.share(source.rows())).max(1),
        _ => ROWS,
    };
    let end = end.min(Offset(first.0.saturating_add(most)));
    Some(Stretch::new(part, (partition, Some(source)), (first, end), read))
}

/// Reads the stretches whose messages must be read, several at a time.
pub(super) async fn read(around: Arc<Around>, topic: TopicId, stretches: Vec<Stretch>) -> Vec<Scanned> {
    let split = |stretch: Stretch| async {
        match &stretch.source {
            Some(source) if stretch.read => {
                let parts = around.cache.parts(topic, stretch.partition, source, (stretch.first, stretch.end)).await;
                parts.into_iter().map(|part| stretch.part(part)).collect()
            }
            _ => vec![stretch],
        }
    };
    let stretches = stream::iter(stretches).map(split).buffered(FETCHES).flat_map(stream::iter);
    let read = |stretch: Stretch| async {
        let messages = match &stretch.source {
            Some(source) if stretch.read => {
                let within = (stretch.first, stretch.end);
                Some(around.cache.chunks(topic, stretch.partition, source, within).await.map(Arc::new))
            }
            _ => None,
        };
        Scanned { stretch, messages }
    };
    stretches.map(read).buffered(FETCHES).collect().await
}
