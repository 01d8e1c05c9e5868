//! What the planner knows from one plan to the next.

use std::collections::BTreeMap;

use brigade_index::{
    ids::TopicId,
    state::{ShardState, Topic},
};

use super::{At, Candidate, Planner, merge::Group};

/// Files of a partition, and what else decides whether they are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    fingerprint: u64,
    time_ms: u64,
    bytes: u64,
}

impl Seen {
    fn of(at: &At<'_>) -> Self {
        let fingerprint = at.log.file_totals().fingerprint;
        Self { fingerprint, time_ms: at.retention.time_ms, bytes: at.retention.bytes }
    }
}

/// Files, by topic and partition, of which none are to be merged: time alone does not change that.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<TopicId, Vec<Option<Seen>>>);

impl Memory {
    pub(super) fn forget_deleted(&mut self, state: &ShardState) {
        if self.0.len() > state.topics().len() {
            self.0.retain(|topic, _| state.topic(*topic).is_some());
        }
    }

    fn of(&mut self, at: &At<'_>) -> Option<&mut Option<Seen>> {
        let Topic { id, partitions, .. } = at.topic;
        let known = self.0.entry(*id).or_default();
        known.resize(partitions.len(), None);
        known.get_mut(at.partition.0 as usize)
    }
}

impl Planner<'_> {
    /// The first neighbours in a partition that are to be merged, unless it is known that there are none.
    pub(super) fn merge_unless_known(&self, at: &At<'_>, memory: &mut Memory) -> Option<Candidate<Group>> {
        if self.claims.contains_key(&(at.topic.id, at.partition)) {
            return self.merge(at);
        }
        let (seen, known) = (Seen::of(at), memory.of(at)?);
        if *known == Some(seen) {
            return None;
        }
        let found = self.merge(at);
        *known = found.is_none().then_some(seen);
        found
    }
}
