//! Messages that are not ready yet, in buckets of time.

use std::collections::BTreeMap;

use super::{
    line::{Common, Line},
    types::{DEFAULT_PRIORITY, Found},
};

/// Width of the finest buckets, in milliseconds, and how much coarser each step is.
const FINEST_MS: i64 = 4;
const STEP: i64 = 64;

/// A bucket is at most this part of the time until it is due.
const SHARE: i64 = 16;

/// All messages of a bucket may differ in everything.
const COMMON: Common = Common { group: None, tenant: 0, priority: DEFAULT_PRIORITY };

/// Rounds a time up to the grid of the finest buckets: timers that are nearly due together fire together.
pub(super) const fn round_up(time_ms: i64) -> i64 {
    time_ms.saturating_add(FINEST_MS - 1) & !(FINEST_MS - 1)
}

/// Delayed messages as they were found. The further away, the wider the bucket; a bucket that is due is shared out to
/// finer ones, so a message is moved a few times at most and there are few buckets however many messages wait.
#[derive(Debug, Default)]
pub(super) struct Later {
    buckets: BTreeMap<i64, Line>,
}

impl Later {
    /// Keeps a message that wakes after `now_ms`.
    pub(super) fn push(&mut self, found: &Found, now_ms: i64) {
        let bucket = bucket(found.wake_ms(), now_ms);
        self.buckets.entry(bucket).or_default().push(&COMMON, found);
    }

    /// A message whose bucket is due; the message itself may be due later.
    pub(super) fn pop(&mut self, now_ms: i64) -> Option<Found> {
        while let Some(mut first) = self.buckets.first_entry().filter(|first| *first.key() <= now_ms) {
            if let Some((found, _)) = first.get_mut().pop(&COMMON) {
                if first.get().is_empty() {
                    first.remove();
                }
                return Some(found);
            }
            first.remove();
        }
        None
    }

    pub(super) fn next_timer(&self) -> Option<i64> {
        self.buckets.keys().next().copied()
    }
}

/// When to look at a message again that wakes at `wake_ms`: then, or some time before if that is far away.
const fn bucket(wake_ms: i64, now_ms: i64) -> i64 {
    let distance = wake_ms.saturating_sub(now_ms);
    let mut width = FINEST_MS;
    while distance / (SHARE * STEP) >= width {
        width *= STEP;
    }
    if width == FINEST_MS { round_up(wake_ms) } else { wake_ms - wake_ms.rem_euclid(width) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_never_late_nor_due_now(now in 0..1i64 << 41, distance in 1..1i64 << 40) {
            let bucket = bucket(now + distance, now);
            prop_assert!(bucket > now);
            prop_assert!(bucket < now + distance + FINEST_MS);
            prop_assert!(bucket - now >= distance - distance / 2);
        }
    }

    #[test]
    fn a_far_message_is_moved_a_few_times() {
        let (mut now, wake) = (0, 366 * 86_400_000 + 1);
        let mut steps = 0;
        while now < wake {
            now = bucket(wake, now);
            steps += 1;
        }
        assert!(steps <= 8 && now < wake + FINEST_MS, "{steps} steps, until {now}");
    }
}
