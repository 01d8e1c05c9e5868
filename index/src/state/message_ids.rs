//! Deduplication ids of messages: which were stored lately, and where.
//!
//! Per topic, not per partition, so that a message finds its original wherever it was to go. What is forgotten, and when,
//! follows from applied entries alone.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use crate::{
    command::{BatchRef, DuplicateRows},
    ids::{Offset, Partition},
    limits::MAX_DEDUPLICATION_IDS,
};

/// Recent deduplication ids of one topic, each as its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageIds {
    known: BTreeMap<u128, (Partition, Offset)>,
    /// In the order in which they were stored, oldest first, with the time of their entries.
    order: VecDeque<(i64, u128)>,
}

/// What becomes of the rows of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sifted {
    /// Rows that are not stored, ascending and disjoint.
    pub(crate) dropped: Vec<Range<u32>>,
    /// Those of them whose ids are known.
    pub(crate) duplicates: Vec<DuplicateRows>,
}

impl MessageIds {
    /// Where the message with this hash of an id is.
    pub fn look_up(&self, hash: u128) -> Option<(Partition, Offset)> {
        self.known.get(&hash).copied()
    }

    /// Number of ids remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All that are remembered, oldest first: time in milliseconds since the Unix epoch, hash, place.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, u128, (Partition, Offset))> {
        self.order.iter().map(|(time_ms, hash)| (*time_ms, *hash, self.known.get(hash).copied().unwrap_or_default()))
    }

    /// Remembers an id that is not known; forgets the oldest when there are too many.
    pub(crate) fn remember(&mut self, time_ms: i64, hash: u128, place: (Partition, Offset)) {
        if self.known.insert(hash, place).is_none() {
            self.order.push_back((time_ms, hash));
        }
        if self.order.len() > MAX_DEDUPLICATION_IDS {
            self.forget_oldest();
        }
    }

    /// Forgets what was stored `window_ms` ago or earlier; everything if the window is 0.
    pub(crate) fn forget(&mut self, now_ms: i64, window_ms: u32) {
        while self.order.front().is_some_and(|(time_ms, _)| time_ms.saturating_add(window_ms.into()) <= now_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, hash)) = self.order.pop_front() {
            self.known.remove(&hash);
        }
    }

    /// Decides which rows of a batch are duplicates and remembers the ids of the others, which are stored from `base` on.
    /// Rows in `repeated` (ascending, disjoint) belong to requests that are not stored: their ids do not count.
    pub(crate) fn sift(&mut self, batch: &BatchRef, repeated: Vec<Range<u32>>, base: Offset, now_ms: i64) -> Sifted {
        let mut sifted = Sifted::default();
        let mut repeated = repeated.into_iter().peekable();
        let mut rows_dropped = 0;
        for id in &batch.ids {
            while let Some(gap) = repeated.next_if(|gap| gap.start <= id.row) {
                rows_dropped += u64::from(gap.end - gap.start);
                sifted.dropped.push(gap);
            }
            if sifted.dropped.last().is_some_and(|gap| gap.contains(&id.row)) {
                continue;
            }
            if let Some((partition, offset)) = self.look_up(id.hash) {
                sifted.dropped.push(id.row..id.row + 1);
                rows_dropped += 1;
                add_duplicate(&mut sifted.duplicates, id.row, partition, offset);
            } else {
                let offset = base.plus(u64::from(id.row) - rows_dropped);
                self.remember(now_ms, id.hash, (batch.partition, offset));
            }
        }
        sifted.dropped.extend(repeated);
        sifted
    }
}

/// Adds a duplicate, to the last run if it continues it.
fn add_duplicate(duplicates: &mut Vec<DuplicateRows>, row: u32, partition: Partition, offset: Offset) {
    match duplicates.last_mut() {
        Some(last)
            if last.first + last.rows == row
                && last.partition == partition
                && last.offset.plus(u64::from(last.rows)) == offset =>
        {
            last.rows += 1;
        }
        _ => duplicates.push(DuplicateRows { first: row, rows: 1, partition, offset }),
    }
}

#[cfg(test)]
mod tests;
