//! Looking for messages that are open.

use brigade_index::{
    command::Retry,
    ids::{Offset, Partition},
    shard::FetchError,
    state::Topic,
};
use tokio::time::Instant;

use super::{AHEAD, Event, PAUSE, Task};
use crate::{
    cache,
    dispatch::{At, Counts, Dispatcher, Found},
    queue::scan::{self, Scanned, Stretch, again},
};

/// The logs may have been cut off at their fronts.
fn drop_cut_off(dispatcher: &mut Dispatcher, topic: &Topic, now_ms: i64) {
    for (number, log) in (0..).zip(&topic.partitions) {
        if log.log_start > Offset(0) {
            dispatcher.remove_below(Partition(number), log.log_start, now_ms);
        }
    }
}

impl Task {
    /// What is in flight and delayed, without messages that are gone.
    pub(super) fn counts(&mut self) -> Counts {
        if let Some(topic) = self.around.log.state().topic(self.of.topic) {
            drop_cut_off(&mut self.dispatcher, topic, self.around.env.clock.now_ms());
        }
        self.dispatcher.counts()
    }

    /// Looks on, if somebody waits and more is needed; watches for growth where everything was looked through. `true` when
    /// something was found at once, without reading.
    pub(super) fn scan(&mut self) -> bool {
        if self.waiters.is_empty() || self.scanning || self.paused.is_some() || self.pending.is_full() {
            return false;
        }
        let stretches = {
            let state = self.around.log.state();
            let Some(topic) = state.topic(self.of.topic) else { return false };
            let Some(queue) = self.of.find(Some(topic)) else { return false };
            let enough = self.dispatcher.counts().waiting >= AHEAD && !self.lens.needs_all(&topic.partitions);
            if enough {
                return false;
            }
            drop_cut_off(&mut self.dispatcher, topic, self.around.env.clock.now_ms());
            self.progress.step(&self.lens, queue, &topic.partitions)
        };
        if stretches.is_empty() {
            self.watch();
            return false;
        }
        let (around, incarnation) = (self.around.clone(), self.incarnation);
        if stretches.iter().any(Stretch::must_read) {
            self.scanning = true;
            let read = scan::read(around, self.of.topic, stretches);
            self.events.push(Box::pin(async move { Event::Scanned(incarnation, read.await) }));
            return false;
        }
        self.digest(stretches.into_iter().map(Scanned::unread).collect());
        true
    }

    /// Whether everything was looked through.
    pub(super) fn has_seen_all(&self) -> bool {
        let state = self.around.log.state();
        !self.scanning && state.topic(self.of.topic).is_none_or(|topic| self.progress.is_done(&topic.partitions))
    }

    /// Wakes the task when a partition has grown, or one is added.
    fn watch(&mut self) {
        for (number, next) in (0..).map(Partition).zip(self.progress.next.clone()) {
            if !self.watched.contains(&number) {
                // Whoever waits for growth past an offset wakes when the high watermark is above it.
                let grown = self.around.log.grown_past(self.of.topic, number, next);
                self.watch_one(number, grown);
            }
        }
        let next = Partition(self.progress.next.len() as u32);
        let added = self.around.log.has_partition(self.of.topic, next);
        self.watch_one(next, added);
    }

    fn watch_one(&mut self, partition: Partition, grown: impl Future<Output = ()> + Send + 'static) {
        if self.watched.insert(partition) {
            self.events.push(Box::pin(async move {
                grown.await;
                Event::Grown(partition)
            }));
        }
    }

    /// Gives the dispatcher what was read.
    pub(super) fn digest_read(&mut self, scanned: Vec<Scanned>) {
        let open = {
            let state = self.around.log.state();
            let Some(queue) = self.of.find(state.topic(self.of.topic)) else { return };
            scan::still_open(scanned, queue)
        };
        self.digest(open);
    }

