//! The dispatcher again, as plainly as possible: one list of messages, searched for everything.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    At, Counts, Delivered, Found, Problem, Rules, Taken, TimedOut,
    later::{Later, round_up},
    types::DEFAULT_PRIORITY,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not touched: behind the first of its group, in a lane, or delayed.
    Behind,
    Lane,
    Later,
    Picked,
    InFlight,
    Held,
    Delayed,
    Again,
    Returned,
}

impl Place {
    fn is_touched(self) -> bool {
        !matches!(self, Self::Behind | Self::Lane | Self::Later)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) found: Found,
    pub(super) place: Place,
    when_ms: i64,
    number: u64,
    delivered: bool,
}

impl Message {
    fn expires_ms(&self) -> i64 {
        self.found.expires_ms.unwrap_or(i64::MAX)
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    rules: Rules,
    pub(super) messages: BTreeMap<At, Message>,
    /// Lanes in one list. Messages that are settled in their lane stay until their turn.
    lanes: Vec<Found>,
    turns: BTreeMap<u8, Vec<u64>>,
    groups: BTreeMap<u64, Vec<At>>,
    later: Later,
    adopted: BTreeSet<At>,
    postponed: BTreeMap<At, i64>,
    number: u64,
}

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { number: self.number, ..Self::new(self.rules) };
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { held: self.adopted.len() as u64, ..Counts::default() };
        for (at, message) in &self.messages {
            match message.place {
                _ if self.adopted.contains(at) => {}
                Place::Behind | Place::Lane | Place::Again | Place::Returned => counts.waiting += 1,
                Place::Later | Place::Delayed => counts.delayed += 1,
                Place::InFlight => counts.in_flight += 1,
                Place::Picked | Place::Held => counts.held += 1,
            }
        }
        counts
    }

    pub(super) fn next_timer(&self) -> Option<i64> {
        let timed = self.messages.values().filter(|message| matches!(message.place, Place::InFlight | Place::Delayed));
        timed.map(|message| round_up(message.when_ms)).chain(self.later.next_timer()).min()
    }

    pub(super) fn add(&mut self, mut found: Found, now: i64) {
        if self.messages.contains_key(&found.at) {
            return;
        }
        found.group = found.group.filter(|_| self.rules.ordered);
        found.tenant = if self.rules.fair { found.tenant } else { 0 };
        let message = Message { found, place: Place::Behind, when_ms: 0, number: 0, delivered: false };
        self.messages.insert(found.at, message);
        if let Some(group) = found.group {
            let group = self.groups.entry(group).or_default();
            group.push(found.at);
            if group.len() > 1 {
                return;
            }
        }
        self.arrive(found.at, now);
    }

    fn join(&mut self, priority: u8, tenant: u64) {
        let turns = self.turns.entry(priority).or_default();
        if !turns.contains(&tenant) {
            turns.push(tenant);
        }
    }

    fn arrive(&mut self, at: At, now: i64) {
        let found = self.messages[&at].found;
        let place = if found.wake_ms() <= now || (self.adopted.contains(&at) && found.group.is_some()) {
            self.lanes.push(found);
            self.join(found.priority, found.tenant);
            Place::Lane
        } else if found.group.is_some() {
            Place::Delayed
        } else {
            self.later.push(&found, now);
            Place::Later
        };
        let message = self.messages.get_mut(&at).unwrap();
        message.place = place;
        if place == Place::Delayed {
            let ready = self.postponed.remove(&at).unwrap_or(found.ready_ms);
            message.when_ms = ready.min(message.expires_ms());
        }
    }

    /// The first of a group is settled.
    fn advance(&mut self, group: u64, now: i64) {
        let mut left = self.groups.remove(&group).unwrap().split_off(1);
        left.drain(..left.iter().position(|at| self.messages.contains_key(at)).unwrap_or(left.len()));
        if let Some(first) = left.first().copied() {
            self.groups.insert(group, left);
            self.arrive(first, now);
        }
    }

    pub(super) fn take(&mut self, now: i64, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(at) = self.next(now) else { break };
            self.number += 1;
            let message = self.messages.get_mut(&at).unwrap();
            (message.place, message.number) = (Place::Picked, self.number);
            let Found { group, deliveries, first_ms, .. } = message.found;
            taken.push(Taken { at, group, deliveries, first_ms, expired: message.expires_ms() <= now });
        }
        taken
    }

    fn next(&mut self, now: i64) -> Option<At> {
        for priority in (0..10).rev() {
            let here = self.messages.iter().filter(|(_, message)| message.found.priority == priority);
            let returned = here.clone().filter(|(_, message)| message.place == Place::Returned);
            if let Some((at, _)) = returned.min_by_key(|(_, message)| message.number) {
                return Some(*at);
            }
            let Some(tenant) = self.turns.get(&priority).and_then(|turns| turns.first()).copied() else { continue };
            let again = here.filter(|(_, message)| message.place == Place::Again && message.found.tenant == tenant);
            let oldest = again.map(|(at, _)| *at).min_by_key(|at| (at.offset(), at.partition()));
            let end_turn = |model: &mut Self, at| {
                model.turns.get_mut(&priority).unwrap().rotate_left(1);
                Some(at)
            };
            if let Some(at) = oldest {
                return end_turn(self, at);
            }
            let first = self.lanes.iter().position(|found| (found.priority, found.tenant) == (priority, tenant));
            let Some(first) = first else {
                self.turns.get_mut(&priority).unwrap().remove(0);
                return self.next(now);
            };
            let found = self.lanes.remove(first);
            return if self.reach(&found, now) { end_turn(self, found.at) } else { self.next(now) };
        }
        None
    }

    /// Whether a message whose turn it is can be picked.
    fn reach(&mut self, found: &Found, now: i64) -> bool {
        let Some(message) = self.messages.get_mut(&found.at) else {
            if let Some(group) = found.group {
                self.advance(group, now);
            }
            return false;
        };
        message.when_ms = self.postponed.remove(&found.at).unwrap_or(found.ready_ms);
        if self.adopted.remove(&found.at) {
            message.place = Place::Held;
            return false;
        }
        if message.when_ms > now && message.expires_ms() > now {
            let ready = message.when_ms;
            self.wait_until(found.at, ready, now);
            return false;
        }
        true
    }

    fn wait_until(&mut self, at: At, ready: i64, now: i64) {
        let message = self.messages.get_mut(&at).unwrap();
        message.when_ms = ready.min(message.expires_ms());
        message.place = if message.when_ms <= now { Place::Again } else { Place::Delayed };
        let Message { found, place, .. } = *message;
        if place == Place::Again {
            self.join(found.priority, found.tenant);
        }
    }

    pub(super) fn put_back(&mut self, at: At) {
        if let Some(message) = self.messages.get_mut(&at).filter(|message| message.place == Place::Picked) {
            message.place = Place::Returned;
        }
    }

    pub(super) fn settled(&mut self, at: At, now: i64) {
        self.adopted.remove(&at);
        self.postponed.remove(&at);
        let Some(message) = self.messages.remove(&at) else { return };
        if let (true, Some(group)) = (message.place.is_touched(), message.found.group) {
            self.advance(group, now);
        }
    }

    pub(super) fn remove_below(&mut self, end: At, now: i64) {
        let first = At(end.0 - end.offset().0);
        let adopted: Vec<_> = self.adopted.range(first..end).copied().collect();
        adopted.into_iter().for_each(|at| self.settled(at, now));
        let (touched, others): (Vec<_>, Vec<_>) = self
            .messages
            .range(first..end)
            .map(|(at, message)| (*at, message.place))
            .partition(|(_, p)| p.is_touched());
        others.into_iter().chain(touched).for_each(|(at, _)| self.settled(at, now));
        self.postponed.retain(|at, _| *at < first || *at >= end);
    }

    pub(super) fn tick(&mut self, now: i64) -> Vec<TimedOut> {
        let timed =
            self.messages.iter().filter(|(_, message)| matches!(message.place, Place::InFlight | Place::Delayed));
        let mut due: Vec<_> = timed.map(|(at, message)| (round_up(message.when_ms), *at)).collect();
        due.retain(|(due, _)| *due <= now);
        due.sort_unstable();
        let mut timed_out = Vec::new();
        for (_, at) in due {
            let message = self.messages[&at];
            if message.place == Place::Delayed {
                self.wait_until(at, 0, now);
                continue;
            }
            let ready_ms = if self.rules.retry_delay_ms == 0 { 0 } else { now + i64::from(self.rules.retry_delay_ms) };
            let Found { deliveries, first_ms, .. } = message.found;
            timed_out.push(TimedOut { at, deliveries, first_ms, ready_ms });
            self.wait_until(at, ready_ms, now);
        }
        while let Some(found) = self.later.pop(now) {
            if self.messages.get(&found.at).is_some_and(|message| message.place == Place::Later) {
                self.arrive(found.at, now);
            }
        }
        let late = |message: &&Message| message.place == Place::Later && round_up(message.found.wake_ms()) <= now;
        assert_eq!(self.messages.values().filter(late).count(), 0, "ready, and not said so");
        timed_out
    }

    pub(super) fn deliver(&mut self, at: At, now: i64, deadline: i64) -> Option<Delivered> {
        let message = self.messages.get_mut(&at).filter(|message| message.place == Place::Picked)?;
        (message.place, message.when_ms, message.delivered) = (Place::InFlight, deadline, true);
        message.found.first_ms = if message.found.deliveries == 0 { now } else { message.found.first_ms };
        message.found.deliveries += 1;
        let Found { deliveries, first_ms, .. } = message.found;
        Some(Delivered { number: message.number, deliveries, first_ms })
    }

    pub(super) fn check(&self, at: At, number: u64, now: i64) -> Result<(), Problem> {
        let message = self.messages.get(&at).ok_or(Problem::NotInFlight)?;
        match message.place {
            Place::InFlight | Place::Held if message.number != number => Err(Problem::Superseded),
            Place::Held => Err(Problem::BeingSettled),
            Place::InFlight if now >= message.when_ms => Err(Problem::Expired),
            Place::InFlight => Ok(()),
            _ => Err(Problem::NotInFlight),
        }
    }

    pub(super) fn hold(&mut self, at: At, number: u64, now: i64) -> Result<(), Problem> {
        self.check(at, number, now)?;
        self.messages.get_mut(&at).unwrap().place = Place::Held;
        Ok(())
    }

    pub(super) fn release(&mut self, at: At, now: i64) {
        self.adopted.remove(&at);
        if let Some(message) = self.messages.get_mut(&at).filter(|message| message.place == Place::Held) {
            let ready = message.when_ms;
            if message.delivered {
                message.place = Place::InFlight;
            } else {
                self.wait_until(at, ready, now);
            }
        }
    }

    pub(super) fn retry(&mut self, at: At, now: i64, ready: i64) {
        if self.adopted.remove(&at) && ready > now {
            self.postponed.insert(at, ready);
        }
        if self.messages.get(&at).is_some_and(|message| message.place == Place::Held) {
            self.wait_until(at, ready, now);
        }
    }

    pub(super) fn nack(&mut self, at: At, number: u64, now: i64, ready: i64) -> Result<(), Problem> {
        self.check(at, number, now)?;
        self.wait_until(at, ready, now);
        Ok(())
    }

    pub(super) fn extend(&mut self, at: At, number: u64, now: i64, deadline: i64) -> Result<(), Problem> {
        self.check(at, number, now)?;
        self.messages.get_mut(&at).unwrap().when_ms = deadline;
        Ok(())
    }

    pub(super) fn adopt(&mut self, at: At) -> Result<(), Problem> {
        match self.messages.get_mut(&at).filter(|message| message.place.is_touched()) {
            Some(message) if message.delivered || message.place == Place::Picked => Err(Problem::Superseded),
            Some(message) if message.place == Place::Held => Err(Problem::BeingSettled),
            Some(message) => {
                message.when_ms = if message.place == Place::Delayed { message.when_ms } else { 0 };
                message.place = Place::Held;
                Ok(())
            }
            None if self.adopted.insert(at) => Ok(()),
            None => Err(Problem::BeingSettled),
        }
    }

    /// A plain message of each row.
    pub(super) fn add_run(&mut self, first: At, rows: u64, now: i64) {
        assert_eq!(Found::plain(first).priority, DEFAULT_PRIORITY);
        (first.0..first.0 + rows).for_each(|at| self.add(Found::plain(At(at)), now));
    }
}
