//! The dispatcher against its model, and each of its rules.

use std::collections::BTreeMap;

use brigade_index::ids::{Offset, Partition};
use proptest::{collection::vec, option, prelude::*};

use super::{
    line::{Common, Line},
    *,
};

mod measure;
mod model;
mod rules;

use model::{Model, Place};

#[derive(Clone, Debug)]
enum Op {
    Add {
        partition: u32,
        found: Found,
        delay: i64,
        ttl: Option<i64>,
    },
    Run {
        partition: u32,
        rows: u64,
    },
    Take(usize),
    Deliver(usize, i64),
    PutBack(usize),
    /// Of what was picked, else of any that is known.
    SettlePicked(usize),
    SettleAny(usize),
    Hold(usize),
    Release(usize),
    Retry(usize, i64),
    Nack(usize, i64),
    Extend(usize, i64),
    Adopt {
        partition: u32,
        offset: u64,
    },
    Wait(i64),
    RemoveBelow {
        partition: u32,
        back: u64,
    },
    Clear,
}

fn a_found() -> impl Strategy<Value = Found> {
    let deliveries = prop_oneof![4 => Just(0u32), 1 => 1..4u32];
    let priority = prop_oneof![3 => Just(4u8), 1 => Just(9), 1 => 0..4u8];
    (option::weighted(0.7, 0..4u64), 0..3u64, priority, deliveries).prop_map(|(group, tenant, priority, deliveries)| {
        // Every third group is its own tenant.
        let tenant = group.filter(|group| group % 3 == 0).unwrap_or(tenant);
        let first_ms = if deliveries > 0 { 5 } else { 0 };
        Found { group, tenant, priority, deliveries, first_ms, ..Found::plain(At(0)) }
    })
}

fn an_op() -> impl Strategy<Value = Op> {
    let delay = || prop_oneof![3 => Just(0i64), 2 => 1..60i64, 1 => 60..20_000_000i64];
    let add = (0..2u32, a_found(), delay(), option::weighted(0.2, 1..200i64));
    let any = 0..64usize;
    prop_oneof![
        8 => add.prop_map(|(partition, found, delay, ttl)| Op::Add { partition, found, delay, ttl }),
        2 => (0..2u32, 1..6u64).prop_map(|(partition, rows)| Op::Run { partition, rows }),
        6 => (0..5usize).prop_map(Op::Take),
        6 => (any.clone(), 1..80i64).prop_map(|(which, deadline)| Op::Deliver(which, deadline)),
        2 => any.clone().prop_map(Op::PutBack),
        1 => any.clone().prop_map(Op::SettlePicked),
        1 => any.clone().prop_map(Op::SettleAny),
        4 => any.clone().prop_map(Op::Hold),
        2 => any.clone().prop_map(Op::Release),
        1 => (any.clone(), delay()).prop_map(|(which, delay)| Op::Retry(which, delay)),
        2 => (any.clone(), delay()).prop_map(|(which, delay)| Op::Nack(which, delay)),
        2 => (any, 0..90i64).prop_map(|(which, deadline)| Op::Extend(which, deadline)),
        2 => (0..2u32, 0..40u64).prop_map(|(partition, offset)| Op::Adopt { partition, offset }),
        4 => prop_oneof![8 => 0..50i64, 1 => 0..30_000_000i64].prop_map(Op::Wait),
        1 => (0..2u32, 0..30u64).prop_map(|(partition, back)| Op::RemoveBelow { partition, back }),
        1 => Just(Op::Clear),
    ]
}

fn some_rules() -> impl Strategy<Value = Rules> {
    let ordered = prop_oneof![1 => Just(false), 3 => Just(true)];
    (ordered, any::<bool>(), prop_oneof![Just(0u32), 1..50u32]).prop_map(|(ordered, fair, retry_delay_ms)| Rules {
        ordered,
        fair,
        retry_delay_ms,
    })
}

/// Both, side by side.
struct Pair {
    real: Dispatcher,
    model: Model,
    now: i64,
    ends: [u64; 2],
    receipts: Vec<(At, u64)>,
}

fn at(partition: u32, offset: u64) -> At {
    At::new(Partition(partition), Offset(offset))
}

impl Pair {
    fn new(rules: Rules) -> Self {
        let (real, model) = (Dispatcher::new(rules), Model::new(rules));
        Self { real, model, now: 1_000_000, ends: [0; 2], receipts: Vec::new() }
    }

