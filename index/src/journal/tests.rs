//! The rules one by one. What they add up to is checked by model checking (tests/model), on these same types.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::{
    command::Command,
    format::{Floor, Head, Install, Kind, Leader, Record, SnapshotRef, Value},
    ids::{Ballot, RegionNo, Sequence, WriteId},
    keys::Slot,
    region::{Mark, RegionSet},
};

const A: RegionNo = RegionNo(1);
const B: RegionNo = RegionNo(2);
const C: RegionNo = RegionNo(3);
const START: Slot = Slot::first(Ballot::BOOTSTRAP);

fn ballot(round: u64) -> Ballot {
    Ballot { round, nonce: round }
}

fn slot(round: u64, index: u64) -> Slot {
    Slot { ballot: ballot(round), index }
}

fn set(regions: &[RegionNo]) -> RegionSet {
    RegionSet::new(regions.iter().copied().collect()).unwrap()
}

fn head(kind: Kind, slot: Slot, parent: Slot, sequence: u64, committed: u64) -> Head {
    let id = WriteId(u128::from(slot.ballot.nonce) << 64 | u128::from(slot.index) << 8 | 1);
    let (sequence, committed) = (Sequence(sequence), Sequence(committed));
    Head { kind, id, ballot: slot.ballot, parent, sequence, committed, section_len: 0, section_crc: 0, body_len: 0 }
}

fn record(bytes: Vec<u8>) -> Record {
    Record::decode(&Bytes::from(bytes)).unwrap()
}

fn commit(slot: Slot, parent: Slot, sequence: u64, committed: u64) -> Record {
    record(head(Kind::Commit, slot, parent, sequence, committed).encode(&Value::default().encode()))
}

fn change(slot: Slot, parent: Slot, sequence: u64, voters: &[RegionNo]) -> Record {
    let value = Value { commands: vec![Command::SetVoters(set(voters))], ..Value::default() };
    record(head(Kind::Commit, slot, parent, sequence, 0).encode(&value.encode()))
}

fn snapshot(sequence: u64) -> SnapshotRef {
    SnapshotRef { id: WriteId(9), sequence: Sequence(sequence) }
}

fn install(slot: Slot, parent: Slot, sequence: u64) -> Record {
    let install = Install { snapshot: snapshot(sequence), voters: set(&[A, B, C]) };
    record(head(Kind::Install, slot, parent, sequence, sequence).encode(&install.encode()))
}

fn takeover(ballot: Ballot, parent: Slot) -> Record {
    takeover_as(ballot, parent, WriteId(ballot.nonce.into()))
}

fn takeover_as(ballot: Ballot, parent: Slot, id: WriteId) -> Record {
    record(Leader::default().takeover(ballot, parent, id).to_vec())
}

fn floor(k: u64, slot: Slot, parent: Slot, sequence: u64) -> Floor {
    Floor {
        k,
        slot,
        parent,
        promised: slot.ballot,
        snapshot: snapshot(sequence),
        extents: Vec::new(),
        voters: Some(set(&[A, B, C])),
        marks: Vec::new(),
        leader: None,
        truncated: Sequence(0),
    }
}

/// A path of reigns: each round with its entries (first to last) and the committed mark that the last carries.
fn path(reigns: &[(u64, std::ops::RangeInclusive<u64>, u64)]) -> Fold {
    let mut fold = Fold::start(None);
    for (round, entries, committed) in reigns {
        fold.accept(&takeover(ballot(*round), fold.parent)).unwrap();
        for sequence in entries.clone() {
            fold.accept(&commit(fold.at, fold.parent, sequence, (*committed).min(sequence))).unwrap();
        }
    }
    fold
}

fn keys(fold: &Fold) -> Vec<(u64, u64)> {
    fold.log.iter().map(|(sequence, accepted)| (sequence.0, accepted.ballot.round)).collect()
}

mod fold {
    use super::*;

