//! What a queue subscription delivers next. Pure: no clock, no store, and no randomness, so that the same calls always
//! give the same deliveries.
//!
//! # Where a message is
//!
//! A message that is found waits: in a lane if it may be delivered, behind the first of its group, or until it is ready.
//! [`Dispatcher::take`] picks it, [`Dispatcher::deliver`] puts it in flight, [`Dispatcher::hold`] takes it out while it
//! is being settled, [`Dispatcher::settled`] forgets it. Time-outs and nacks let it wait again.
//!
//! # What is next
//!
//! - Priority 9 first, then 8, and so on.
//! - Within a priority, first what was put back, in the order in which it had been picked: its turn was taken before.
//! - Then tenants in turn, a message each. A tenant that has nothing when its turn comes leaves, and comes back last.
//! - Of a tenant, first what was delivered before (time-outs, nacks), by age: the lowest offset, whichever the
//!   partition. Then what was not, in the order in which it was found.
//! - Of a group only the first message that is not settled, and only while no other is picked, held or in flight (I16).
//!   It has the turn of that message's priority and tenant. If it is not ready, the group waits.
//!
//! # Memory
//!
//! Millions of messages wait, but few are touched at a time. A message that was not touched since it was found is a few
//! bytes in a [`line`] and a bit in a set; runs of plain messages are a range. The set decides: a message that is settled
//! out of turn only loses its bit, and is passed over when its turn comes. A touched message is a record of 32 bytes, or
//! 56 with a group, a tenant or an end, and a timer of about 12 while it has one.

use std::collections::{BTreeMap, BTreeSet};

use brigade_index::ids::{Offset, Partition};
use roaring::RoaringTreemap;

mod giving_up;
mod lanes;
mod later;
mod line;
mod moves;
mod receipts;
mod records;
mod shards;
mod timers;
mod types;

#[cfg(test)]
use types::Delivered;
pub(crate) use types::{At, Counts, Found, Problem, Rules, Taken, TimedOut};

use lanes::{Candidate, Lanes};
use later::Later;
use line::{Common, Line};
use records::{Records, State};
use shards::Shards;
use timers::Timers;
use types::DEFAULT_PRIORITY;

/// Timers that one tick looks at, so that ten million at once do not stop everything else.
const TICK: usize = 10_000;

/// The messages of one queue subscription that are open, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    rules: Rules,
    /// Untouched messages that are in a lane or behind the first of their group.
    waiting: RoaringTreemap,
    /// Untouched messages that are not ready.
    delayed: RoaringTreemap,
    /// Untouched messages, or messages not found yet, that are being settled with a receipt of an earlier reign.
    adopted: BTreeSet<At>,
    lanes: Lanes,
    later: Later,
    /// Groups with messages that are not settled. The first of each, the only one that may be delivered, is in a lane or
    /// touched; the others are here.
    groups: Shards<Option<Box<Line>>>,
    records: Records,
    /// Of records that are in flight or delayed.
    timers: Timers,
    /// Untouched messages that wait and must wait longer, found out when their turn comes.
    postponed: BTreeMap<At, i64>,
    /// Of untouched messages that earlier reigns delivered more often than was committed: how often, and when first.
    recalled: BTreeMap<At, (u32, i64)>,
    /// Below these offsets there is nothing left of any run.
    floors: BTreeMap<Partition, Offset>,
    /// Picks so far.
    number: u64,
    counts: Counts,
}

