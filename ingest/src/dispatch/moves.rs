//! How a message moves from one place to another, with everything that must move along: timers, lanes, counts, groups.

use super::{
    Dispatcher, behind,
    later::round_up,
    records::{Record, Records, State},
    types::{At, Found},
};

/// Whether a message has its timer at this time.
fn is_timed(records: &Records, time: i64, at: At) -> bool {
    records.waits_until(at).is_some_and(|when_ms| round_up(when_ms) == time)
}

impl Dispatcher {
    pub(super) fn is_known(&self, at: At) -> bool {
        self.waiting.contains(at.0) || self.delayed.contains(at.0) || self.records.contains(at)
    }

    pub(super) fn in_state(&self, at: At, state: State) -> Option<Record> {
        self.records.get(at).filter(|record| record.state == state)
    }

    /// Undoes everything that [`Dispatcher::enter`] did, but for the record itself.
    pub(super) fn leave(&mut self, at: At, record: &Record) {
        match record.state {
            State::Picked | State::Held => self.counts.held -= 1,
            State::InFlight => {
                self.stop_timer(at, record);
                self.counts.in_flight -= 1;
            }
            State::Delayed => {
                self.stop_timer(at, record);
                self.counts.delayed -= 1;
            }
            State::Again => {
                self.lanes.remove_again(record.priority, record.tenant, at);
                self.counts.waiting -= 1;
            }
            State::Returned => {
                self.lanes.remove_returned(record.priority, record.number);
                self.counts.waiting -= 1;
            }
        }
    }

    fn stop_timer(&mut self, at: At, record: &Record) {
        let records = &self.records;
        self.timers.remove(round_up(record.when_ms), at, |time, at| is_timed(records, time, at));
    }

    /// The next touched message whose time has come.
    pub(super) fn due(&mut self, now_ms: i64) -> Option<At> {
        let records = &self.records;
        self.timers.due(now_ms, |time, at| is_timed(records, time, at))
    }

    /// Puts a message where its record says that it is.
    pub(super) fn enter(&mut self, at: At, record: Record) {
        match record.state {
            State::Picked | State::Held => self.counts.held += 1,
            State::InFlight => {
                self.timers.insert(round_up(record.when_ms), at);
                self.counts.in_flight += 1;
            }
            State::Delayed => {
                self.timers.insert(round_up(record.when_ms), at);
                self.counts.delayed += 1;
            }
            State::Again => {
                self.lanes.push_again(record.priority, record.tenant, at);
                self.counts.waiting += 1;
            }
            State::Returned => {
                self.lanes.push_returned(record.priority, record.number, at);
                self.counts.waiting += 1;
            }
        }
        self.records.put(at, record);
    }

    pub(super) fn change(&mut self, at: At, record: Record, state: State) {
        self.leave(at, &record);
        self.enter(at, Record { state, ..record });
    }

    /// Lets a touched message wait until it is ready, or until it expires.
    pub(super) fn wait_until(&mut self, at: At, record: Record, ready_ms: i64, now_ms: i64) {
        let when_ms = ready_ms.min(record.expires_ms);
        let state = if when_ms <= now_ms { State::Again } else { State::Delayed };
        self.leave(at, &record);
        self.enter(at, Record { when_ms, state, ..record });
    }

    /// A message that waits has become the first of its group, or has none: it gets its place in a lane, or waits until
    /// it is ready.
    pub(super) fn arrive(&mut self, found: &Found, now_ms: i64) {
        let adopted = self.adopted.contains(&found.at);
        // If it is settled while it is not ready, the next of its group must not wait for it: then it must be touched,
        // so that its group is known. An adopted one becomes so when its turn comes.
        if found.wake_ms() <= now_ms || (adopted && found.group.is_some()) {
            self.lanes.push(found);
            return;
        }
        self.waiting.remove(found.at.0);
        self.counts.waiting -= u64::from(!adopted);
        if found.group.is_some() {
            let record = self.touch(found, State::Delayed);
            let ready_ms = self.postponed.remove(&found.at).unwrap_or(found.ready_ms);
            self.enter(found.at, Record { when_ms: ready_ms.min(record.expires_ms), ..record });
        } else {
            self.delayed.insert(found.at.0);
            self.counts.delayed += u64::from(!adopted);
            self.later.push(found, now_ms);
        }
    }

    /// The record of an untouched message.
    fn touch(&mut self, found: &Found, state: State) -> Record {
        let mut record = Record::new(found, state);
        if let Some((deliveries, first_ms)) = self.recalled.remove(&found.at) {
            record.recall(deliveries, first_ms);
        }
        record
    }

    /// The turn of an untouched message has come: its record, if it still waits and can be picked.
    pub(super) fn reach(&mut self, found: &Found, now_ms: i64) -> Option<Record> {
        if !self.waiting.contains(found.at.0) {
            if let Some(hash) = found.group {
                self.advance(hash, now_ms);
            }
            return None;
        }
        self.waiting.remove(found.at.0);
        let when_ms = self.postponed.remove(&found.at).unwrap_or(found.ready_ms);
        let record = Record { when_ms, ..self.touch(found, State::Held) };
        if self.adopted.remove(&found.at) {
            self.records.put(found.at, record);
            return None;
        }
        if when_ms.min(record.expires_ms) > now_ms {
            (self.counts.waiting, self.counts.held) = (self.counts.waiting - 1, self.counts.held + 1);
            self.wait_until(found.at, record, when_ms, now_ms);
            return None;
        }
        Some(record)
    }

    /// The first message of a group is settled: the next one that is not takes its place.
    pub(super) fn advance(&mut self, hash: u64, now_ms: i64) {
        let Some(others) = self.groups.get_mut(hash) else { return };
        while let Some((found, _)) = others.as_mut().and_then(|line| line.pop(&behind(hash))) {
            if self.waiting.contains(found.at.0) {
                others.take_if(|line| line.is_empty());
                return self.arrive(&found, now_ms);
            }
        }
        self.groups.remove(hash);
    }
}
