//! Verdicts against a path that is built object by object, and on which each object's meaning is known.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    format::{Head, Install, Leader, Record, SnapshotRef, Value},
    ids::{RegionNo, WriteId},
    journal::Fold,
    region::RegionSet,
};

/// A reign on the path: it begins so many entries before the end of what is there, or with an Install, and appends so many.
#[derive(Clone, Debug)]
struct Era {
    back: u64,
    entries: u64,
    installs: bool,
}

fn eras() -> impl Strategy<Value = Vec<Era>> {
    let era = (0..3u64, 0..6u64, prop::bool::weighted(0.2));
    vec(era.prop_map(|(back, entries, installs)| Era { back, entries, installs }), 1..6)
}

fn record(kind: Kind, slot: Slot, parent: Slot, sequence: u64, section: &[u8]) -> Record {
    let committed = if kind == Kind::Install { Sequence(sequence) } else { Sequence(0) };
    let head = Head {
        kind,
        id: WriteId(u128::from(slot.ballot.round) << 64 | u128::from(slot.index)),
        ballot: slot.ballot,
        parent,
        sequence: Sequence(sequence),
        committed,
        section_len: 0,
        section_crc: 0,
        body_len: 0,
    };
    Record::decode(&Bytes::from(head.encode(section))).unwrap()
}

/// What lies where: Takeovers, and entries (of an Install the last one that it covers).
#[derive(Default)]
struct Built {
    fold: Fold,
    objects: BTreeMap<Slot, (Kind, u64)>,
}

impl Built {
    fn put(&mut self, record: &Record) {
        self.objects.insert(self.fold.at, (record.head.kind, record.head.sequence.0));
        self.fold.accept(record).unwrap();
    }

    fn reign(&mut self, round: u64, era: &Era) {
        let ballot = Ballot { round, nonce: 1 };
        let takeover = Leader::default().takeover(ballot, self.fold.parent, WriteId(round.into()));
        self.put(&Record::decode(&takeover).unwrap());
        let held = self.fold.log.last_key_value().map_or(self.fold.base(), |(last, _)| *last).0;
        let mut next = held.saturating_sub(era.back).max(self.fold.base().0) + 1;
        if era.installs && held > 0 {
            let snapshot = SnapshotRef { id: WriteId(9), sequence: Sequence(held + 2) };
            let install = Install { snapshot, voters: RegionSet::one(RegionNo(0)) };
            let record = record(Kind::Install, self.fold.at, self.fold.parent, held + 2, &install.encode());
            self.put(&record);
            next = held + 3;
        }
        for _ in 0..era.entries {
            let record = record(Kind::Commit, self.fold.at, self.fold.parent, next, &Value::default().encode());
            self.put(&record);
            next += 1;
        }
    }

    /// A mark behind the entry at this place of the last reign.
    fn floor(&self, slot: Slot, sequence: u64, truncated: u64) -> Floor {
        Floor {
            k: 7,
            slot: slot.next(),
            parent: self.fold.parent,
            promised: self.fold.promised,
            snapshot: SnapshotRef { id: WriteId(8), sequence: Sequence(sequence) },
            extents: self.fold.extents.iter().collect(),
            voters: None,
            marks: Vec::new(),
            leader: None,
            truncated: Sequence(truncated),
        }
    }
}

