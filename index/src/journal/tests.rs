//! The protocol under random schedules: several candidates and leaders over one region whose puts arrive late, twice or
//! never. Model checking of three regions builds on the same core.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    format::{Head, Kind, Leader, Record, Value},
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
};

/// One region: write-once objects.
#[derive(Default)]
struct Region(BTreeMap<Slot, Record>);

impl Region {
    /// Put-if-absent. Whether the object there is the one that was put.
    fn put(&mut self, slot: Slot, record: Record) -> bool {
        self.0.entry(slot).or_insert_with(|| record.clone()).head.id == record.head.id
    }

    fn fold(&self) -> Fold {
        let mut fold = Fold::start(None);
        while let Some(record) = self.0.get(&fold.at) {
            fold.accept(record).unwrap();
        }
        fold
    }
}

/// The content of an entry in this test: a number in its time.
fn commit(ballot: Ballot, parent: Slot, id: u128, sequence: Sequence, committed: Sequence, content: i64) -> Record {
    let value = Value { time_ms: content, commands: Vec::new(), marks: Vec::new() };
    let head = Head {
        kind: Kind::Commit,
        id: WriteId(id),
        ballot,
        parent,
        sequence,
        committed: committed.min(sequence),
        section_len: 0,
        section_crc: 0,
        body_len: 0,
    };
    Record::decode(&Bytes::from(head.encode(&value.encode()))).unwrap()
}

fn takeover(ballot: Ballot, parent: Slot, id: WriteId) -> Record {
    Record::decode(&Leader::default().takeover(ballot, parent, id)).unwrap()
}

fn content(accepted: &Accepted) -> i64 {
    Value::decode(&accepted.section).unwrap().time_ms
}

/// A node that is a candidate, leads, or has been deposed.
enum Node {
    Candidate(Box<Candidate>),
    Leader(Box<Leading>),
    Gone,
}

struct Leading {
    lane: Lane,
    quorum: Quorum,
    ballot: Ballot,
    next: Sequence,
    contents: BTreeMap<Sequence, i64>,
    /// Sent and not known to have landed.
    flying: BTreeMap<Slot, Record>,
}

struct World {
    region: Region,
    rng: StdRng,
    ids: u128,
    contents: i64,
    nodes: Vec<Node>,
    /// Contents acknowledged, by sequence.
    acknowledged: BTreeMap<Sequence, i64>,
    /// Puts of dead leaders that may still land.
    late: Vec<(Slot, Record)>,
}

