//! Deliveries and what becomes of them.

use super::{
    Dispatcher,
    records::{Record, State},
    types::{At, Delivered, Problem},
};

impl Dispatcher {
    /// Puts a picked message in flight until its deadline. `None` if it was forgotten since it was picked.
    pub(crate) fn deliver(&mut self, at: At, now_ms: i64, deadline_ms: i64) -> Option<Delivered> {
        let record = self.in_state(at, State::Picked)?;
        let first_ms = if record.deliveries == 0 { now_ms } else { record.first_ms };
        let deliveries = record.deliveries.saturating_add(1);
        let delivered = Record { deliveries, first_ms, when_ms: deadline_ms, delivered: true, ..record };
        self.change(at, delivered, State::InFlight);
        Some(Delivered { number: record.number, deliveries, first_ms })
    }

    /// Whether the receipt of a delivery by this dispatcher is good.
    #[cfg(test)]
    pub(crate) fn check(&self, at: At, number: u64, now_ms: i64) -> Result<(), Problem> {
        self.valid(at, number, now_ms).map(|_| ())
    }

    fn valid(&self, at: At, number: u64, now_ms: i64) -> Result<Record, Problem> {
        let record = self.records.get(at).ok_or(Problem::NotInFlight)?;
        match record.state {
            State::InFlight | State::Held if record.number != number => Err(Problem::Superseded),
            State::InFlight if record.when_ms <= now_ms => Err(Problem::Expired),
            State::InFlight => Ok(record),
            State::Held => Err(Problem::BeingSettled),
            _ => Err(Problem::NotInFlight),
        }
    }

    /// Takes a message whose receipt is good out of flight while it is being settled: its receipt does not expire
    /// meanwhile. Ends with [`Dispatcher::settled`], [`Dispatcher::release`] or [`Dispatcher::retry`].
    pub(crate) fn hold(&mut self, at: At, number: u64, now_ms: i64) -> Result<(), Problem> {
        let record = self.valid(at, number, now_ms)?;
        self.change(at, record, State::Held);
        Ok(())
    }

    /// The message was not settled after all: it is in flight again until its deadline. If that is over, the next tick
    /// says so. A message that was adopted waits again.
    pub(crate) fn release(&mut self, at: At, now_ms: i64) {
        match self.in_state(at, State::Held) {
            Some(record) if record.delivered => self.change(at, record, State::InFlight),
            Some(record) => self.wait_until(at, record, record.when_ms, now_ms),
            None => self.disown(at),
        }
    }

    /// A message that was settled is open again by now. Whether it must be looked for: if it was picked or delivered, it is
    /// forgotten with its deliveries; if it was only kept out of turn, it waits again.
    pub(crate) fn reopened(&mut self, at: At, now_ms: i64) -> bool {
        let was_out = self.records.get(at).is_some_and(|record| record.delivered || record.state == State::Picked);
        if was_out {
            self.settled(at, now_ms);
        } else {
            self.release(at, now_ms);
        }
        was_out
    }

    /// A message that is held is not settled but delivered again when it is ready.
    pub(crate) fn retry(&mut self, at: At, now_ms: i64, ready_ms: i64) {
        if let Some(record) = self.in_state(at, State::Held) {
            self.wait_until(at, record, ready_ms, now_ms);
        } else if self.adopted.contains(&at) {
            self.disown(at);
            if ready_ms > now_ms {
                self.postponed.insert(at, ready_ms);
            }
        }
    }

    /// Lets a message whose receipt is good wait again, at once or until it is ready.
    pub(crate) fn nack(&mut self, at: At, number: u64, now_ms: i64, ready_ms: i64) -> Result<(), Problem> {
        let record = self.valid(at, number, now_ms)?;
        self.wait_until(at, record, ready_ms, now_ms);
        Ok(())
    }

    /// Moves the deadline of a receipt that is good, to later or to sooner.
    pub(crate) fn extend(&mut self, at: At, number: u64, now_ms: i64, deadline_ms: i64) -> Result<(), Problem> {
        let record = self.valid(at, number, now_ms)?;
        self.leave(at, &record);
        self.enter(at, Record { when_ms: deadline_ms, ..record });
        Ok(())
    }

    /// Holds a message that is open for a receipt of an earlier reign, whether it was found yet or not, unless it was
    /// delivered again in this reign or is about to be. Ends like [`Dispatcher::hold`]. It may be behind another one of
    /// its group: an earlier reign delivered it, and what was given back since is in front of it.
    pub(crate) fn adopt(&mut self, at: At) -> Result<(), Problem> {
        if let Some(record) = self.records.get(at) {
            let when_ms = match record.state {
                _ if record.delivered => return Err(Problem::Superseded),
                State::Picked => return Err(Problem::Superseded),
                State::Held | State::InFlight => return Err(Problem::BeingSettled),
                State::Delayed => record.when_ms,
                State::Again | State::Returned => 0,
            };
            self.leave(at, &record);
            self.enter(at, Record { when_ms, state: State::Held, ..record });
            return Ok(());
        }
        if !self.adopted.insert(at) {
            return Err(Problem::BeingSettled);
        }
        self.counts.waiting -= u64::from(self.waiting.contains(at.0));
        self.counts.delayed -= u64::from(self.delayed.contains(at.0));
        self.counts.held += 1;
        Ok(())
    }

    /// Undoes an adoption of a message that is not touched.
    fn disown(&mut self, at: At) {
        if self.adopted.remove(&at) {
            self.counts.waiting += u64::from(self.waiting.contains(at.0));
            self.counts.delayed += u64::from(self.delayed.contains(at.0));
            self.counts.held -= 1;
        }
    }
}