proptest! {
    /// Nothing is deleted but what lies before the mark, is no Takeover, and holds no body that is needed; and what the
    /// extents name of that is deleted.
    #[test]
    fn only_what_is_dead_is_deleted(
        eras in eras(),
        cut in 0..6u64,
        lag in 0..4u64,
        bodies in proptest::collection::btree_set(1..40u64, 0..12),
    ) {
        let mut built = Built::default();
        for (round, era) in (1..).zip(&eras) {
            built.reign(round, era);
        }
        let last = built.fold.promised;
        let own: Vec<_> = built.objects.range(Slot::first(last)..).map(|(slot, what)| (*slot, what.1)).collect();
        prop_assume!(!own.is_empty());
        let (slot, sequence) = own[cut as usize % own.len()];
        let floor = built.floor(slot, sequence, sequence.saturating_sub(lag));
        let bodies: Vec<_> = bodies.into_iter().map(Sequence).collect();
        let dead = Dead::new(&floor, &bodies);
        let needed = |sequence: u64| bodies.contains(&Sequence(sequence)) || sequence > floor.truncated.0;
        let places: BTreeSet<_> = (1..=sequence).filter_map(|sequence| {
            match built.fold.extents.find(Sequence(sequence)) {
                Some(Place::Journal(slot)) => Some((slot, sequence)),
                _ => None,
            }
        }).collect();
        for (slot, (kind, sequence)) in &built.objects {
            let accepted = places.contains(&(*slot, *sequence));
            let verdict = dead.journal(*slot);
            let deleted = match verdict {
                Verdict::Keep => false,
                Verdict::Delete => true,
                Verdict::Look => dead.of_head(*kind, Sequence(*sequence)),
            };
            if deleted {
                prop_assert!(*kind != Kind::Takeover, "{slot} is a Takeover");
                prop_assert!(*slot < floor.slot, "{slot} lies behind the mark");
                prop_assert!(!accepted || !needed(*sequence), "entry {sequence} at {slot} is needed");
            }
            if accepted && *slot < floor.slot {
                prop_assert_eq!(verdict == Verdict::Delete, !needed(*sequence), "entry {}", sequence);
                prop_assert_ne!(verdict, Verdict::Look, "no request is needed for entry {}", sequence);
            }
            if *kind == Kind::Takeover {
                prop_assert_ne!(verdict, Verdict::Delete);
            }
        }
        // Whoever looks for a body that is needed finds it where it was, also by a mark without what is dead.
        let alive = built.fold.extents.without_dead(dead.end(), &bodies);
        for sequence in (1..45).map(Sequence).filter(|sequence| needed(sequence.0)) {
            prop_assert_eq!(alive.find(sequence), built.fold.extents.find(sequence), "entry {}", sequence);
        }
        prop_assert!(alive.iter().count() <= 2 * bodies.len() + 2 * eras.len());
    }
}

#[test]
fn marks_but_two_and_snapshots_before_the_newest_are_dead() {
    let mut built = Built::default();
    built.reign(1, &Era { back: 0, entries: 9, installs: false });
    let floor = built.floor(Slot { ballot: built.fold.promised, index: 4 }, 5, 3);
    let dead = Dead::new(&floor, &[Sequence(2)]);
    assert_eq!((5..9).map(|k| dead.mark(k)).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!([4, 5, 6].map(|sequence| dead.snapshot(Sequence(sequence))), [true, false, false]);
    assert_eq!([1, 2, 3, 4].map(|sequence| dead.entry(Sequence(sequence))), [true, false, true, false]);
}

/// A path of many reigns whose entries are all gone does not leave an extent for each of them.
#[test]
fn extents_of_what_is_deleted_go() {
    let mut built = Built::default();
    for round in 1..=50 {
        built.reign(round, &Era { back: 0, entries: 10, installs: false });
    }
    assert_eq!(built.fold.extents.iter().count(), 50);
    let bodies = [Sequence(5), Sequence(255)];
    let alive = built.fold.extents.without_dead(Sequence(490), &bodies);
    // The first, what is between, the one with the other body, what follows, and the last, which is open.
    assert_eq!(alive.iter().count(), 5);
    assert_eq!(alive.find(Sequence(255)), built.fold.extents.find(Sequence(255)));
    assert_eq!(alive.find(Sequence(100)), Some(Place::Copy), "nobody looks for it");
    assert_eq!(alive.without_dead(Sequence(490), &[]).iter().count(), 1);
}
