//! Appending to one region under one ballot: what is in flight, and what the region has accepted.

use std::collections::BTreeSet;

use crate::{
    ids::{Ballot, Sequence},
    keys::Slot,
};

/// What an append carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cargo {
    /// This entry.
    Commit(Sequence),
    /// A snapshot in place of all entries up to this one.
    Install(Sequence),
}

/// An append to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// Where it goes.
    pub slot: Slot,
    /// The Takeover that it names.
    pub parent: Slot,
    /// What it carries.
    pub cargo: Cargo,
    /// The committed mark that it carries.
    pub committed: Sequence,
}

/// Appends of one reign to one region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    ballot: Ballot,
    /// The Takeover through which this leader entered its directory.
    parent: Slot,
    /// The region holds this entry and all before it, as they are committed.
    held: Sequence,
    /// The snapshot that goes first, if any: all entries up to this one.
    install: Option<Sequence>,
    /// Index of the next append.
    next: u64,
    /// All indexes below have landed.
    accepted: u64,
    /// Landed indexes above `accepted`.
    landed: BTreeSet<u64>,
    window: usize,
}

impl Lane {
    /// A lane to a region that holds entries up to `held`, with at most `window` appends in flight.
    pub fn new(ballot: Ballot, parent: Slot, held: Sequence, window: usize) -> Self {
        Self { ballot, parent, held, install: None, next: 0, accepted: 0, landed: BTreeSet::new(), window }
    }

    /// Sends a snapshot of all entries up to `sequence` first. Whether that was still possible: nothing has been sent yet.
    pub fn install(&mut self, sequence: Sequence) -> bool {
        let possible = self.next == 0 && sequence > self.held;
        if possible {
            self.install = Some(sequence);
        }
        possible
    }

    /// The Takeover that every append carries as its parent.
    pub fn parent(&self) -> Slot {
        self.parent
    }

    /// The first entry that is sent as such, and the sequence that index 0 would have then.
    pub fn start(&self) -> (Sequence, u64) {
        match self.install {
            Some(sequence) => (sequence.next(), sequence.0),
            None => (self.held.next(), self.held.0 + 1),
        }
    }

    /// Appends sent but not yet landed, counted from the first that has not.
    pub fn outstanding(&self) -> usize {
        (self.next - self.accepted) as usize
    }

    /// Whether another append may be sent.
    pub fn has_room(&self) -> bool {
        self.outstanding() < self.window
    }

    /// The slot of the next append.
    pub fn next_slot(&self) -> Slot {
        Slot { ballot: self.ballot, index: self.next }
    }

    /// The entry at a slot of this lane's directory; of an Install the last one that it covers.
    pub fn sequence_at(&self, slot: Slot) -> Sequence {
        Sequence(self.start().1 + slot.index)
    }

    /// What goes next.
    pub fn upcoming(&self) -> Cargo {
        match self.install {
            Some(sequence) if self.next == 0 => Cargo::Install(sequence),
            _ => Cargo::Commit(Sequence(self.start().1 + self.next)),
        }
    }

    /// Takes the next slot, for what is [`Self::upcoming`].
    ///
    /// # Panics
    /// When the window is full: a fault of the driver.
    pub fn send(&mut self) -> (Slot, Cargo) {
        assert!(self.has_room(), "at most {} appends are in flight", self.window);
        let cargo = self.upcoming();
        let slot = Slot { ballot: self.ballot, index: self.next };
        self.next += 1;
        (slot, cargo)
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

    /// The region has accepted everything up to here under this ballot, or held it, committed, before.
    pub fn accepted(&self) -> Sequence {
        match self.accepted {
            0 => self.held,
            count => Sequence(self.start().1 + count - 1),
        }
    }

    /// Whether it has accepted anything under this ballot.
    pub fn has_accepted(&self) -> bool {
        self.accepted > 0
    }

    /// The slot behind entry `sequence`, if the region has accepted it and the slot lies in this directory.
    pub fn behind(&self, sequence: Sequence) -> Option<Slot> {
        let (first, origin) = self.start();
        // Before the first object the region holds what it held, and possibly more that is not to be; behind an Install it
        // holds exactly what that says.
        let whole =
            sequence.next() > first || self.install.is_some_and(|install| install == sequence && self.accepted > 0);
        (whole && sequence <= self.accepted()).then(|| Slot { ballot: self.ballot, index: sequence.0 + 1 - origin })
    }
}