impl World {
    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..self.nodes.len());
        let node = std::mem::replace(&mut self.nodes[at], Node::Gone);
        self.nodes[at] = match node {
            Node::Candidate(candidate) => self.candidate(candidate),
            Node::Leader(leading) => self.leader(leading),
            Node::Gone => Node::Candidate(Box::new(Candidate::new(WriteId(self.id())))),
        };
        if !self.late.is_empty() && self.rng.random_bool(0.2) {
            let at = self.rng.random_range(0..self.late.len());
            let (slot, record) = self.late.swap_remove(at);
            self.region.put(slot, record);
        }
        self.check();
    }

    fn candidate(&mut self, mut candidate: Box<Candidate>) -> Node {
        match candidate.want() {
            Want::Floor => candidate.floor(None),
            Want::Object(slot) => {
                let record = self.region.0.get(&slot).cloned();
                if candidate.object(record.as_ref()).unwrap().is_err() {
                    return Node::Gone;
                }
            }
            Want::Ballot(promised) => {
                candidate.stand(Ballot { round: promised.round + 1, nonce: self.rng.random() });
            }
            Want::Put { slot, parent, ballot } => {
                let landed = self.region.put(slot, takeover(ballot, parent, candidate.id()));
                // The answer may be lost; then the object is read back, which `object` must recognise as its own.
                if self.rng.random_bool(0.7) || !landed {
                    candidate.put(landed);
                } else if candidate.object(self.region.0.get(&slot)).unwrap().is_err() {
                    return Node::Gone;
                }
            }
            Want::Void => return Node::Gone,
            Want::Promised => return self.lead(*candidate),
        }
        Node::Candidate(candidate)
    }

    fn lead(&mut self, candidate: Candidate) -> Node {
        let (promise, slot) = candidate.into_promise().unwrap();
        let ballot = self.region.0[&slot].head.ballot;
        let merged = merge(std::slice::from_ref(&promise)).unwrap();
        let mut contents = BTreeMap::new();
        for (sequence, _, accepted) in merged.settled.iter().chain(&merged.reappend) {
            contents.insert(*sequence, content(accepted));
        }
        let first = merged.committed.next();
        let lane = Lane::new(ballot, slot, first, 3);
        let quorum = Quorum::new(1, merged.committed);
        Node::Leader(Box::new(Leading { lane, quorum, ballot, next: first, contents, flying: BTreeMap::new() }))
    }

    fn leader(&mut self, mut leading: Box<Leading>) -> Node {
        match self.rng.random_range(0..10) {
            0 => {
                // Dies; what it sent may land at any time.
                self.late.extend(leading.flying);
                return Node::Gone;
            }
            1..=4 if leading.lane.has_room() => {
                let (sequence, id) = (leading.next, self.id());
                leading.next = sequence.next();
                self.contents += 1;
                let content = *leading.contents.entry(sequence).or_insert(self.contents);
                let committed = leading.quorum.committed();
                let slot = leading.lane.send(sequence);
                let record = commit(leading.ballot, leading.lane.parent(), id, sequence, committed, content);
                leading.flying.insert(slot, record);
            }
            _ => {
                // Any of those in flight lands, in any order; it may land and the answer be lost.
                let slots: Vec<_> = leading.flying.keys().copied().collect();
                if slots.is_empty() {
                    return Node::Leader(leading);
                }
                let slot = slots[self.rng.random_range(0..slots.len())];
                if !self.region.put(slot, leading.flying[&slot].clone()) {
                    self.late.extend(leading.flying);
                    return Node::Gone;
                }
                if self.rng.random_bool(0.8) {
                    leading.flying.remove(&slot);
                    leading.lane.landed(slot);
                    self.acknowledge(&mut leading);
                }
            }
        }
        Node::Leader(leading)
    }

    fn acknowledge(&mut self, leading: &mut Leading) {
        let before = leading.quorum.committed();
        let committed = leading.quorum.advance([leading.lane.accepted()]);
        assert!(committed >= before, "I2");
        for sequence in (before.0 + 1..=committed.0).map(Sequence) {
            let content = leading.contents[&sequence];
            let known = *self.acknowledged.entry(sequence).or_insert(content);
            assert_eq!(known, content, "I1: one content a sequence, under all leaders");
        }
        if committed > before {
            // Only from its first commit on is a leader known to have started from everything committed before: between
            // its promise and then, another may have taken over in turn.
            for (sequence, acknowledged) in self.acknowledged.range(..=committed) {
                assert_eq!(
                    leading.contents.get(sequence),
                    Some(acknowledged),
                    "I5: a leader extends what is committed"
                );
            }
        }
    }

    /// What any reader may see now.
    fn check(&self) {
        let fold = self.region.fold();
        for sequence in (1..=fold.committed.0).map(Sequence) {
            let shown = content(&fold.log[&sequence]);
            assert_eq!(self.acknowledged.get(&sequence), Some(&shown), "I2: the mark never exceeds what is committed");
        }
        for (sequence, acknowledged) in &self.acknowledged {
            let held = fold.log.get(sequence).map(content);
            assert_eq!(held, Some(*acknowledged), "I6: what is acknowledged is on the path");
        }
    }
}

fn run(seed: u64) -> usize {
    let nodes = (0..3).map(|_| Node::Gone).collect();
    let rng = StdRng::seed_from_u64(seed);
    let (acknowledged, late) = (BTreeMap::new(), Vec::new());
    let mut world = World { region: Region::default(), rng, ids: 0, contents: 0, nodes, acknowledged, late };
    for _ in 0..600 {
        world.step();
    }
    world.acknowledged.len()
}

#[test]
fn no_acknowledged_entry_is_lost_or_changed_whatever_the_schedule() {
    let acknowledged: usize = (0..300).map(run).sum();
    assert!(acknowledged > 3_000, "the schedules must make progress to mean anything: {acknowledged}");
}

