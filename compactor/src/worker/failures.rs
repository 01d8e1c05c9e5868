//! What is left alone for a while because it failed: a partition whose bytes cannot be had must not keep the others waiting.

use std::{collections::BTreeMap, time::Duration};

use brigade_index::ids::{Partition, TopicId};
use tokio::time::Instant;

/// First and longest pause after a failure; it doubles with each.
pub(crate) type Pauses = (Duration, Duration);

/// A pause that doubles.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    pub(crate) fn failed(&mut self, now: Instant, pauses: Pauses) {
        self.until = Some(now + pauses.1.min(pauses.0 * 2_u32.pow(self.failures.min(10))));
        self.failures += 1;
    }

    /// When it is over, if it ever began.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

/// Partitions that are left alone, and whether everything is.
#[derive(Debug)]
pub(super) struct Failures {
    pauses: Pauses,
    all: Pause,
    partitions: BTreeMap<(TopicId, Partition), Pause>,
}

impl Failures {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, all: Pause::default(), partitions: BTreeMap::new() }
    }

    /// A partition has failed.
    pub(super) fn failed(&mut self, topic: TopicId, partition: Partition, now: Instant) {
        self.partitions.entry((topic, partition)).or_default().failed(now, self.pauses);
    }

    /// Something failed that all jobs need.
    pub(super) fn all_failed(&mut self, now: Instant) {
        self.all.failed(now, self.pauses);
    }

    /// A job was done.
    pub(super) fn succeeded(&mut self, parts: impl Iterator<Item = (TopicId, Partition)>) {
        self.all = Pause::default();
        for part in parts {
            self.partitions.remove(&part);
        }
    }

    /// Whether jobs may be tried at all.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        self.all.is_over(now)
    }

    /// Whether a partition may be tried.
    pub(super) fn may_try_partition(&self, topic: TopicId, partition: Partition, now: Instant) -> bool {
        self.partitions.get(&(topic, partition)).is_none_or(|pause| pause.is_over(now))
    }

    /// The next time at which something that failed may be tried again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let pauses = self.partitions.values().chain([&self.all]);
        pauses.filter_map(|pause| pause.until).filter(|until| *until > now).min()
    }

    /// Everything may be tried at once.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.pauses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = (Duration::from_secs(10), Duration::from_secs(600));

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_end_with_a_success() {
        let (mut failures, now) = (Failures::new(PAUSES), Instant::now());
        let (topic, partition) = (TopicId(1), Partition(2));
        failures.failed(topic, partition, now);
        failures.failed(topic, partition, now);
        assert!(!failures.may_try_partition(topic, partition, now + Duration::from_secs(19)));
        assert!(failures.may_try_partition(topic, partition, now + Duration::from_secs(20)));
        assert!(failures.may_try_partition(topic, Partition(0), now) && failures.may_try(now));
        (0..40).for_each(|_| failures.all_failed(now));
        assert!(failures.may_try(now + PAUSES.1) && !failures.may_try(now));
        assert_eq!(failures.next(now), Some(now + Duration::from_secs(20)));
        failures.succeeded([(topic, partition)].into_iter());
        assert!(failures.may_try(now) && failures.next(now).is_none());
    }
}