    /// Gives the dispatcher what was found.
    pub(super) fn digest(&mut self, scanned: Vec<Scanned>) {
        let now_ms = self.now_ms();
        let mut failed = std::collections::BTreeSet::new();
        for Scanned { stretch, messages } in scanned {
            // What comes behind a stretch that could not be read is looked at again with it, in its order.
            if failed.contains(&stretch.partition) {
                continue;
            }
            match messages {
                None if stretch.source.is_none() => self.skip(stretch.partition, (stretch.first, stretch.end)),
                None => self.add_plain(&stretch, now_ms),
                Some(Ok(found)) => self.add_read(&stretch, &found, now_ms),
                Some(Err(error)) => {
                    tracing::warn!(%error, subscription = %self.of.name, offset = %stretch.first, "messages cannot be read");
                    failed.insert(stretch.partition);
                    if matches!(error, FetchError::Damaged { .. }) {
                        // Nobody will ever read them: those behind them go on.
                        failed.remove(&stretch.partition);
                        self.add_plain(&stretch, now_ms);
                    } else {
                        self.progress.go_back(stretch.partition, stretch.first);
                        self.paused = Some(Instant::now() + PAUSE);
                    }
                }
            }
        }
        self.last_used = Instant::now();
    }

    /// Messages of which nothing needs to be known but where they are.
    fn add_plain(&mut self, stretch: &Stretch, now_ms: i64) {
        let mut known: Vec<(Offset, Option<Retry>)> =
            stretch.retries.iter().map(|(offset, retry)| (*offset, Some(*retry))).collect();
        let held = stretch.held.iter().filter(|offset| !stretch.retries.iter().any(|(other, _)| other == *offset));
        known.extend(held.map(|offset| (*offset, None)));
        known.sort_unstable_by_key(|(offset, _)| *offset);
        let mut first = stretch.first;
        for (offset, retry) in known {
            self.dispatcher.add_run(stretch.at(first), offset.0 - first.0);
            let at = stretch.at(offset);
            let found = retry.map_or(Found::plain(at), |retry| again(Found::plain(at), &retry));
            self.dispatcher.add(found, now_ms);
            first = offset.next();
        }
        self.dispatcher.add_run(stretch.at(first), stretch.end.0 - first.0);
        self.keep_held(stretch);
    }

    fn add_read(&mut self, stretch: &Stretch, found: &cache::Found, now_ms: i64) {
        // Behind the last message that is wanted.
        let mut open = stretch.first;
        for chunk in &found.chunks {
            for rows in chunk.stretches(stretch.first, stretch.end) {
                for (offset, row) in (rows.base.0..).map(Offset).zip(rows.first..rows.first + rows.rows) {
                    let retry = stretch.retries.binary_search_by_key(&offset, |(offset, _)| *offset).ok();
                    let retry = retry.map(|at| &stretch.retries[at].1);
                    match self.lens.look(stretch.at(offset), &chunk.messages, row, retry) {
                        Some(found) => {
                            self.skip(stretch.partition, (open, offset));
                            self.dispatcher.add(found, now_ms);
                            open = offset.next();
                        }
                        None => self.around.metrics.queue_skipped(1),
                    }
                }
            }
        }
        self.skip(stretch.partition, (open, stretch.end));
        self.keep_held(stretch);
    }

    /// Messages that the filter does not want, and offsets that have none any more, are settled when there is an occasion.
    pub(super) fn skip(&mut self, partition: Partition, (first, end): (Offset, Offset)) {
        if first < end {
            // Stretches have no more offsets than 32 bits count.
            self.pending.skip(At::new(partition, first), (end.0 - first.0) as u32);
            self.lazy_since.get_or_insert_with(Instant::now);
        }
    }

    /// What a transaction acknowledges is not delivered until it is decided.
    fn keep_held(&mut self, stretch: &Stretch) {
        for offset in &stretch.held {
            // One that is known is held already.
            let _ = self.dispatcher.adopt(stretch.at(*offset));
        }
    }
}
