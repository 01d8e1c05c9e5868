use super::*;

fn runs(runs: &[(u32, u32, u64)]) -> Vec<StoredRows> {
    runs.iter().map(|(first, rows, base)| StoredRows { first: *first, rows: *rows, base: Offset(*base) }).collect()
}

#[test]
fn offsets_skip_dropped_rows() {
    let runs = runs(&[(0, 3, 10), (5, 2, 13)]);
    let offsets: Vec<_> = (0..8).map(|row| offset_of(&runs, row).map(|offset| offset.0)).collect();
    assert_eq!(offsets, [Some(10), Some(11), Some(12), None, None, Some(13), Some(14), None]);
    assert_eq!(offset_of(&[], 0), None);
}

#[test]
fn each_request_finds_what_came_of_it() {
    let placement = Arc::new(Placement { partition_count: 1, keyless: Partition(0), bases: Vec::new() });
    let (stored, before) = (RequestOutcome::Stored(placement.clone()), RequestOutcome::Duplicate(placement.clone()));
    let published = Published {
        batches: vec![runs(&[(0, 2, 50)]), runs(&[(0, 9, 7)])],
        requests: vec![stored, before, RequestOutcome::SequenceTooOld],
    };
    let find = |request, spans: &[(u32, u32)]| {
        let spans: Vec<_> = spans.iter().map(|(batch, first)| Span { batch: *batch, first: *first }).collect();
        find(&spans, request, &[Partition(4), Partition(2)], &published)
    };
    let bases = vec![(Partition(2), Offset(10)), (Partition(4), Offset(50))];
    assert_eq!(find(None, &[(1, 3), (0, 0)]).unwrap(), Stored::Plain(bases.clone()));
    assert_eq!(find(Some(0), &[(1, 3), (0, 0)]).unwrap(), Stored::Remembered(bases, placement.clone()));
    assert_eq!(find(Some(1), &[(0, 2)]).unwrap(), Stored::Before(placement));
    assert!(matches!(find(Some(2), &[(0, 2)]), Err(IngestError::SequenceTooOld)));
    let unknown = |result| matches!(result, Err(IngestError::Propose(ProposeError::Unknown(_))));
    assert!(unknown(find(None, &[(0, 2)])) && unknown(find(None, &[(9, 0)])) && unknown(find(Some(9), &[(0, 0)])));
}

#[test]
fn repeats_get_the_placement() {
    let placement = Arc::new(Placement { partition_count: 1, keyless: Partition(0), bases: Vec::new() });
    let duplicate = Answer::Duplicate(placement.clone());
    assert_eq!(Stored::Remembered(Vec::new(), placement.clone()).repeated().unwrap(), duplicate);
    assert_eq!(Stored::Before(placement).repeated().unwrap(), duplicate);
    assert!(Stored::Plain(Vec::new()).repeated().is_err());
}