#[test]
fn a_takeover_goes_to_the_first_hole_and_voids_what_lands_behind_it() {
    let (first, second) = (Ballot { round: 1, nonce: 1 }, Ballot { round: 2, nonce: 2 });
    let mut region = Region::default();
    let start = Slot::first(Ballot::BOOTSTRAP);
    region.put(start, takeover(first, Slot::default(), WriteId(1)));
    let at = |index| Slot { ballot: first, index };
    region.put(at(0), commit(first, start, 2, Sequence(1), Sequence(0), 10));
    // A hole at index 1: index 2 has landed first.
    region.put(at(2), commit(first, start, 3, Sequence(3), Sequence(1), 30));
    let fold = region.fold();
    assert_eq!((fold.at, fold.log.len()), (at(1), 1));
    region.put(fold.at, takeover(second, start, WriteId(4)));
    let fold = region.fold();
    assert_eq!((fold.at, fold.log.keys().copied().collect::<Vec<_>>()), (Slot::first(second), vec![Sequence(1)]));
    assert_eq!(fold.promised, second);
}

#[test]
fn an_object_of_one_who_came_another_way_is_refused() {
    let ballot = Ballot { round: 1, nonce: 1 };
    let mut region = Region::default();
    region.put(Slot::first(Ballot::BOOTSTRAP), takeover(ballot, Slot::default(), WriteId(1)));
    let mut fold = region.fold();
    let elsewhere = Slot { ballot: Ballot { round: 0, nonce: 0 }, index: 5 };
    let before = fold.clone();
    let refused = fold.accept(&commit(ballot, elsewhere, 2, Sequence(1), Sequence(0), 1));
    assert!(matches!(refused, Err(FoldError::Parent { .. })), "{refused:?}");
    let skipped = fold.accept(&takeover(ballot, fold.parent, WriteId(3)));
    assert!(matches!(skipped, Err(FoldError::Ballot { .. })), "{skipped:?}");
    assert_eq!(fold, before);
}

#[test]
fn entries_must_follow_each_other_under_one_ballot() {
    let ballot = Ballot { round: 1, nonce: 1 };
    let start = Slot::first(Ballot::BOOTSTRAP);
    let mut fold = Fold::start(None);
    fold.accept(&takeover(ballot, Slot::default(), WriteId(1))).unwrap();
    fold.accept(&commit(ballot, start, 2, Sequence(1), Sequence(0), 1)).unwrap();
    let refused = fold.accept(&commit(ballot, start, 3, Sequence(3), Sequence(0), 1));
    assert!(matches!(refused, Err(FoldError::Sequence { .. })), "{refused:?}");
}

#[test]
fn a_quorum_is_a_majority_and_its_mark_never_falls() {
    let mut quorum = Quorum::new(3, Sequence(4));
    assert_eq!(quorum.advance([Sequence(9)]), Sequence(4));
    assert_eq!(quorum.advance([Sequence(9), Sequence(6)]), Sequence(6));
    assert_eq!(quorum.advance([Sequence(9), Sequence(6), Sequence(7)]), Sequence(7));
    assert_eq!(quorum.advance([Sequence(5), Sequence(5), Sequence(5)]), Sequence(7));
    assert_eq!(Quorum::new(1, Sequence(0)).advance([Sequence(3)]), Sequence(3));
}

#[test]
fn merging_takes_the_highest_ballot_and_stops_at_a_gap() {
    let low = Ballot { round: 1, nonce: 0 };
    let high = Ballot { round: 2, nonce: 0 };
    let with = |entries: &[(u64, Ballot)], committed| {
        let mut fold = Fold::default();
        fold.committed = Sequence(committed);
        for (n, ballot) in entries {
            let slot = Slot { ballot: *ballot, index: *n };
            let (id, section) = (WriteId(0), Bytes::new());
            let accepted = Accepted { ballot: *ballot, id, slot, section, body_at: 0, body_len: 0 };
            fold.log.insert(Sequence(*n), accepted);
        }
        fold
    };
    let merged = merge(&[with(&[(1, low), (2, low), (4, low)], 1), with(&[(1, low), (2, high)], 0)]).unwrap();
    assert_eq!(merged.committed, Sequence(1));
    let again: Vec<_> = merged.reappend.iter().map(|(n, at, accepted)| (n.0, *at, accepted.ballot)).collect();
    assert_eq!(again, [(2, 1, high)]);
    assert_eq!(merge(&[with(&[(1, low)], 2)]), None, "I5: a committed entry is missing");
    let kinds: BTreeSet<_> = merged.settled.iter().map(|(n, ..)| n.0).collect();
    assert_eq!(kinds, BTreeSet::from([1]));
}
