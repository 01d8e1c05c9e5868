//! Messages decoded together, and at which offsets they are. Pure.

use std::sync::Arc;

use brigade_index::{batch::Messages, ids::Offset, state::Run};

/// Messages of a batch, or of a block of an archive file. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) messages: Messages,
    places: Places,
}

/// Which row is at which offset.
#[derive(Clone, Debug)]
enum Places {
    /// Row `first` is at `base`, and those behind it follow without gaps, `rows` in all.
    Dense { base: Offset, first: usize, rows: usize },
    /// The offset of each row; they rise.
    Sparse(Arc<[u64]>),
}

/// Messages with consecutive offsets in consecutive rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) base: Offset,
    pub(crate) first: usize,
    pub(crate) rows: usize,
}

impl Chunk {
    /// The messages of a run out of its batch; the number of rows that the batch has if these are too few.
    pub(crate) fn of_run(run: &Run, messages: Messages) -> Result<Self, usize> {
        let (first, rows) = (run.first_row as usize, run.rows as usize);
        if messages.rows() < first + rows {
            return Err(messages.rows());
        }
        Ok(Self { messages, places: Places::Dense { base: run.base, first, rows } })
    }

    /// Messages at these offsets, which rise; `None` if they do not, or are not one for each row.
    pub(crate) fn at(messages: Messages, offsets: Vec<u64>) -> Option<Self> {
        if offsets.len() != messages.rows() || !offsets.windows(2).all(|pair| pair[0] < pair[1]) {
            return None;
        }
        let (base, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        let places = if last - base < offsets.len() as u64 {
            Places::Dense { base: Offset(base), first: 0, rows: offsets.len() }
        } else {
            Places::Sparse(offsets.into())
        };
        Some(Self { messages, places })
    }

    /// Bytes that it occupies.
    pub(crate) fn memory(&self) -> usize {
        let offsets = match &self.places {
            Places::Dense { .. } => 0,
            Places::Sparse(offsets) => size_of_val(&**offsets),
        };
        self.messages.memory() + offsets
    }

    /// The row of a message, if there is one at this offset.
    pub(crate) fn row(&self, offset: Offset) -> Option<usize> {
        match &self.places {
            Places::Dense { base, first, rows } => {
                let row = usize::try_from(offset.0.checked_sub(base.0)?).ok()?;
                (row < *rows).then_some(first + row)
            }
            Places::Sparse(offsets) => offsets.binary_search(&offset.0).ok(),
        }
    }

    /// The messages from `from` on and before `until`, as few stretches as there are gaps.
    pub(crate) fn stretches(&self, from: Offset, until: Offset) -> impl Iterator<Item = Stretch> + '_ {
        let mut from = from;
        std::iter::from_fn(move || {
            let stretch = self.next(from).filter(|stretch| stretch.base < until)?;
            from = stretch.base.plus(stretch.rows as u64);
            let rows = (stretch.rows as u64).min(until.0 - stretch.base.0) as usize;
            Some(Stretch { rows, ..stretch })
        })
    }

    /// The first stretch from `from` on.
    fn next(&self, from: Offset) -> Option<Stretch> {
        match &self.places {
            Places::Dense { base, first, rows } => {
                let skip = usize::try_from(from.0.saturating_sub(base.0)).unwrap_or(usize::MAX);
                let stretch = || Stretch { base: base.plus(skip as u64), first: first + skip, rows: rows - skip };
                (skip < *rows).then(stretch)
            }
            Places::Sparse(offsets) => {
                let first = offsets.partition_point(|offset| *offset < from.0);
                let base = *offsets.get(first)?;
                let follows = |pair: &&[u64]| pair[0] + 1 == pair[1];
                let rows = 1 + offsets[first..].windows(2).take_while(follows).count();
                Some(Stretch { base: Offset(base), first, rows })
            }
        }
    }

    /// The first message from `from` on, in the order of offsets, whose timestamp is not before `time_ms`.
    pub(crate) fn at_time(&self, from: Offset, time_ms: i64) -> Option<Offset> {
        let timestamps = self.messages.timestamps();
        self.stretches(from, Offset(u64::MAX)).find_map(|Stretch { base, first, rows }| {
            let late = timestamps[first..first + rows].iter().position(|timestamp| *timestamp >= time_ms)?;
            Some(base.plus(late as u64))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{borrow::Cow, collections::BTreeSet};

    use brigade_index::batch::{Attributes, Columns, MessageRef, ValueKind};
    use proptest::prelude::*;

    use super::*;

    /// Messages whose keys, values and headers together have these sizes, and whose timestamps are their rows.
    pub(crate) fn messages(sizes: &[usize]) -> Messages {
        let mut columns = Columns::default();
        for (row, size) in sizes.iter().enumerate() {
            let (key, value) = (vec![1; size / 3], vec![2; size / 3]);
            let headers = [(Cow::Borrowed(""), Cow::Owned("x".repeat(size - 2 * (size / 3))))];
            let headers = if *size == 0 { &headers[..0] } else { &headers[..] };
            columns.push(&MessageRef {
                key: Some(&key),
                value: Some(&value),
                kind: ValueKind::Text,
                headers,
                timestamp_ms: row as i64,
                attributes: Attributes::default(),
            });
        }
        Messages::new(columns.into_record_batch()).unwrap()
    }

    proptest! {
        #[test]
        fn stretches_are_the_offsets_between_two_in_as_few_parts_as_there_are_gaps(
            offsets in proptest::collection::btree_set(10..60u64, 0..40),
            (from, until) in (0..70u64, 0..70u64),
        ) {
            let chunk = Chunk::at(messages(&vec![0; offsets.len()]), offsets.iter().copied().collect()).unwrap();
            let stretches: Vec<_> = chunk.stretches(Offset(from), Offset(until)).collect();
            let rows = |stretch: &Stretch| {
                let base = stretch.base.0;
                (0..stretch.rows).map(move |row| (base + row as u64, row))
            };
            let got: BTreeSet<_> = stretches.iter().flat_map(rows).map(|(offset, _)| offset).collect();
            let want: BTreeSet<_> = offsets.iter().copied().filter(|at| (from..until).contains(at)).collect();
            prop_assert_eq!(&got, &want);
            prop_assert!(stretches.windows(2).all(|two| two[0].base.0 + (two[0].rows as u64) < two[1].base.0));
            for stretch in &stretches {
                for (offset, row) in rows(stretch) {
                    prop_assert_eq!(chunk.row(Offset(offset)), Some(stretch.first + row));
                    prop_assert_eq!(offsets.iter().nth(stretch.first + row), Some(&offset));
                }
            }
            for offset in (0..70).filter(|offset| !offsets.contains(offset)) {
                prop_assert_eq!(chunk.row(Offset(offset)), None);
            }
            let late = offsets.iter().enumerate().find(|(row, at)| **at >= from && *row as u64 >= until / 4);
            prop_assert_eq!(chunk.at_time(Offset(from), until as i64 / 4), late.map(|(_, at)| Offset(*at)));
        }
    }

    #[test]
    fn offsets_that_do_not_rise_or_are_not_one_a_row_are_refused() {
        assert!(Chunk::at(messages(&[0, 0]), vec![4]).is_none());
        assert!(Chunk::at(messages(&[0, 0]), vec![4, 4]).is_none());
        assert!(Chunk::at(messages(&[0, 0]), vec![5, 4]).is_none());
    }
}
