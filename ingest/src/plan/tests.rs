use brigade_index::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    ids::{FileId, RegionNo, Sequence},
    state::{BatchLocation, Run},
};
use proptest::prelude::*;

use super::*;
use crate::chunk::tests::messages;

/// A file that covers these offsets, with so many messages and bytes.
fn file(first: u64, end: u64, rows: u64, payload_bytes: u64) -> Source {
    let file = ArchiveFile {
        id: FileId(1),
        first: Offset(first),
        end: Offset(end),
        rows,
        bytes: 1,
        payload_bytes,
        crc: 0,
        set_hash: SetHash(0),
        min_timestamp_ms: 0,
        max_timestamp_ms: 0,
        attributes: AttributeSet::default(),
        oldest_tombstone_ms: None,
        merges: 0,
        compacted: false,
        regions: vec![RegionNo(0)],
    };
    Source::File(file.into())
}

/// A chunk of each group of offsets, and the size of the message at each of them.
fn chunks(messages_at: &[(u64, usize)], group: usize) -> Vec<Chunk> {
    let chunk = |group: &[(u64, usize)]| {
        let (offsets, sizes): (Vec<_>, Vec<_>) = group.iter().copied().unzip();
        Chunk::at(messages(&sizes), offsets).unwrap()
    };
    messages_at.chunks(group).map(chunk).collect()
}

proptest! {
    #[test]
    fn a_cut_is_the_longest_prefix_within_both_limits(
        sizes in proptest::collection::btree_map(100..160u64, 0..50usize, 1..40),
        group in 1..20usize,
        (from, until) in (95..160u64, 0..70u64),
        (count, bytes) in (0..50usize, 1..800usize),
        any in any::<bool>(),
    ) {
        let until = from + until;
        let piece = Piece { partition: Partition(3), source: file(90, 200, 1, 1), from: Offset(from), until: Offset(until), rows: 1 };
        let all: Vec<_> = sizes.into_iter().collect();
        let (mut budget, mut slices) = (Budget { messages: count, bytes }, Vec::new());
        let left = cut(&piece, &chunks(&all, group), &mut budget, any, &mut slices);

        let wanted: Vec<_> = all.iter().filter(|(offset, _)| (from..until).contains(offset)).collect();
        let mut total = 0;
        let fits = |(_, size): &&&(u64, usize)| { total += size; total <= bytes };
        let mut expected = wanted.iter().take(count).take_while(fits).count();
        if expected == 0 && any { expected = wanted.len().min(count).min(1); }
        let rows = |slice: &Slice| (slice.base.0..slice.end().0).zip(slice.first..).map(|(offset, row)| (offset, plan_size(slice, row))).collect::<Vec<_>>();
        let got: Vec<_> = slices.iter().flat_map(rows).collect();
        prop_assert_eq!(got, wanted[..expected].iter().map(|at| **at).collect::<Vec<_>>());
        prop_assert!(slices.iter().all(|slice| slice.rows > 0 && slice.partition == Partition(3)));
        prop_assert_eq!(left, wanted.get(expected).map(|(offset, _)| Offset(*offset)));
        let taken: usize = wanted[..expected].iter().map(|(_, size)| size).sum();
        prop_assert_eq!(slices.iter().map(super::bytes).sum::<usize>(), taken);
        prop_assert_eq!(budget, Budget { messages: count - expected, bytes: bytes.saturating_sub(taken) });
    }
}

fn plan_size(slice: &Slice, row: usize) -> usize {
    Sizes::of(&slice.messages).bytes(row, row + 1)
}

#[test]
fn a_batch_with_fewer_rows_than_its_run_is_refused_instead_of_a_panic() {
    let batch = BatchLocation { sequence: Sequence(1), at: 0, len: 10, crc: 0 };
    let (base, attributes) = (Offset(0), AttributeSet::default());
    let run = Run { base, first_row: 7, rows: 5, batch, min_timestamp_ms: 0, max_timestamp_ms: 0, attributes };
    assert_eq!(Chunk::of_run(&run, messages(&[1, 1, 1])).err(), Some(3));
}
