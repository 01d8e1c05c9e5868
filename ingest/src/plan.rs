//! Which batches and which parts of archive files a read needs, and which of their rows. Pure.

use arrow::array::AsArray;
use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition},
    state::PartitionLog,
};

use crate::{
    Slice,
    chunk::{Chunk, Stretch},
    source::{Source, scale, sources_from},
};

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

/// Offsets of one source that a read wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) partition: Partition,
    pub(crate) source: Source,
    /// First offset wanted.
    pub(crate) from: Offset,
    /// The offset after the last wanted.
    pub(crate) until: Offset,
    /// Messages that are expected of it.
    rows: usize,
}

impl Piece {
    /// The part of it between these offsets.
    pub(crate) fn part(&self, (from, until): (Offset, Offset)) -> Self {
        Self { from, until, ..self.clone() }
    }
}

/// What a read fetches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pieces: Vec<Piece>,
    /// There are no messages before this offset but those of the pieces.
    pub(crate) end: Offset,
}

impl Plan {
    /// Messages that are expected of it.
    pub(crate) fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }
}

/// The pieces from `from` to `end` that are likely to satisfy `want`; at least one if there is any message.
///
/// How many bytes a message has is known only when its batch is decoded. Until then its share of the encoded batch, or
/// of what the file says, stands for it: a plan may ask for too little, then the caller plans again, and rarely for too
/// much.
pub(crate) fn plan(log: &PartitionLog, partition: Partition, from: Offset, end: Offset, want: Budget) -> Plan {
    let (mut pieces, mut at, mut left) = (Vec::new(), from, want);
    if left.is_spent() {
        return Plan { pieces, end: from };
    }
    for source in sources_from(log, from) {
        if source.first() >= end {
            break;
        }
        let (from, last) = (source.first().max(at), source.end().min(end));
        let span = source.end().0 - source.first().0;
        // A run is one batch: more rows of it cost nothing.
        let fit = match source {
            Source::Run(_) => u64::MAX,
            Source::File(_) => scale(source.rows(), left.bytes as u64, source.share(source.rows())).saturating_add(1),
        };
        // Where there are gaps, as many offsets as so many messages take on average.
        let offsets = scale(fit.min(left.messages as u64), span, source.rows()).max(1);
        let until = last.min(Offset(from.0.saturating_add(offsets)));
        let rows = scale(until.0 - from.0, source.rows(), span).clamp(1, left.messages as u64);
        left.messages -= rows as usize;
        left.bytes = left.bytes.saturating_sub(usize::try_from(source.share(rows)).unwrap_or(usize::MAX));
        pieces.push(Piece { partition, source, from, until, rows: rows as usize });
        at = until;
        if until < last || left.is_spent() {
            return Plan { pieces, end: until };
        }
    }
    Plan { pieces, end }
}

/// Takes as many of a piece's messages as the budget allows, at least one if `any`. Gives the first one that it did not
/// take, if there is one.
pub(crate) fn cut(
    piece: &Piece,
    chunks: &[Chunk],
    budget: &mut Budget,
    mut any: bool,
    slices: &mut Vec<Slice>,
) -> Option<Offset> {
    for chunk in chunks {
        let sizes = Sizes::of(&chunk.messages);
        for Stretch { base, first, rows } in chunk.stretches(piece.from, piece.until) {
            let want = rows.min(budget.messages);
            let fits = sizes.fitting(first, want, budget.bytes);
            let taken = if fits == 0 && any { want.min(1) } else { fits };
            if taken > 0 {
                any = false;
                budget.messages -= taken;
                budget.bytes = budget.bytes.saturating_sub(sizes.bytes(first, first + taken));
                let (partition, messages) = (piece.partition, chunk.messages.clone());
                slices.push(Slice { partition, base, messages, first, rows: taken });
            }
            if taken < rows {
                return Some(base.plus(taken as u64));
            }
        }
    }
    None
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
