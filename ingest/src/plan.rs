//! Which batches a read needs, and which of their rows. Pure.

use arrow::array::AsArray;
use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition},
    state::{PartitionLog, Run},
};

use crate::Slice;

/// What a read may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) messages: usize,
    /// Bytes of keys, values and headers.
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) const fn is_spent(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// Rows of one batch that a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) partition: Partition,
    pub(crate) run: Run,
    /// First offset wanted.
    pub(crate) from: Offset,
    /// Messages wanted, at least one.
    pub(crate) rows: usize,
}

/// The pieces from `from` to `end` that are likely to satisfy `want`; at least one if there is any message.
///
/// How many bytes a message has is known only when its batch is decoded. Until then its share of the encoded batch
/// stands for it, which is smaller as a rule: a plan may ask for too little, then the caller plans again, and rarely
/// for too much.
pub(crate) fn plan(log: &PartitionLog, partition: Partition, from: Offset, end: Offset, want: Budget) -> Vec<Piece> {
    let (mut pieces, mut at, mut left) = (Vec::new(), from, want);
    for run in log.runs_from(from) {
        if at >= end || left.is_spent() {
            break;
        }
        let skip = at.0.saturating_sub(run.base.0);
        let until = run.end().min(end);
        let rows = (until.0 - run.base.0 - skip).min(left.messages as u64) as usize;
        let from = run.base.plus(skip);
        pieces.push(Piece { partition, run: *run, from, rows });
        let share = u64::from(run.batch.len) * rows as u64 / u64::from(run.rows.max(1));
        left.messages -= rows;
        left.bytes = left.bytes.saturating_sub(share as usize);
        at = from.plus(rows as u64);
    }
    pieces
}

/// Takes as many of a piece's rows as the budget allows, at least one if `any`. `None` if not even one fits or the batch
/// does not have the rows.
pub(crate) fn cut(piece: &Piece, messages: &Messages, budget: &mut Budget, any: bool) -> Option<Slice> {
    let first = piece.run.first_row as usize + (piece.from.0 - piece.run.base.0) as usize;
    let want = piece.rows.min(budget.messages).min(messages.rows().saturating_sub(first));
    let sizes = Sizes::of(messages);
    let fits = sizes.fitting(first, want, budget.bytes);
    let rows = if fits == 0 && any { want.min(1) } else { fits };
    if rows == 0 {
        return None;
    }
    budget.messages -= rows;
    budget.bytes = budget.bytes.saturating_sub(sizes.bytes(first, first + rows));
    Some(Slice { partition: piece.partition, base: piece.from, messages: messages.clone(), first, rows })
}

/// How many of `want` rows from `first` on have at most so many bytes.
pub(crate) fn fitting(messages: &Messages, first: usize, want: usize, bytes: usize) -> usize {
    Sizes::of(messages).fitting(first, want, bytes)
}

/// Bytes of the rows of a slice.
pub(crate) fn bytes(slice: &Slice) -> usize {
    Sizes::of(&slice.messages).bytes(slice.first, slice.first + slice.rows)
}

/// Where the variable parts of each row end; they only rise.
struct Sizes<'a> {
    keys: &'a [i32],
    values: &'a [i32],
    headers: &'a [i32],
    header_names: &'a [i32],
    header_values: &'a [i32],
}

impl<'a> Sizes<'a> {
    fn of(messages: &'a Messages) -> Self {
        let headers = messages.record_batch().column(4).as_map();
        Self {
            keys: messages.keys().value_offsets(),
            values: messages.values().value_offsets(),
            headers: headers.value_offsets(),
            header_names: headers.keys().as_string::<i32>().value_offsets(),
            header_values: headers.values().as_string::<i32>().value_offsets(),
        }
    }

    fn fitting(&self, first: usize, want: usize, bytes: usize) -> usize {
        let (mut fits, mut over) = (0, want + 1);
        while over - fits > 1 {
            let middle = usize::midpoint(fits, over);
            if self.bytes(first, first + middle) <= bytes { fits = middle } else { over = middle }
        }
        fits
    }

    /// Bytes of rows `first` to `end`.
    fn bytes(&self, first: usize, end: usize) -> usize {
        let span = |ends: &[i32], from: usize, to: usize| (ends[to] - ends[from]) as usize;
        let headers = (self.headers[first] as usize, self.headers[end] as usize);
        span(self.keys, first, end)
            + span(self.values, first, end)
            + span(self.header_names, headers.0, headers.1)
            + span(self.header_values, headers.0, headers.1)
    }
}

#[cfg(test)]
mod tests;
