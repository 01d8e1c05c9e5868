//! Extents against a model that knows each entry's place one by one.

use proptest::{collection::vec, prelude::*};

use super::*;

fn ballot(round: u64) -> Ballot {
    Ballot { round, nonce: 1 }
}

fn extent(first: u64, round: u64, origin: u64) -> Extent {
    Extent { first: Sequence(first), ballot: ballot(round), origin }
}

fn journal(round: u64, index: u64) -> Option<Place> {
    Some(Place::Journal(Slot { ballot: ballot(round), index }))
}

fn find(extents: &Extents, sequence: u64) -> Option<Place> {
    extents.find(Sequence(sequence))
}

fn copies(extents: &Extents, end: u64) -> Vec<(u64, u64)> {
    extents.copies(Sequence(end)).into_iter().map(|(first, end)| (first.0, end.0)).collect()
}

#[test]
fn nothing_is_found_before_the_first_extent() {
    assert_eq!((find(&Extents::default(), 1), Extents::default().last()), (None, None));
    let extents = Extents::new(&[extent(5, 1, 5)]);
    assert_eq!((find(&extents, 4), find(&extents, 5), find(&extents, 9)), (None, journal(1, 0), journal(1, 4)));
}

#[test]
fn an_extent_ends_where_the_next_begins() {
    // The second reign began with a Commit of something else: entry 4 lies at index 1.
    let extents = Extents::new(&[extent(1, 1, 1), extent(4, 2, 3)]);
    assert_eq!(
        (find(&extents, 3), find(&extents, 4), find(&extents, 100)),
        (journal(1, 2), journal(2, 1), journal(2, 97))
    );
    assert_eq!((extents.ballot(Sequence(3)), extents.ballot(Sequence(4))), (Some(ballot(1)), Some(ballot(2))));
    assert_eq!(extents.last(), Some(extent(4, 2, 3)));
}

#[test]
fn an_extent_that_begins_cuts_off_those_behind_it() {
    let mut extents = Extents::new(&[extent(1, 1, 1), extent(4, 2, 4), extent(8, 3, 8)]);
    extents.begin(extent(6, 4, 6));
    let expected = [extent(1, 1, 1), extent(4, 2, 4), extent(6, 4, 6)];
    assert_eq!(extents.iter().collect::<Vec<_>>(), expected);
    // From the same entry on: entries of the reign before were overwritten from its first on.
    extents.begin(extent(4, 5, 4));
    assert_eq!(extents.iter().collect::<Vec<_>>(), [extent(1, 1, 1), extent(4, 5, 4)]);
    extents.begin(extent(1, 6, 1));
    assert_eq!(extents.iter().collect::<Vec<_>>(), [extent(1, 6, 1)]);
}

#[test]
fn an_extent_that_goes_on_stays_one() {
    let mut extents = Extents::new(&[extent(1, 1, 1)]);
    extents.begin(extent(3, 1, 1));
    assert_eq!(extents.iter().collect::<Vec<_>>(), [extent(1, 1, 1)]);
    // The same reign with other indexes is another extent.
    extents.begin(extent(3, 1, 2));
    assert_eq!(extents.iter().collect::<Vec<_>>(), [extent(1, 1, 1), extent(3, 1, 2)]);
}

#[test]
fn copies_have_no_place_on_the_path() {
    let mut extents = Extents::default();
    assert_eq!(copies(&extents, 9), []);
    extents.begin_copies(Sequence(1));
    assert_eq!((find(&extents, 7), extents.ballot(Sequence(7))), (Some(Place::Copy), None));
    assert_eq!(copies(&extents, 9), [(1, 9)], "open until now");
    extents.begin(extent(5, 2, 4));
    assert_eq!((find(&extents, 4), find(&extents, 5)), (Some(Place::Copy), journal(2, 1)));
    assert_eq!(copies(&extents, 9), [(1, 5)]);
    extents.begin_copies(Sequence(9));
    extents.begin(extent(12, 3, 12));
    assert_eq!(copies(&extents, 20), [(1, 5), (9, 12)]);
}

#[test]
fn an_entry_before_the_origin_has_no_index() {
    let extents = Extents::new(&[extent(1, 1, 3)]);
    assert_eq!((find(&extents, 2), find(&extents, 3)), (None, journal(1, 0)));
}

/// Where a region goes on: from which entry, and under which reign (0: as copies), with which origin before the entry.
fn beginnings() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    vec((1..30u64, 0..4u64, 0..3u64), 0..12)
}

proptest! {
    #[test]
    fn every_entry_is_found_where_the_last_beginning_put_it(beginnings in beginnings()) {
        let mut extents = Extents::default();
        let mut model: BTreeMap<u64, Option<Place>> = (0..40).map(|sequence| (sequence, None)).collect();
        for (first, round, before) in beginnings {
            let origin = first.saturating_sub(before);
            if round == 0 {
                extents.begin_copies(Sequence(first));
            } else {
                extents.begin(extent(first, round, origin));
            }
            for (sequence, place) in model.range_mut(first..) {
                *place = if round == 0 { Some(Place::Copy) } else { journal(round, sequence - origin) };
            }
            for (sequence, place) in &model {
                prop_assert_eq!(find(&extents, *sequence), *place, "entry {}", sequence);
            }
            let copied = |sequence: u64| copies(&extents, 40).iter().any(|(first, end)| (*first..*end).contains(&sequence));
            for (sequence, place) in &model {
                prop_assert_eq!(copied(*sequence), *place == Some(Place::Copy), "entry {}", sequence);
            }
        }
        // What a truncation mark says of them is all there is.
        prop_assert_eq!(&Extents::new(&extents.iter().collect::<Vec<_>>()), &extents);
        prop_assert_eq!(extents.last(), extents.iter().last());
    }
}
