//! When entries were committed and how large they are, for telling how far a region is behind.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::ids::Sequence;

/// Samples kept. When there are more, every second one goes: figures of a region that is very far behind get coarser.
const SAMPLES: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Sample {
    sequence: Sequence,
    /// Bytes of this entry and all before it in this reign.
    bytes: u64,
    at: Instant,
}

/// The committed entries of this reign.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    bytes: u64,
}

impl History {
    pub(super) fn committed(&mut self, sequence: Sequence, bytes: u64) {
        self.bytes += bytes;
        self.samples.push_back(Sample { sequence, bytes: self.bytes, at: Instant::now() });
        if self.samples.len() > SAMPLES {
            let mut odd = false;
            self.samples.retain(|_| {
                odd = !odd;
                !odd
            });
        }
    }

    /// How long ago the last entry was committed, if any was.
    pub(super) fn age(&self) -> Option<Duration> {
        self.samples.back().map(|sample| sample.at.elapsed())
    }

    /// For a region that has accepted entries up to `accepted`: bytes of this reign that it misses, and for how long the
    /// oldest entry that it misses has been committed.
    pub(super) fn behind(&self, accepted: Sequence) -> (u64, Duration) {
        let at = self.samples.partition_point(|sample| sample.sequence <= accepted);
        let Some(first) = self.samples.get(at) else { return (0, Duration::ZERO) };
        let before = at.checked_sub(1).and_then(|at| self.samples.get(at)).map_or(0, |sample| sample.bytes);
        (self.bytes - before, first.at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_counted_from_the_first_missing_entry() {
        let mut history = History::default();
        assert_eq!(history.behind(Sequence(0)), (0, Duration::ZERO));
        (1..=3).for_each(|n| history.committed(Sequence(n), 10 * n));
        assert_eq!(history.behind(Sequence(3)).0, 0);
        assert_eq!(history.behind(Sequence(1)).0, 50);
        assert_eq!(history.behind(Sequence(0)).0, 60);
    }

    #[tokio::test]
    async fn a_long_history_gets_coarser_and_stays_bounded() {
        let mut history = History::default();
        (1..=100_000).for_each(|n| history.committed(Sequence(n), 1));
        assert!(history.samples.len() <= SAMPLES);
        let (bytes, _) = history.behind(Sequence(50_000));
        assert!((49_000..=51_000).contains(&bytes), "{bytes}");
        assert_eq!(history.behind(Sequence(100_000)).0, 0);
    }
}
