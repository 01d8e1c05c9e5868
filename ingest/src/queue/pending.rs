//! What was decided and is not committed yet, and who waits for it. Pure.

use std::{collections::BTreeMap, mem};

use brigade_index::{
    command::{DeadLetter, Retry, Settle, SettlePartition},
    ids::{Offset, Partition},
};

use super::handle::Of;
use crate::dispatch::At;

/// Messages of one proposal, at most: bounds its entry.
const MAX_MESSAGES: usize = 100_000;

/// Decisions that nobody waits for go with others, or when there are so many.
const MANY: usize = 2_000;

/// What is to be committed. `A` is whoever waits for it.
#[derive(Debug)]
pub(super) struct Pending<A> {
    parts: BTreeMap<Partition, Part>,
    /// Messages that the dispatcher holds or has picked until this is committed.
    kept: Vec<Kept>,
    answers: Vec<A>,
    decisions: usize,
}

/// A message that is kept out of turn while it is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) at: At,
    /// Picked by the task itself; otherwise held by a receipt.
    pub(super) picked: bool,
}

#[derive(Debug, Default)]
struct Part {
    settled: Vec<(Offset, u32)>,
    /// Settled because the filter does not want them.
    skipped: Vec<(Offset, u32)>,
    retries: BTreeMap<Offset, Retry>,
    dead: BTreeMap<Offset, DeadLetter>,
}

/// Decisions that are committed together.
#[derive(Debug)]
pub(super) struct Together<A> {
    pub(super) settle: Settle,
    pub(super) after: After<A>,
}

/// What is to be done when it is known what came of decisions.
#[derive(Debug)]
pub(super) struct After<A> {
    pub(super) kept: Vec<Kept>,
    pub(super) answers: Vec<A>,
    /// The first message of each partition that is settled because nobody gets it: nothing else remembers that.
    pub(super) skipped: Vec<(Partition, Offset)>,
}

impl<A> Default for Pending<A> {
    fn default() -> Self {
        Self { parts: BTreeMap::new(), kept: Vec::new(), answers: Vec::new(), decisions: 0 }
    }
}

impl<A> Pending<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.decisions == 0 && self.answers.is_empty()
    }

    /// Whether somebody waits for it, or it is much.
    pub(super) fn is_urgent(&self) -> bool {
        !self.answers.is_empty() || !self.kept.is_empty() || self.decisions >= MANY
    }

    pub(super) fn is_full(&self) -> bool {
        self.decisions >= MAX_MESSAGES
    }

    fn part(&mut self, at: At) -> &mut Part {
        self.decisions += 1;
        self.parts.entry(at.partition()).or_default()
    }

    /// Settles messages in a row; they need not be known to the dispatcher.
    pub(super) fn settle(&mut self, at: At, count: u32) {
        self.part(at).settled.push((at.offset(), count));
    }

    /// Settles messages in a row that the filter does not want.
    pub(super) fn skip(&mut self, at: At, count: u32) {
        self.part(at).skipped.push((at.offset(), count));
    }

    /// Messages that the filter did not want are looked at again.
    pub(super) fn forget_skipped(&mut self) {
        for part in self.parts.values_mut() {
            self.decisions -= part.skipped.len();
            part.skipped.clear();
        }
    }

    /// Keeps a message until it is committed that it is settled.
    pub(super) fn keep(&mut self, at: At, picked: bool) {
        self.kept.push(Kept { at, picked });
    }

    pub(super) fn retry(&mut self, at: At, retry: Retry) {
        self.part(at).retries.insert(at.offset(), retry);
    }

    pub(super) fn bury(&mut self, at: At, letter: DeadLetter) {
        self.part(at).dead.insert(at.offset(), letter);
    }

    /// Tells somebody when everything so far is committed.
    pub(super) fn answer(&mut self, answer: A) {
        self.answers.push(answer);
    }

    /// Takes everything.
    pub(super) fn take(&mut self, of: &Of) -> Together<A> {
        let Self { parts, kept, answers, .. } = mem::take(self);
        let first = |(partition, part): (&Partition, &Part)| {
            let first = part.skipped.iter().map(|(first, _)| *first).min();
            first.map(|first| (*partition, first))
        };
        let skipped = parts.iter().filter_map(first).collect();
        let partition = |(partition, mut part): (Partition, Part)| {
            part.settled.append(&mut part.skipped);
            SettlePartition {
                settled: runs(part.settled),
                retries: part.retries.into_iter().collect(),
                dead: part.dead.into_iter().collect(),
                ..SettlePartition::new(partition)
            }
        };
        let partitions = parts.into_iter().map(partition).collect();
        let settle = Settle { topic: of.topic, name: of.name.clone(), subscription: of.id, partitions };
        Together { settle, after: After { kept, answers, skipped } }
    }
}

/// Runs in order, as few as possible. None is settled twice as long as receipts are good once, but a run that is found again
/// after the subscription began anew may be.
pub(super) fn runs(mut settled: Vec<(Offset, u32)>) -> Vec<(Offset, u32)> {
    settled.sort_unstable();
    let mut runs: Vec<(Offset, u32)> = Vec::new();
    for (first, count) in settled {
        let end = first.plus(u64::from(count));
        let last = runs.last().map(|(start, length)| (*start, start.plus(u64::from(*length))));
        match last {
            Some((_, until)) if end <= until => {}
            // A run has as many messages as 32 bits count.
            Some((start, until)) if first <= until && u32::try_from(end.0 - start.0).is_ok() => {
                runs.pop();
                runs.push((start, (end.0 - start.0) as u32));
            }
            Some((_, until)) if first < until => runs.push((until, (end.0 - until.0) as u32)),
            _ => runs.push((first, count)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_few_and_cover_the_same(given in proptest::collection::vec((0..60u64, 1..6u32), 0..20)) {
            let offsets = |runs: &[(u64, u32)]| {
                runs.iter().flat_map(|(first, count)| *first..first + u64::from(*count)).collect::<BTreeSet<_>>()
            };
            let joined: Vec<_> = runs(given.iter().map(|(first, count)| (Offset(*first), *count)).collect());
            let plain: Vec<_> = joined.iter().map(|(first, count)| (first.0, *count)).collect();
            prop_assert_eq!(offsets(&plain), offsets(&given));
            prop_assert!(plain.windows(2).all(|pair| pair[0].0 + u64::from(pair[0].1) < pair[1].0));
        }
    }
}