impl Dispatcher {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            waiting: RoaringTreemap::new(),
            delayed: RoaringTreemap::new(),
            adopted: BTreeSet::new(),
            lanes: Lanes::new(),
            later: Later::default(),
            groups: Shards::new(),
            records: Records::default(),
            timers: Timers::default(),
            postponed: BTreeMap::new(),
            recalled: BTreeMap::new(),
            floors: BTreeMap::new(),
            number: 0,
            counts: Counts::default(),
        }
    }

    /// How long messages wait from now on after their receipts have expired.
    pub(crate) const fn set_retry_delay(&mut self, retry_delay_ms: u32) {
        self.rules.retry_delay_ms = retry_delay_ms;
    }

    /// Messages found and not settled.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether there is no message at all.
    pub(crate) const fn is_idle(&self) -> bool {
        self.counts.total() == 0
    }

    /// Forgets everything, because the subscription was sent elsewhere. Receipts given before are not in flight any
    /// more; numbers go on.
    #[cfg(test)]
    pub(crate) fn clear(&mut self) {
        *self = Self { number: self.number, ..Self::new(self.rules) };
    }

    /// Takes in a message that is open. Those of a group in ascending order; a message that is known already is ignored.
    pub(crate) fn add(&mut self, mut found: Found, now_ms: i64) {
        if self.is_known(found.at) {
            return;
        }
        found.group = found.group.filter(|_| self.rules.ordered);
        found.tenant = if self.rules.fair { found.tenant } else { 0 };
        found.priority = found.priority.min(9);
        self.waiting.insert(found.at.0);
        self.counts.waiting += u64::from(!self.adopted.contains(&found.at));
        if let Some(hash) = found.group {
            if let Some(others) = self.groups.get_mut(hash) {
                others.get_or_insert_default().push(&behind(hash), &found);
                return;
            }
            self.groups.insert(hash, None);
        }
        self.arrive(&found, now_ms);
    }

    /// Takes in `rows` messages in a row without attributes, which were never delivered.
    pub(crate) fn add_run(&mut self, first: At, rows: u64) {
        if rows == 0 {
            return;
        }
        let end = At(first.0 + rows);
        let known = self.records.first_within(first, end).is_some()
            || self.waiting.range_cardinality(first.0..end.0) > 0
            || self.delayed.range_cardinality(first.0..end.0) > 0;
        if known || rows == 1 {
            (first.0..end.0).for_each(|at| self.add(Found::plain(At(at)), 0));
            return;
        }
        // Floors only save looking: a run below one, which was given back, must be looked at.
        if let Some(floor) = self.floors.get_mut(&first.partition()) {
            *floor = first.offset().min(*floor);
        }
        self.waiting.insert_range(first.0..end.0);
        self.counts.waiting += rows - self.adopted.range(first..end).count() as u64;
        self.lanes.push_run(first, rows);
    }

    /// Forgets messages of a partition below `offset`, wherever they are: the log begins there now, or all below is
    /// settled.
    pub(crate) fn remove_below(&mut self, partition: Partition, offset: Offset, now_ms: i64) {
        let (first, end) = (At::new(partition, Offset(0)), At::new(partition, offset));
        while let Some(at) = self.adopted.range(first..end).next().copied() {
            self.settled(at, now_ms);
        }
        // Untouched ones first, so that none of them is let through by those that are touched.
        self.counts.waiting -= self.waiting.remove_range(first.0..end.0);
        self.counts.delayed -= self.delayed.remove_range(first.0..end.0);
        while let Some(at) = self.records.first_within(first, end) {
            self.settled(at, now_ms);
        }
        while let Some(at) = self.postponed.range(first..end).next().map(|(at, _)| *at) {
            self.postponed.remove(&at);
        }
        while let Some(at) = self.recalled.range(first..end).next().map(|(at, _)| *at) {
            self.recalled.remove(&at);
        }
        let floor = self.floors.entry(partition).or_default();
        *floor = offset.max(*floor);
    }

    /// Picks the next messages, at most `max`. Expired ones are among them, marked.
    pub(crate) fn take(&mut self, now_ms: i64, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let floors = &self.floors;
            let skip = |at: At| {
                let floor = floors.get(&at.partition()).copied().unwrap_or_default();
                At::new(at.partition(), at.offset().max(floor))
            };
            let Some((turn, candidate)) = self.lanes.pop(skip) else { break };
            let picked = match candidate {
                Candidate::Touched(at) => self.records.get(at).map(|record| (at, record)),
                Candidate::Untouched(found) => self.reach(&found, now_ms).map(|record| (found.at, record)),
            };
            let Some((at, mut record)) = picked else { continue };
            self.lanes.end_turn(turn);
            self.number += 1;
            (record.state, record.number) = (State::Picked, self.number);
            self.records.put(at, record);
            (self.counts.waiting, self.counts.held) = (self.counts.waiting - 1, self.counts.held + 1);
            let (group, deliveries, first_ms) = (record.group(), record.deliveries, record.first_ms);
            taken.push(Taken { at, group, deliveries, first_ms, expired: record.expires_ms <= now_ms });
        }
        taken
    }

    /// A message that was picked and is not delivered now: it is first again in its turn.
    pub(crate) fn put_back(&mut self, at: At) {
        if let Some(record) = self.in_state(at, State::Picked) {
            self.change(at, record, State::Returned);
        }
    }

    /// The message is settled, wherever it was. The next of its group may be delivered.
    pub(crate) fn settled(&mut self, at: At, now_ms: i64) {
        self.postponed.remove(&at);
        self.recalled.remove(&at);
        if let Some(record) = self.records.get(at) {
            self.leave(at, &record);
            self.records.remove(at);
            if let Some(group) = record.group() {
                self.advance(group, now_ms);
            }
            return;
        }
        let (waiting, delayed) = (self.waiting.remove(at.0), self.delayed.remove(at.0));
        let count = match (self.adopted.remove(&at), waiting, delayed) {
            (true, ..) => &mut self.counts.held,
            (_, true, _) => &mut self.counts.waiting,
            (_, _, true) => &mut self.counts.delayed,
            _ => return,
        };
        *count -= 1;
    }

    /// Fires timers, of [`TICK`] messages at most: [`Dispatcher::next_timer`] says whether more are due. Messages whose
    /// receipts expired are put into `timed_out`.
    pub(crate) fn tick(&mut self, now_ms: i64, timed_out: &mut Vec<TimedOut>) {
        for _ in 0..TICK {
            let due = self.due(now_ms);
            let Some((at, record)) = due.and_then(|at| Some((at, self.records.get(at)?))) else { break };
            if record.state == State::Delayed {
                self.change(at, record, State::Again);
                continue;
            }
            let delay = i64::from(self.rules.retry_delay_ms);
            let ready_ms = if delay == 0 { 0 } else { now_ms.saturating_add(delay) };
            let (deliveries, first_ms) = (record.deliveries, record.first_ms);
            timed_out.push(TimedOut { at, deliveries, first_ms, ready_ms });
            self.wait_until(at, record, ready_ms, now_ms);
        }
        for _ in 0..TICK {
            let Some(found) = self.later.pop(now_ms) else { break };
            if !self.delayed.remove(found.at.0) {
                continue;
            }
            if !self.adopted.contains(&found.at) {
                (self.counts.delayed, self.counts.waiting) = (self.counts.delayed - 1, self.counts.waiting + 1);
            }
            self.waiting.insert(found.at.0);
            self.arrive(&found, now_ms);
        }
    }

    /// When [`Dispatcher::tick`] has something to do, in milliseconds since the epoch.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        let timer = self.timers.first();
        timer.into_iter().chain(self.later.next_timer()).min()
    }
}

/// What the messages behind the first of a group have in common.
const fn behind(group: u64) -> Common {
    Common { group: Some(group), tenant: 0, priority: DEFAULT_PRIORITY }
}

#[cfg(test)]
mod tests;
