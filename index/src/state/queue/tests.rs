//! A partition of a queue against a model that keeps one letter for each message.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::command::{DeadReason, Retry};

const END: u64 = 300;

/// One thing that is done to a partition.
#[derive(Clone, Debug)]
enum Step {
    Settle(u64, u32),
    Retry(u64),
    Dead(u64),
    Restore(u64),
    Purge(u64),
    Hold(u64, u32),
    LetGo(u64, u32),
    Seek(u64),
    Trim(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let run = || (0..END - 60, 1..60u32);
    prop_oneof![
        6 => run().prop_map(|(first, count)| Step::Settle(first, count)),
        6 => (0..END).prop_map(|first| Step::Settle(first, 1)),
        2 => (0..END).prop_map(Step::Retry),
        2 => (0..END).prop_map(Step::Dead),
        2 => (0..END).prop_map(Step::Restore),
        1 => (0..END).prop_map(Step::Purge),
        1 => run().prop_map(|(first, count)| Step::Hold(first, count)),
        1 => run().prop_map(|(first, count)| Step::LetGo(first, count)),
        1 => (0..END).prop_map(Step::Seek),
        1 => (0..END / 4).prop_map(Step::Trim),
    ]
}

#[derive(Default)]
struct Model {
    settled: BTreeSet<u64>,
    retries: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    held: BTreeSet<u64>,
}

impl Model {
    fn settle(&mut self, offset: u64) {
        self.settled.insert(offset);
        self.retries.remove(&offset);
        self.held.remove(&offset);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Settle(first, count) => (first..first + u64::from(count)).for_each(|offset| self.settle(offset)),
            Step::Retry(offset) => {
                if !self.settled.contains(&offset) {
                    self.retries.insert(offset);
                }
            }
            Step::Dead(offset) => {
                if !self.settled.contains(&offset) {
                    self.dead.insert(offset);
                    self.settle(offset);
                }
            }
            Step::Restore(offset) => {
                if self.dead.remove(&offset) {
                    self.settled.remove(&offset);
                }
            }
            Step::Purge(offset) => _ = self.dead.remove(&offset),
            Step::Hold(first, count) => {
                let open = (first..first + u64::from(count)).filter(|offset| !self.settled.contains(offset));
                self.held.extend(open);
            }
            Step::LetGo(first, count) => self.held.retain(|at| !(first..first + u64::from(count)).contains(at)),
            Step::Seek(position) => {
                self.settled = (0..position).collect();
                self.retries.retain(|at| *at >= position);
                self.dead.retain(|at| *at < position);
                self.held.retain(|at| *at >= position);
            }
            Step::Trim(position) => {
                self.settled.extend(0..position);
                self.retries.retain(|at| *at >= position);
                self.dead.retain(|at| *at >= position);
                self.held.retain(|at| *at >= position);
            }
        }
    }
}

fn carry_out(part: &mut QueuePartition, step: &Step) {
    let id = TransactionId::new("t").unwrap();
    let mut settle = SettlePartition::default();
    match *step {
        Step::Settle(first, count) => settle.settled.push((Offset(first), count)),
        Step::Retry(offset) => settle.retries.push((Offset(offset), Retry::default())),
        Step::Dead(offset) => {
            let letter = DeadLetter { reason: DeadReason::Rejected, deliveries: 1, first_ms: 2, time_ms: 3 };
            settle.dead.push((Offset(offset), letter));
        }
        Step::Restore(offset) => settle.restored.push(Offset(offset)),
        Step::Purge(offset) => settle.purged.push(Offset(offset)),
        Step::Hold(first, count) => {
            // A transaction holds only what is open.
            let open: Vec<_> = (first..first + u64::from(count)).filter(|at| part.is_open(Offset(*at))).collect();
            for offset in open {
                let one = SettlePartition { settled: vec![(Offset(offset), 1)], ..SettlePartition::default() };
                assert_eq!(part.first_not_open(&one), None);
                part.hold(&one, &id);
            }
            return;
        }
        Step::LetGo(first, count) => {
            settle.settled.push((Offset(first), count));
            return part.let_go(&settle, &id);
        }
        Step::Seek(position) => return part.seek(Offset(position)),
        Step::Trim(position) => return part.trim(Offset(position)),
    }
    part.apply(&settle);
}