    /// A message in a place, or any if there is none.
    fn pick(&self, which: usize, place: Place) -> Option<At> {
        let there = self.model.messages.iter().filter(|(_, message)| message.place == place).map(|(at, _)| *at);
        let there: Vec<_> = there.collect();
        if there.is_empty() { self.any(which) } else { Some(there[which % there.len()]) }
    }

    fn any(&self, which: usize) -> Option<At> {
        let count = self.model.messages.len().max(1);
        self.model.messages.keys().nth(which % count).copied()
    }

    /// A receipt; recent ones are more likely still good.
    fn receipt(&self, which: usize) -> Option<(At, u64)> {
        let recent = self.receipts.len().min(1 + which / 4);
        self.receipts.iter().rev().nth(which % recent.max(1)).copied()
    }

    fn run(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Add { partition, mut found, delay, ttl } => {
                found.at = at(partition, self.ends[partition as usize]);
                self.ends[partition as usize] += 1 + delay as u64 % 3;
                found.ready_ms = if delay == 0 { 0 } else { now + delay };
                found.expires_ms = ttl.map(|ttl| now + ttl);
                self.real.add(found, now);
                self.model.add(found, now);
            }
            Op::Run { partition, rows } => {
                let first = at(partition, self.ends[partition as usize]);
                self.ends[partition as usize] += rows;
                self.real.add_run(first, rows);
                self.model.add_run(first, rows, now);
            }
            Op::Take(max) => assert_eq!(self.real.take(now, max), self.model.take(now, max)),
            Op::Adopt { partition, offset } => {
                let at = at(partition, offset);
                assert_eq!(self.real.adopt(at), self.model.adopt(at));
            }
            Op::Wait(ms) => {
                self.now += ms;
                let mut timed_out = Vec::new();
                self.real.tick(self.now, &mut timed_out);
                assert_eq!(timed_out, self.model.tick(self.now));
            }
            Op::RemoveBelow { partition, back } => {
                let offset = self.ends[partition as usize].saturating_sub(back);
                self.real.remove_below(Partition(partition), Offset(offset), now);
                self.model.remove_below(at(partition, offset), now);
            }
            Op::Clear => {
                self.real.clear();
                self.model.clear();
            }
            _ => self.run_on_one(op),
        }
    }

    fn run_on_one(&mut self, op: &Op) {
        let now = self.now;
        let place = match op {
            Op::Release(_) | Op::Retry(..) => Place::Held,
            _ => Place::Picked,
        };
        match *op {
            Op::Hold(which) | Op::Nack(which, _) | Op::Extend(which, _) => {
                let Some((at, number)) = self.receipt(which) else { return };
                assert_eq!(self.real.check(at, number, now), self.model.check(at, number, now));
                let (real, model) = match *op {
                    Op::Nack(_, delay) => {
                        (self.real.nack(at, number, now, now + delay), self.model.nack(at, number, now, now + delay))
                    }
                    Op::Extend(_, by) => {
                        (self.real.extend(at, number, now, now + by), self.model.extend(at, number, now, now + by))
                    }
                    _ => (self.real.hold(at, number, now), self.model.hold(at, number, now)),
                };
                assert_eq!(real, model);
            }
            Op::Deliver(which, ..)
            | Op::PutBack(which)
            | Op::SettlePicked(which)
            | Op::SettleAny(which)
            | Op::Release(which)
            | Op::Retry(which, _) => {
                let any = matches!(op, Op::SettleAny(_));
                let Some(at) = (if any { self.any(which) } else { self.pick(which, place) }) else { return };
                match *op {
                    Op::Deliver(_, for_ms) => {
                        let delivered = self.real.deliver(at, now, now + for_ms);
                        assert_eq!(delivered, self.model.deliver(at, now, now + for_ms));
                        self.receipts.extend(delivered.map(|delivered| (at, delivered.number)));
                    }
                    Op::PutBack(_) => (self.real.put_back(at), self.model.put_back(at)).0,
                    Op::Release(_) => (self.real.release(at, now), self.model.release(at, now)).0,
                    Op::Retry(_, delay) => {
                        self.real.retry(at, now, now + delay);
                        self.model.retry(at, now, now + delay);
                    }
                    _ => (self.real.settled(at, now), self.model.settled(at, now)).0,
                }
            }
            _ => unreachable!("the others are not on one message"),
        }
    }

    fn agree(&self) {
        assert_eq!(self.real.counts(), self.model.counts());
        assert_eq!(self.real.next_timer(), self.model.next_timer());
        assert_eq!(self.real.is_idle(), self.real.counts().total() == 0);
        let mut out: BTreeMap<u64, At> = BTreeMap::new();
        for (at, message) in &self.model.messages {
            if matches!(message.place, Place::Picked | Place::InFlight | Place::Held)
                && let Some(group) = message.found.group
            {
                assert_eq!(out.insert(group, *at), None, "two of group {group} are out (I16)");
            }
        }
    }

    /// Whatever happened, every message comes out once everything that holds it lets go.
    fn drain(mut self) {
        for offset in 0..200 {
            (0..2).for_each(|partition| self.real.release(at(partition, offset), self.now));
        }
        let mut out = Vec::new();
        let open = self.model.messages.keys().copied().collect::<Vec<_>>();
        for _ in 0..500 {
            for taken in self.real.take(self.now, 100) {
                out.push(taken.at);
                self.real.settled(taken.at, self.now);
            }
            // What was picked before and neither delivered nor put back.
            open.iter().for_each(|at| self.real.put_back(*at));
            match self.real.next_timer() {
                Some(due) => self.now = self.now.max(due),
                None if self.real.is_idle() => break,
                None => {}
            }
            self.real.tick(self.now, &mut Vec::new());
        }
        out.sort_unstable();
        assert_eq!(out, open, "open messages that came out");
        assert!(self.real.is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(rules in some_rules(), ops in vec(an_op(), 1..150)) {
        let mut pair = Pair::new(rules);
        for op in &ops {
            pair.run(op);
            pair.agree();
        }
        pair.drain();
    }

    /// Settled messages that are given back while their old places in line are still there: what was settled does not
    /// come out, what is open comes out once, and never two of a group at once.
    #[test]
    fn messages_that_come_back_are_delivered_once(
        rules in some_rules(),
        steps in vec((0..12u64, 0..4u8, 0..3usize), 1..200),
    ) {
        let mut real = Dispatcher::new(rules);
        let mut open: BTreeMap<At, bool> = BTreeMap::new();
        for (now, (offset, what, max)) in (1..).zip(steps) {
            let at = at(0, offset);
            match what {
                0 => {
                    let ready_ms = if offset == 7 { now + 9 } else { 0 };
                    let group = (offset < 9).then_some(offset % 2);
                    real.add(Found { group, ready_ms, tenant: offset % 3, ..Found::plain(at) }, now);
                    open.entry(at).or_insert(false);
                }
                1 => {
                    real.settled(at, now);
                    open.remove(&at);
                }
                2 => {
                    if !real.take(now, 0).is_empty() || real.adopt(at).is_ok() {
                        real.settled(at, now);
                        open.remove(&at);
                    }
                }
                _ => for taken in real.take(now, max) {
                    prop_assert_eq!(open.insert(taken.at, true), Some(false));
                    let out = |at: &At| open[at] && at.offset().0 < 9 && at.offset().0 % 2 == taken.at.offset().0 % 2;
                    let out = open.keys().filter(|at| out(at)).count();
                    prop_assert!(!rules.ordered || taken.at.offset().0 >= 9 || out == 1);
                },
            }
            real.tick(now, &mut Vec::new());
            prop_assert_eq!(real.counts().total(), open.len() as u64);
        }
    }

    #[test]
    fn a_line_gives_what_it_was_given(
        found in vec((a_found(), any::<(u16, u64)>(), 0..3i64, option::of(0..i64::MAX), 0..3u64), 0..300),
        common in (option::of(0..4u64), 0..3u64),
        keep in 0..20usize,
    ) {
        let common = Common { group: common.0, tenant: common.1, priority: DEFAULT_PRIORITY };
        let (mut line, mut given, mut offset) = (Line::default(), std::collections::VecDeque::new(), 0);
        for (mut found, (partition, far), ready_ms, expires_ms, step) in found {
            offset = if step == 2 { far >> 10 } else { offset + step };
            found = Found { at: at(u32::from(partition) % 3 * step as u32, offset), ready_ms, expires_ms, ..found };
            line.push(&common, &found);
            given.push_back((found, 1));
            if step == 1 {
                line.push_run(found.at, 1 + far % 9);
                given.push_back((Found { group: common.group, tenant: common.tenant, ..Found::plain(found.at) }, 1 + far % 9));
            }
            while given.len() > keep {
                prop_assert_eq!(line.pop(&common), given.pop_front());
            }
            prop_assert_eq!(line.is_empty(), given.is_empty());
        }
        while let Some(next) = given.pop_front() {
            prop_assert_eq!(line.pop(&common), Some(next));
        }
        prop_assert_eq!(line.pop(&common), None);
    }
}
