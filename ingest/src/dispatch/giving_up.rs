//! Giving messages up: those that were delivered as often as they may be.

use super::{
    Dispatcher,
    records::State,
    types::{At, Delivered},
};

impl Dispatcher {
    /// What is known of the deliveries of a message that was touched.
    pub(crate) fn deliveries(&self, at: At) -> Option<Delivered> {
        let record = self.records.get(at)?;
        let (number, deliveries, first_ms) = (record.number, record.deliveries, record.first_ms);
        Some(Delivered { number, deliveries, first_ms })
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