    #[test]
    fn a_takeover_ends_a_directory_and_names_the_next() {
        let fold = path(&[(1, 1..=2, 1), (2, 2..=2, 0)]);
        assert_eq!((fold.at, fold.parent, fold.promised), (slot(2, 1), slot(1, 2), ballot(2)));
        assert_eq!((keys(&fold), fold.committed), (vec![(1, 1), (2, 2)], Sequence(1)));
    }

    #[test]
    fn what_cannot_be_there_is_refused_and_changes_nothing() {
        let mut fold = path(&[(1, 1..=1, 0)]);
        let before = fold.clone();
        let elsewhere = slot(0, 5);
        let parent = fold.accept(&commit(slot(1, 1), elsewhere, 2, 0));
        assert!(matches!(parent, Err(FoldError::Parent { .. })), "{parent:?}");
        let falling = fold.accept(&takeover(ballot(1), START));
        assert!(matches!(falling, Err(FoldError::Ballot { .. })), "{falling:?}");
        let skipping = fold.accept(&commit(slot(1, 1), START, 3, 0));
        assert!(matches!(skipping, Err(FoldError::Sequence { .. })), "{skipping:?}");
        let late = fold.accept(&install(slot(1, 1), START, 1));
        assert!(matches!(late, Err(FoldError::Sequence { .. })), "{late:?}");
        assert_eq!(fold, before);
    }

