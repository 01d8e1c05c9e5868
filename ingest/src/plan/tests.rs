use std::borrow::Cow;

use brigade_index::{
    batch::{Attributes, Columns, MessageRef, ValueKind},
    ids::Sequence,
    state::BatchLocation,
};
use proptest::prelude::*;

use super::*;

/// A batch whose messages have these sizes.
fn batch(sizes: &[usize]) -> Messages {
    let mut columns = Columns::default();
    for size in sizes {
        let (key, value) = (vec![1; size / 3], vec![2; size / 3]);
        let headers = [(Cow::Borrowed(""), Cow::Owned("x".repeat(size - 2 * (size / 3))))];
        let headers = if *size == 0 { &headers[..0] } else { &headers[..] };
        let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
        columns.push(&MessageRef {
            key,
            value,
            kind: ValueKind::Text,
            headers,
            timestamp_ms: 0,
            attributes: Attributes::default(),
        });
    }
    Messages::new(columns.into_record_batch()).unwrap()
}

fn run(base: u64, first_row: u32, rows: u32, len: u32) -> Run {
    let batch = BatchLocation { sequence: Sequence(1), at: base, len, crc: 0 };
    let attributes = brigade_index::batch::AttributeSet::default();
    Run { base: Offset(base), first_row, rows, batch, min_timestamp_ms: 0, max_timestamp_ms: 0, attributes }
}

proptest! {
    #[test]
    fn a_cut_is_the_longest_prefix_within_both_limits(
        sizes in proptest::collection::vec(0..50usize, 1..40),
        first_row in 0..10usize,
        skip in 0..10usize,
        (messages, bytes) in (1..50usize, 1..800usize),
        any in any::<bool>(),
    ) {
        let first_row = first_row.min(sizes.len() - 1);
        let rows = sizes.len() - first_row;
        let skip = skip.min(rows - 1);
        let run = run(100, first_row as u32, rows as u32, 10);
        let from = run.base.plus(skip as u64);
        let piece = Piece { partition: Partition(3), run, from, rows: rows - skip };
        let mut budget = Budget { messages, bytes };
        let slice = cut(&piece, &batch(&sizes), &mut budget, any);

        let wanted = &sizes[first_row + skip..];
        let mut total = 0;
        let fits = |size: &&usize| { total += **size; total <= bytes };
        let mut expected = wanted.iter().take(messages).take_while(fits).count();
        if expected == 0 && any { expected = 1; }
        prop_assert_eq!(slice.as_ref().map_or(0, |slice| slice.rows), expected);
        if let Some(slice) = slice {
            prop_assert_eq!((slice.base, slice.first, slice.partition), (from, first_row + skip, Partition(3)));
            let taken: usize = wanted[..expected].iter().sum();
            prop_assert_eq!(super::bytes(&slice), taken);
            prop_assert_eq!(budget, Budget { messages: messages - expected, bytes: bytes.saturating_sub(taken) });
        }
    }
}

#[test]
fn a_damaged_index_gives_nothing_instead_of_a_panic() {
    let piece = Piece { partition: Partition(0), run: run(0, 7, 5, 10), from: Offset(2), rows: 3 };
    let mut budget = Budget { messages: 10, bytes: 100 };
    assert!(cut(&piece, &batch(&[1, 1, 1]), &mut budget, true).is_none());
}