proptest! {
    #[test]
    fn a_partition_is_what_its_messages_add_up_to(steps in vec(step(), 0..60)) {
        let (mut part, mut model) = (QueuePartition::default(), Model::default());
        for step in steps {
            carry_out(&mut part, &step);
            model.step(&step);
            for at in 0..END {
                prop_assert_eq!(part.is_settled(Offset(at)), model.settled.contains(&at), "{} after {:?}", at, step);
                let open = !model.settled.contains(&at) && !model.held.contains(&at);
                prop_assert_eq!(part.is_open(Offset(at)), open, "{} after {:?}", at, step);
            }
            let keys = |map: Vec<&Offset>| map.into_iter().map(|at| at.0).collect::<BTreeSet<_>>();
            prop_assert_eq!(part.retries.iter().map(|(at, _)| at.0).collect::<BTreeSet<_>>(), model.retries.clone());
            prop_assert_eq!(keys(part.dead.keys().collect()), model.dead.clone());
            prop_assert_eq!(keys(part.held.keys().collect()), model.held.clone());
            let floor = (0..END + 60).find(|at| !model.settled.contains(at)).unwrap_or(END + 60);
            prop_assert_eq!(part.floor(), Offset(floor));
            prop_assert_eq!(part.needed_from(), Offset(model.dead.first().map_or(floor, |dead| floor.min(*dead))));
            prop_assert_eq!(part.unsettled(Offset(END)), (0..END).filter(|at| !model.settled.contains(at)).count() as u64);
        }
        let mut runs = BTreeMap::new();
        let mut at = Offset(0);
        while let Some((first, end)) = part.next_unsettled(at, Offset(END)) {
            prop_assert!(first < end && first >= at && end <= Offset(END));
            runs.insert(first, end);
            at = end;
        }
        let listed: BTreeSet<u64> = runs.iter().flat_map(|(first, end)| first.0..end.0).collect();
        prop_assert_eq!(listed, (0..END).filter(|at| !model.settled.contains(at)).collect());
    }

    #[test]
    fn what_is_not_open_is_named(settled in vec(0..40u64, 0..20), held in vec(0..40u64, 0..3), first in 0..30u64, count in 1..10u32) {
        let mut part = QueuePartition::default();
        settled.iter().for_each(|at| carry_out(&mut part, &Step::Settle(*at, 1)));
        held.iter().for_each(|at| carry_out(&mut part, &Step::Hold(*at, 1)));
        let asked = SettlePartition { settled: vec![(Offset(first), count)], ..SettlePartition::default() };
        let found = part.first_not_open(&asked);
        let all_open = (first..first + u64::from(count)).all(|at| part.is_open(Offset(at)));
        prop_assert_eq!(found.is_none(), all_open);
        prop_assert!(found.is_none_or(|at| !part.is_open(at) && at.0 >= first && at.0 < first + u64::from(count)));
    }
}

/// Half a million settled one by one, every other one, take little memory, and the floor rises over them at once.
#[test]
fn settled_messages_are_compressed() {
    let mut part = QueuePartition::default();
    let every_other = |from: u64| (0..500_000u64).map(|at| (Offset(from + 2 * at), 1)).collect::<Vec<_>>();
    part.apply(&SettlePartition { settled: every_other(1), ..SettlePartition::default() });
    assert_eq!((part.floor(), part.unsettled(Offset(1_000_000))), (Offset(0), 500_000));
    assert!(part.settled.serialized_size() < 200_000, "{}", part.settled.serialized_size());
    part.apply(&SettlePartition { settled: every_other(0), ..SettlePartition::default() });
    assert_eq!((part.floor(), part.settled.len()), (Offset(1_000_000), 0));
}
