//! Appending under one ballot: what is in flight, what a region has accepted, what is committed.

use std::collections::BTreeSet;

use crate::{
    ids::{Ballot, Sequence},
    keys::Slot,
};

/// Appends of one reign to one region.
#[derive(Clone, Debug)]
pub struct Lane {
    ballot: Ballot,
    /// The Takeover through which this leader entered its directory.
    parent: Slot,
    /// Sequence at index 0.
    origin: u64,
    /// Index of the next append.
    next: u64,
    /// All indexes below have landed.
    accepted: u64,
    /// Landed indexes above `accepted`.
    landed: BTreeSet<u64>,
    window: usize,
}

impl Lane {
    /// A lane whose first append will be entry `first`, with at most `window` appends in flight.
    pub fn new(ballot: Ballot, parent: Slot, first: Sequence, window: usize) -> Self {
        Self { ballot, parent, origin: first.0, next: 0, accepted: 0, landed: BTreeSet::new(), window }
    }

    /// The Takeover that every append carries as its parent.
    pub fn parent(&self) -> Slot {
        self.parent
    }

    /// Sequence that index 0 has.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Appends sent but not yet landed, counted from the first that has not.
    pub fn outstanding(&self) -> usize {
        (self.next - self.accepted) as usize
    }

    /// Whether another append may be sent.
    pub fn has_room(&self) -> bool {
        self.outstanding() < self.window
    }

    /// Takes the next slot, for entry `sequence`.
    ///
    /// # Panics
    /// When the window is full or entries are sent out of order: both are faults of the driver.
    pub fn send(&mut self, sequence: Sequence) -> Slot {
        assert!(self.has_room(), "at most {} appends are in flight", self.window);
        assert_eq!(sequence.0, self.origin + self.next, "I4: entries are sent in order, each once");
        let slot = Slot { ballot: self.ballot, index: self.next };
        self.next += 1;
        slot
    }

    /// The object at `slot` landed with the leader's own identity. An object counts as accepted only when all before it
    /// have landed too.
    pub fn landed(&mut self, slot: Slot) {
        assert!(slot.ballot == self.ballot && slot.index < self.next, "only what was sent can land");
        self.landed.insert(slot.index);
        while self.landed.remove(&self.accepted) {
            self.accepted += 1;
        }
    }

    /// Last sequence accepted by this region under this ballot; `origin - 1` when none is.
    pub fn accepted(&self) -> Sequence {
        Sequence(self.origin + self.accepted - 1)
    }
}

/// The committed mark of one reign.
#[derive(Clone, Debug)]
pub struct Quorum {
    majority: usize,
    committed: Sequence,
}

impl Quorum {
    /// The mark of a reign over `regions` regions that starts from `committed`.
    ///
    /// # Panics
    /// Without any region.
    pub fn new(regions: usize, committed: Sequence) -> Self {
        assert!(regions > 0, "a shard has at least one region");
        Self { majority: regions / 2 + 1, committed }
    }

    /// The mark given what each promised region has accepted: the highest sequence that a majority has (I6). It never
    /// falls (I2).
    pub fn advance(&mut self, accepted: impl IntoIterator<Item = Sequence>) -> Sequence {
        let mut accepted: Vec<_> = accepted.into_iter().collect();
        accepted.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(mark) = accepted.get(self.majority - 1) {
            self.committed = self.committed.max(*mark);
        }
        self.committed
    }

    /// All entries up to here are committed.
    pub fn committed(&self) -> Sequence {
        self.committed
    }
}
