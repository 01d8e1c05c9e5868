//! How many entries hold messages that are still needed, kept up to date as runs come and go.

use std::collections::BTreeMap;

use super::{Prepared, Run, Topic, Transactions};
use crate::ids::Sequence;

/// Entries by how many runs, and transactions that wait, refer to their bodies; those that none refers to left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bodies(BTreeMap<Sequence, u32>);

impl Bodies {
    /// What topics and transactions add up to.
    pub(crate) fn of<'a>(topics: impl Iterator<Item = &'a Topic>, transactions: &Transactions) -> Self {
        let mut bodies = Self::default();
        for log in topics.flat_map(|topic| &topic.partitions) {
            log.runs().iter().for_each(|run| bodies.add(run.batch.sequence, 1));
        }
        transactions.prepared().values().for_each(|prepared| bodies.add(prepared.sequence, prepared.references()));
        bodies
    }

    /// So many more refer to an entry.
    pub(crate) fn add(&mut self, sequence: Sequence, count: usize) {
        if count > 0 {
            *self.0.entry(sequence).or_default() += count as u32;
        }
    }

    /// So many less do.
    pub(crate) fn remove(&mut self, sequence: Sequence, count: usize) {
        if let Some(left) = self.0.get_mut(&sequence) {
            *left = left.saturating_sub(count as u32);
            if *left == 0 {
                self.0.remove(&sequence);
            }
        }
    }

    /// These runs are gone.
    pub(crate) fn remove_runs(&mut self, runs: &[Run]) {
        runs.chunk_by(|one, next| one.batch.sequence == next.batch.sequence)
            .for_each(|runs| self.remove(runs[0].batch.sequence, runs.len()));
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Prepared {
    /// How often it refers to the body of its entry: once if it has messages there.
    pub(crate) fn references(&self) -> usize {
        usize::from(self.publishes.iter().any(|publish| !publish.batches.is_empty()))
    }
}