    #[test]
    fn a_reign_begins_at_the_latest_behind_what_is_held() {
        let mut fold = path(&[(1, 1..=2, 0)]);
        fold.accept(&takeover(ballot(2), START)).unwrap();
        let skipping = fold.accept(&commit(slot(2, 0), slot(1, 2), 4, 0));
        assert!(matches!(skipping, Err(FoldError::Sequence { .. })), "{skipping:?}");
        fold.accept(&commit(slot(2, 0), slot(1, 2), 3, 0)).unwrap();
        assert_eq!(keys(&fold), [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn an_install_covers_what_is_below_and_forgets_nothing_above() {
        let mut fold = path(&[(1, 1..=5, 1)]);
        fold.accept(&takeover(ballot(2), START)).unwrap();
        fold.accept(&install(slot(2, 0), slot(1, 5), 3)).unwrap();
        // Entries 4 and 5 may be committed by this very copy.
        assert_eq!((fold.base(), fold.committed, keys(&fold)), (Sequence(3), Sequence(3), vec![(4, 1), (5, 1)]));
        assert_eq!(fold.extents.find(Sequence(3)), Some(Place::Copy));
        assert_eq!(fold.extents.find(Sequence(5)), Some(Place::Journal(slot(1, 4))));
        fold.accept(&commit(slot(2, 1), slot(1, 5), 4, 3)).unwrap();
        assert_eq!(
            (keys(&fold), fold.extents.find(Sequence(4))),
            (vec![(4, 2), (5, 1)], Some(Place::Journal(slot(2, 1))))
        );
        assert_eq!(fold.extents.find(Sequence(5)), Some(Place::Journal(slot(1, 4))));
    }

    #[test]
    fn an_install_may_cover_less_than_a_floor_that_a_former_leader_wrote_last() {
        let mut fold = Fold::start(Some(&floor(1, slot(1, 5), START, 5)));
        fold.accept(&takeover(ballot(2), START)).unwrap();
        fold.accept(&install(slot(2, 0), slot(1, 5), 3)).unwrap();
        assert_eq!((fold.base(), fold.committed), (Sequence(5), Sequence(5)));
        fold.accept(&commit(slot(2, 1), slot(1, 5), 4, 3)).unwrap();
        assert_eq!((fold.committed, keys(&fold)), (Sequence(5), Vec::new()));
    }

    #[test]
    fn older_copies_behind_keep_their_place() {
        // The second reign came as far as entry 2; entry 3 still counts as the first reign wrote it.
        let fold = path(&[(1, 1..=3, 0), (2, 2..=2, 0)]);
        assert_eq!(fold.extents.find(Sequence(2)), Some(Place::Journal(slot(2, 0))));
        assert_eq!(fold.extents.find(Sequence(3)), Some(Place::Journal(slot(1, 2))));
    }

    #[test]
    fn a_path_that_went_backwards_is_told_by_its_mark() {
        let mark = |round, sequence| Mark { region: A, ballot: ballot(round), sequence: Sequence(sequence) };
        let whole = path(&[(1, 1..=3, 0), (2, 3..=4, 0)]);
        assert!(whole.reaches(&mark(1, 3)) && whole.reaches(&mark(2, 4)));
        assert!(!whole.reaches(&mark(1, 4)) && !whole.reaches(&mark(2, 5)) && !whole.reaches(&mark(3, 1)));
        let cut = Fold::start(Some(&floor(1, slot(2, 2), START, 4)));
        assert!(cut.reaches(&mark(1, 9)) && cut.reaches(&mark(2, 4)) && !cut.reaches(&mark(2, 5)));
    }
}

mod candidate {
    use super::*;

    /// A candidate with ballot 5 that has read these objects from this floor on.
    fn reading(floor: Option<&Floor>, objects: &[Record]) -> Candidate {
        let mut candidate = Candidate::new(WriteId(5));
        candidate.floor(floor);
        for object in objects {
            candidate.object(Some(object)).unwrap().unwrap();
        }
        candidate.object(None).unwrap().unwrap();
        candidate
    }

    #[test]
    fn a_floor_that_moved_makes_the_takeover_void() {
        let first = floor(1, slot(1, 1), START, 1);
        let mut candidate = reading(Some(&first), &[]);
        candidate.stand(ballot(5)).unwrap();
        assert_eq!(candidate.want(), Want::Put { slot: slot(1, 1), parent: START, ballot: ballot(5) });
        candidate.put(true);
        assert_eq!((candidate.want(), candidate.promise()), (Want::Floor, None));
        let mut unchanged = candidate.clone();
        unchanged.floor(Some(&first));
        assert_eq!(unchanged.want(), Want::Promised);
        candidate.floor(Some(&floor(2, slot(1, 2), START, 2)));
        assert_eq!((candidate.want(), candidate.promise()), (Want::Void, None));
    }

    #[test]
    fn behind_a_takeover_the_floor_is_looked_at_before_the_put() {
        let mut candidate = reading(None, &[takeover(ballot(1), START)]);
        candidate.stand(ballot(5)).unwrap();
        assert_eq!(candidate.want(), Want::Floor);
        let mut unchanged = candidate.clone();
        unchanged.floor(None);
        assert_eq!(unchanged.want(), Want::Put { slot: slot(1, 0), parent: START, ballot: ballot(5) });
        // That Takeover may have been a late put on a deleted slot.
        candidate.floor(Some(&floor(1, slot(2, 7), slot(1, 4), 7)));
        assert_eq!(candidate.want(), Want::Object(slot(2, 7)));
    }

    #[test]
    fn a_floor_that_knows_of_a_higher_ballot_ends_it() {
        let mut candidate = reading(None, &[takeover(ballot(1), START)]);
        candidate.stand(ballot(2)).unwrap();
        candidate.floor(Some(&floor(1, slot(3, 1), START, 1)));
        assert_eq!(candidate.object(None).unwrap().unwrap_err().ballot, ballot(3));
    }

    #[test]
    fn another_object_at_the_hole_is_folded_and_the_next_hole_taken() {
        let mut candidate = reading(Some(&floor(1, slot(1, 1), START, 1)), &[]);
        candidate.stand(ballot(5)).unwrap();
        candidate.put(false);
        candidate.object(Some(&commit(slot(1, 1), START, 2, 1))).unwrap().unwrap();
        candidate.object(None).unwrap().unwrap();
        assert_eq!(candidate.want(), Want::Put { slot: slot(1, 2), parent: START, ballot: ballot(5) });
        // An answer that was lost: it reads its own Takeover.
        candidate.object(Some(&takeover_as(ballot(5), START, WriteId(5)))).unwrap().unwrap();
        assert_eq!(candidate.want(), Want::Floor);
        candidate.floor(Some(&floor(1, slot(1, 1), START, 1)));
        assert_eq!(candidate.promise().unwrap().at, slot(1, 2));
    }

    #[test]
    fn a_path_that_a_promotion_left_behind_is_not_taken_over() {
        let promoted = Ballot { round: 1 << 32 | 1, nonce: 7 };
        let mut old = reading(None, &[takeover(ballot(1), START)]);
        old.stand(promoted).unwrap();
        assert_eq!(old.want(), Want::Void);
        let mut empty = reading(None, &[]);
        empty.stand(promoted).unwrap();
        assert!(matches!(empty.want(), Want::Put { .. }));
    }
}

/// An election under ballot 9 in which the regions promise these paths.
fn elect(start: &[RegionNo], paths: &[(RegionNo, Vec<Record>)]) -> Election {
    let mut election = Election::new(set(start));
    for (region, _) in paths {
        election.add(*region, WriteId(99));
    }
    election.stand(9, ballot(8)).unwrap();
    for (region, records) in paths {
        election.floor(*region, None);
        for record in records {
            election.object(*region, Some(record)).unwrap().unwrap();
        }
        election.object(*region, None).unwrap().unwrap();
    }
    for (region, _) in paths {
        promise(&mut election, *region);
    }
    election
}

fn promise(election: &mut Election, region: RegionNo) {
    while let want @ (Want::Floor | Want::Put { .. }) = election.want(region) {
        match want {
            Want::Floor => election.floor(region, None),
            _ => election.put(region, true),
        }
    }
}

/// The records of a path of one reign.
fn reign_of(round: u64, entries: std::ops::RangeInclusive<u64>, committed: u64) -> Vec<Record> {
    let mut records = vec![takeover(ballot(round), START)];
    for (sequence, index) in entries.zip(0..) {
        records.push(commit(slot(round, index), START, sequence, committed.min(sequence)));
    }
    records
}

mod election {
    use super::*;

    #[test]
    fn a_majority_decides_by_the_highest_ballots() {
        let paths = [(A, reign_of(1, 1..=3, 1)), (B, reign_of(2, 1..=2, 0))];
        let elected = elect(&[A, B, C], &paths).decide().unwrap().unwrap();
        assert_eq!((elected.ballot.round, elected.merged.committed), (9, Sequence(1)));
        let again: Vec<_> =
            elected.merged.reappend.iter().map(|(n, region, at)| (n.0, *region, at.ballot.round)).collect();
        assert_eq!(again, [(2, B, 2), (3, A, 1)]);
        assert_eq!(elect(&[A, B, C], &paths[..1]).decide(), None);
    }

    #[test]
    fn a_later_set_must_promise_too() {
        let mut records = reign_of(1, 1..=1, 0);
        records.push(change(slot(1, 1), START, 2, &[B]));
        assert_eq!(elect(&[A], &[(A, records.clone())]).decide(), None, "region 2 may have committed more");
        let elected = elect(&[A], &[(A, records.clone()), (B, records)]).decide().unwrap().unwrap();
        assert_eq!(elected.voters, [(Sequence(0), set(&[A])), (Sequence(2), set(&[B]))]);
    }

    #[test]
    fn a_set_of_a_copy_that_was_overtaken_is_not_asked() {
        let mut stale = reign_of(1, 1..=1, 0);
        stale.push(change(slot(1, 1), START, 2, &[RegionNo(7)]));
        let paths = [(A, stale), (B, reign_of(2, 1..=2, 0))];
        let elected = elect(&[A, B, C], &paths).decide().unwrap().unwrap();
        assert_eq!(elected.voters, [(Sequence(0), set(&[A, B, C]))]);
    }

    #[test]
    fn a_region_that_went_backwards_does_not_count() {
        let mark = Mark { region: B, ballot: ballot(1), sequence: Sequence(2) };
        let value = Value { marks: vec![mark], ..Value::default() };
        let mut records = reign_of(1, 1..=1, 0);
        records.push(record(head(Kind::Commit, slot(1, 1), START, 2, 1).encode(&value.encode())));
        let paths = [(A, records), (B, reign_of(1, 1..=1, 0)), (C, reign_of(1, 1..=1, 0))];
        assert_eq!(elect(&[A, B, C], &paths[..2]).decide(), None);
        let elected = elect(&[A, B, C], &paths).decide().unwrap().unwrap();
        assert_eq!((elected.backwards, elected.promises.len()), (vec![mark], 2));
    }

    #[test]
    fn a_higher_ballot_abandons() {
        let mut election = elect(&[A, B, C], &[(A, reign_of(1, 1..=1, 0)), (B, reign_of(1, 1..=1, 0))]);
        election.add(C, WriteId(98));
        election.floor(C, None);
        let met = election.object(C, Some(&takeover(ballot(10), START))).unwrap();
        assert_eq!(met.unwrap_err().ballot, ballot(10));
    }

    #[test]
    fn a_promotion_asks_all_that_it_promotes_and_takes_nobody_else_over() {
        let mut election = Election::new(set(&[A]));
        for region in [A, B, C] {
            election.add(region, WriteId(99));
        }
        election.promote(set(&[B, C]), 9, Ballot::BOOTSTRAP).unwrap();
        for (region, last) in [(A, 3), (B, 2), (C, 1)] {
            election.floor(region, None);
            for record in reign_of(1, 1..=last, last) {
                election.object(region, Some(&record)).unwrap().unwrap();
            }
            election.object(region, None).unwrap().unwrap();
        }
        assert_eq!((election.ballot().unwrap().timeline(), election.want(A)), (1, Want::Void));
        promise(&mut election, C);
        assert_eq!(election.decide(), None, "region 2 knows of more");
        promise(&mut election, B);
        let elected = election.decide().unwrap().unwrap();
        assert_eq!((elected.merged.committed, elected.voters), (Sequence(2), vec![(Sequence(0), set(&[B, C]))]));
    }

    #[test]
    fn what_a_promotion_left_behind_is_not_appended_again() {
        let newer = Ballot { round: 1 << 32, nonce: 4 };
        let mut fold = path(&[(1, 1..=3, 1)]);
        fold.accept(&takeover(newer, START)).unwrap();
        let at = Slot::first(newer);
        fold.accept(&commit(at, slot(1, 3), 2, 0)).unwrap();
        let merged = merge(&[(B, &fold)]).unwrap();
        let again: Vec<_> = merged.reappend.iter().map(|(sequence, ..)| sequence.0).collect();
        assert_eq!((merged.committed, again), (Sequence(1), vec![2]));
    }

    #[test]
    fn a_committed_entry_that_nobody_has_is_a_contradiction() {
        let mut fold = path(&[(1, 1..=2, 2)]);
        fold.log.remove(&Sequence(2));
        assert_eq!(merge(&[(A, &fold)]), None);
    }
}

/// A reign over these regions, of which all hold entries 1 and 2 of an earlier one, 1 committed.
fn reign(voters: &[RegionNo], regions: &[RegionNo], window: usize) -> Reign {
    let paths: Vec<_> = regions.iter().map(|region| (*region, reign_of(1, 1..=2, 1))).collect();
    let elected = elect(voters, &paths).decide().unwrap().unwrap();
    let mut reign = Reign::new(&elected, window);
    assert_eq!((reign.start(), reign.own()), (Sequence(1), Sequence(3)));
    reign.seal(None);
    reign
}

/// Sends everything to a region and lets it land.
fn fill(reign: &mut Reign, region: RegionNo) {
    while let Some(append) = reign.send(region) {
        reign.landed(region, append.slot);
    }
}

mod leading {
    use super::*;

    #[test]
    fn entries_are_committed_when_a_quorum_has_them_under_the_own_ballot() {
        let mut reign = reign(&[A, B, C], &[A, B], 8);
        let append = reign.send(A).unwrap();
        assert_eq!((append.cargo, append.committed, append.slot.index), (Cargo::Commit(Sequence(2)), Sequence(1), 0));
        reign.landed(A, append.slot);
        assert_eq!(reign.committed(), Sequence(1), "the other's copy is an older one");
        fill(&mut reign, A);
        fill(&mut reign, B);
        assert_eq!(reign.committed(), Sequence(3));
    }

    #[test]
    fn an_object_counts_only_behind_all_before_it() {
        let mut reign = reign(&[A], &[A], 8);
        let (first, second) = (reign.send(A).unwrap(), reign.send(A).unwrap());
        assert_eq!(reign.landed(A, second.slot), Sequence(1));
        assert_eq!(reign.landed(A, first.slot), Sequence(3));
        assert_eq!(reign.landed(A, first.slot), Sequence(3), "an answer may come twice");
    }

    #[test]
    fn a_change_needs_both_quorums_and_what_is_behind_it_the_new_one() {
        let mut reign = reign(&[A], &[A, B, C], 8);
        fill(&mut reign, A);
        assert_eq!((reign.committed(), reign.seal(Some(set(&[A, B, C])))), (Sequence(3), Sequence(4)));
        fill(&mut reign, A);
        assert!(reign.is_changing());
        assert_eq!((reign.committed(), reign.voters().len()), (Sequence(3), 1));
        reign.seal(None);
        fill(&mut reign, B);
        assert_eq!((reign.committed(), reign.voters().len()), (Sequence(4), 3));
        fill(&mut reign, C);
        assert_eq!((reign.committed(), reign.is_changing()), (Sequence(5), false));
    }

    #[test]
    fn a_lost_region_counts_with_what_it_had_accepted() {
        let mut reign = reign(&[A, B, C], &[A, B], 8);
        fill(&mut reign, A);
        reign.lose(A);
        assert!(reign.has_lost(A) && !reign.is_over());
        fill(&mut reign, B);
        assert_eq!((reign.committed(), reign.seal(None)), (Sequence(3), Sequence(4)));
        fill(&mut reign, B);
        assert_eq!(reign.committed(), Sequence(3));
        reign.lose(B);
        assert!(reign.is_over());
    }

    #[test]
    fn what_a_region_that_is_behind_needs_is_kept_as_long_as_it_is_waited_for() {
        let mut reign = reign(&[A, B, C], &[A, B, C], 8);
        (0..6).for_each(|_| _ = reign.seal(None));
        fill(&mut reign, A);
        fill(&mut reign, B);
        assert_eq!(reign.committed(), Sequence(9));
        let needed =
            |reign: &Reign, far| reign.needed_by_none([A, B, C].into_iter(), Sequence(8), |_, behind| behind <= far).0;
        assert_eq!((needed(&reign, 8), needed(&reign, 7)), (1, 8), "one that is not waited for is given a snapshot");
        let append = reign.send(C).unwrap();
        reign.landed(C, append.slot);
        assert_eq!(needed(&reign, 7), 2);
        // Whoever takes it over will know that it has this much.
        reign.lose(C);
        assert_eq!((needed(&reign, 7), needed(&reign, 6)), (2, 8));
    }

    #[test]
    fn a_region_that_joins_later_gets_what_it_misses() {
        let mut reign = reign(&[A, B, C], &[A, B], 8);
        let join = |reign: &mut Reign, fold: Fold| reign.join(C, &Promise { fold, floor: 0 });
        // What it has of entry 1 was written by another reign than the copy that is known to be right.
        let mut other = reign.clone();
        join(&mut other, path(&[(2, 1..=2, 0)])).unwrap();
        assert_eq!(other.send(C).unwrap().cargo, Cargo::Commit(Sequence(1)));
        join(&mut reign, path(&[(1, 1..=2, 0)])).unwrap();
        assert_eq!(reign.send(C).unwrap().cargo, Cargo::Commit(Sequence(2)));
    }

    #[test]
    fn an_install_is_of_committed_entries_and_goes_first() {
        let mut reign = reign(&[A, B, C], &[A, B], 8);
        fill(&mut reign, A);
        fill(&mut reign, B);
        let promise = Promise { fold: path(&[(2, 1..=1, 0)]), floor: 0 };
        reign.join(C, &promise).unwrap();
        assert!(!reign.install(C, &promise, Sequence(4)), "not committed");
        assert!(reign.install(C, &promise, Sequence(3)));
        let append = reign.send(C).unwrap();
        assert_eq!((append.cargo, append.committed, append.slot.index), (Cargo::Install(Sequence(3)), Sequence(3), 0));
        assert!(!reign.install(C, &promise, Sequence(3)), "something was sent");
        assert_eq!((reign.seal(None), reign.send(C).unwrap().cargo), (Sequence(4), Cargo::Commit(Sequence(4))));
        let places = reign.extents(C).unwrap();
        assert_eq!((places.find(Sequence(1)), places.find(Sequence(3))), (Some(Place::Copy), Some(Place::Copy)));
    }

    #[test]
    fn no_path_is_cut_before_the_first_own_entry_is_committed() {
        let mut reign = reign(&[A, B, C], &[A, B, C], 1);
        for region in [A, B] {
            let append = reign.send(region).unwrap();
            reign.landed(region, append.slot);
        }
        assert_eq!((reign.committed(), reign.own()), (Sequence(2), Sequence(3)));
        // A region may hold more under older ballots, and that may be what it was committed by.
        assert_eq!(reign.floor(A, Sequence(2), |_| true), None);
        fill(&mut reign, A);
        fill(&mut reign, B);
        let cut = Some(Slot { ballot: reign.ballot(), index: 1 });
        assert_eq!(reign.floor(A, Sequence(2), |_| true), cut);
        assert_eq!(reign.floor(A, Sequence(2), |region| region != A), None, "it has no snapshot itself");
        assert_eq!(reign.floor(A, Sequence(2), |region| region == A), None, "no quorum has it");
        assert_eq!(reign.floor(A, Sequence(1), |_| true), None, "the slot is not in this directory");
        assert_eq!(reign.floor(C, Sequence(2), |_| true), None, "it has not come so far");
    }

    #[test]
    fn marks_say_how_far_regions_have_come_under_which_ballot() {
        let mut reign = reign(&[A, B, C], &[A, B], 8);
        assert_eq!(reign.marks(), []);
        fill(&mut reign, A);
        let mark = Mark { region: A, ballot: reign.ballot(), sequence: Sequence(3) };
        assert_eq!(reign.marks(), [mark]);
        reign.lose(A);
        let marks: BTreeMap<_, _> = reign.marks().into_iter().map(|mark| (mark.region, mark)).collect();
        assert_eq!(marks.get(&A), Some(&mark), "what it had accepted, it must still show later");
    }

    #[test]
    #[should_panic(expected = "one change of voters at a time")]
    fn voters_change_one_at_a_time() {
        let mut reign = reign(&[A], &[A, B], 8);
        reign.seal(Some(set(&[A, B])));
        reign.seal(Some(set(&[B])));
    }
}

mod lane {
    use super::*;

    #[test]
    fn a_cut_lies_behind_an_accepted_entry_of_this_directory() {
        let mut lane = Lane::new(ballot(3), slot(2, 4), Sequence(5), 2);
        assert_eq!(lane.behind(Sequence(5)), None);
        lane.send();
        assert_eq!(lane.behind(Sequence(6)), None);
        lane.landed(slot(3, 0));
        assert_eq!((lane.behind(Sequence(5)), lane.behind(Sequence(6))), (None, Some(slot(3, 1))));
    }

    #[test]
    fn a_cut_may_lie_behind_an_install() {
        let mut lane = Lane::new(ballot(3), slot(2, 4), Sequence(5), 2);
        assert!(!lane.install(Sequence(5)) && lane.install(Sequence(9)));
        lane.send();
        lane.landed(slot(3, 0));
        assert_eq!(
            (lane.accepted(), lane.behind(Sequence(8)), lane.behind(Sequence(9))),
            (Sequence(9), None, Some(slot(3, 1)))
        );
        assert_eq!(lane.upcoming(), Cargo::Commit(Sequence(10)));
    }
}
