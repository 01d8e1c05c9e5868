//! Giving messages up: those that were delivered as often as they may be.

use super::{Dispatcher, records::State, types::At};

impl Dispatcher {
    /// How often a message was delivered that was touched or recalled, and when first.
    pub(crate) fn deliveries(&self, at: At) -> Option<(u32, i64)> {
        let touched = self.records.get(at).map(|record| (record.deliveries, record.first_ms));
        touched.or_else(|| self.recalled.get(&at).copied())
    }

    /// An earlier reign has delivered a message that is open so often, as its receipt says: that may not have been
    /// committed.
    pub(crate) fn recall(&mut self, at: At, deliveries: u32, first_ms: i64) {
        match self.records.get(at) {
            Some(mut record) => {
                record.recall(deliveries, first_ms);
                self.records.put(at, record);
            }
            None => _ = self.recalled.insert(at, (deliveries, first_ms)),
        }
    }

    /// Picks a message that waits again after a delivery, out of turn: to settle it. The same as if
    /// [`Dispatcher::take`] had picked it.
    pub(crate) fn pick(&mut self, at: At) -> bool {
        let waits = |state| matches!(state, State::Again | State::Delayed);
        let Some(record) = self.records.get(at).filter(|record| waits(record.state)) else { return false };
        self.change(at, record, State::Picked);
        true
    }
}
