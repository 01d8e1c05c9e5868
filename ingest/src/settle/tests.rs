use brigade_index::ids::Offset;

use super::*;

fn runs(runs: &[(u32, u32, u64)]) -> Vec<StoredRows> {
    runs.iter().map(|(first, rows, base)| StoredRows { first: *first, rows: *rows, base: Offset(*base) }).collect()
}

fn part(partition: u32, base: u64, duplicates: &[DuplicateRows]) -> PartPlaces {
    PartPlaces { partition: Partition(partition), base: Offset(base), duplicates: duplicates.to_vec() }
}

fn duplicate(first: u32, rows: u32, partition: u32, offset: u64) -> DuplicateRows {
    DuplicateRows { first, rows, partition: Partition(partition), offset: Offset(offset) }
}

fn placement() -> Arc<Placement> {
    Arc::new(Placement { partition_count: 1, keyless: Partition(0), bases: Vec::new(), duplicates: Vec::new() })
}

/// Requests share a batch, and even the runs of duplicates that their rows lie in.
#[test]
fn rows_that_were_dropped_are_found_where_their_originals_are() {
    let published = Published {
        batches: vec![runs(&[(0, 1, 10), (4, 2, 11), (7, 1, 13)])],
        duplicates: vec![vec![duplicate(1, 3, 5, 70), duplicate(6, 1, 0, 2)]],
        requests: Vec::new(),
    };
    let find = |first, rows| find(&[Span { batch: 0, first, rows }], None, &[Partition(0)], &published);
    let stored = |part| Stored::Plain(vec![part]);
    assert_eq!(find(0, 3).unwrap(), stored(part(0, 10, &[duplicate(1, 2, 5, 70)])));
    assert_eq!(find(3, 2).unwrap(), stored(part(0, 11, &[duplicate(0, 1, 5, 72)])));
    assert_eq!(find(5, 3).unwrap(), stored(part(0, 12, &[duplicate(1, 1, 0, 2)])));
    assert_eq!(find(2, 1).unwrap(), stored(part(0, 0, &[duplicate(0, 1, 5, 71)])), "nothing of it was stored");
    assert!(find(7, 2).is_err(), "row 8 is neither stored nor a duplicate");
}

#[test]
fn each_request_finds_what_came_of_it() {
    let placement = placement();
    let (stored, before) = (RequestOutcome::Stored(placement.clone()), RequestOutcome::Duplicate(placement.clone()));
    let published = Published {
        batches: vec![runs(&[(0, 2, 50)]), runs(&[(0, 9, 7)])],
        duplicates: vec![Vec::new(), Vec::new()],
        requests: vec![stored, before, RequestOutcome::SequenceTooOld],
    };
    let find = |request, spans: &[(u32, u32)]| {
        let spans: Vec<_> = spans.iter().map(|(batch, first)| Span { batch: *batch, first: *first, rows: 1 }).collect();
        find(&spans, request, &[Partition(4), Partition(2)], &published)
    };
    let bases = vec![part(2, 10, &[]), part(4, 50, &[])];
    assert_eq!(find(None, &[(1, 3), (0, 0)]).unwrap(), Stored::Plain(bases.clone()));
    assert_eq!(find(Some(0), &[(1, 3), (0, 0)]).unwrap(), Stored::Remembered(bases, placement.clone()));
    assert_eq!(find(Some(1), &[(0, 2)]).unwrap(), Stored::Before(placement));
    assert!(matches!(find(Some(2), &[(0, 2)]), Err(IngestError::SequenceTooOld)));
    let unknown = |result| matches!(result, Err(IngestError::Propose(ProposeError::Unknown(_))));
    assert!(unknown(find(None, &[(0, 2)])) && unknown(find(None, &[(9, 0)])) && unknown(find(Some(9), &[(0, 0)])));
}

#[test]
fn repeats_get_the_placement() {
    let placement = placement();
    let duplicate = Answer::Duplicate(placement.clone());
    assert_eq!(Stored::Remembered(Vec::new(), placement.clone()).repeated().unwrap(), duplicate);
    assert_eq!(Stored::Before(placement).repeated().unwrap(), duplicate);
    assert!(Stored::Plain(Vec::new()).repeated().is_err());
}
