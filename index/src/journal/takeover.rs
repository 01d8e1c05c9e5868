//! Taking over one region: JOURNAL rule "Takeover", steps 1 to 4.

use super::fold::{Fold, FoldError};
use crate::{
    format::{Floor, Leader, Record},
    ids::{Ballot, WriteId},
    keys::Slot,
};

/// What a candidate needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The newest floor of the region, found by listing: give it to [`Candidate::floor`].
    Floor,
    /// The object at this slot or that it does not exist: give it to [`Candidate::object`].
    Object(Slot),
    /// A ballot above this one, to stand with: give it to [`Candidate::stand`].
    Ballot(Ballot),
    /// The Takeover put, if absent, at this slot: give the result to [`Candidate::put`].
    Put {
        /// Where.
        slot: Slot,
        /// The parent it carries.
        parent: Slot,
        /// The ballot it carries.
        ballot: Ballot,
    },
    /// Nothing: the region has promised.
    Promised,
    /// Nothing: the floor moved in between, so this Takeover counts for nothing in this region, for ever.
    Void,
}

/// A ballot above the candidate's was met: it gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The ballot met.
    pub ballot: Ballot,
    /// Its leader, where known.
    pub leader: Option<Leader>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    FirstFloor,
    Folding,
    Putting,
    SecondFloor,
    Promised,
    Void,
}

/// One region being taken over under one ballot, which is chosen once the path has been read.
#[derive(Clone, Debug)]
pub struct Candidate {
    ballot: Option<Ballot>,
    id: WriteId,
    step: Step,
    floor: Option<u64>,
    fold: Fold,
    /// The fold before the Takeover.
    promise: Option<Fold>,
}

impl Candidate {
    /// A candidate whose Takeover in this region will carry `id`.
    pub fn new(id: WriteId) -> Self {
        Self { ballot: None, id, step: Step::FirstFloor, floor: None, fold: Fold::default(), promise: None }
    }

    /// What is needed next.
    pub fn want(&self) -> Want {
        match self.step {
            Step::FirstFloor | Step::SecondFloor => Want::Floor,
            Step::Folding => Want::Object(self.fold.at),
            Step::Putting => match self.ballot {
                None => Want::Ballot(self.fold.promised),
                Some(ballot) => Want::Put { slot: self.fold.at, parent: self.fold.parent, ballot },
            },
            Step::Promised => Want::Promised,
            Step::Void => Want::Void,
        }
    }

    /// Identity that the Takeover carries.
    pub fn id(&self) -> WriteId {
        self.id
    }

    /// Stands with this ballot, which must be above every ballot seen in any region.
    ///
    /// # Panics
    /// When it is not, or when the candidate stands already: a ballot is never exchanged.
    pub fn stand(&mut self, ballot: Ballot) {
        assert!(ballot > self.fold.promised && self.ballot.is_none(), "I4: a fresh ballot above all seen, chosen once");
        self.ballot = Some(ballot);
    }

    /// Where folding stands, for reading ahead.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The newest floor.
    pub fn floor(&mut self, newest: Option<&Floor>) {
        let number = newest.map(|floor| floor.k);
        match self.step {
            Step::FirstFloor => {
                self.floor = number;
                self.fold = Fold::start(newest);
                self.step = Step::Folding;
            }
            Step::SecondFloor => {
                self.step = if number == self.floor { Step::Promised } else { Step::Void };
            }
            _ => {}
        }
    }

    /// The object at the wanted slot, or `None` when it does not exist.
    ///
    /// # Errors
    /// `Ok(Err(..))` when a higher ballot leads; an outer error when the object cannot be on the path.
    pub fn object(&mut self, record: Option<&Record>) -> Result<Result<(), Abandoned>, FoldError> {
        let Some(record) = record else {
            self.step = Step::Putting;
            return Ok(Ok(()));
        };
        let own = record.head.id == self.id;
        let before = own.then(|| self.fold.clone());
        self.fold.accept(record)?;
        if let Some(before) = before {
            self.landed(before);
            return Ok(Ok(()));
        }
        self.step = Step::Folding;
        match self.ballot {
            Some(ballot) if self.fold.promised > ballot => {
                Ok(Err(Abandoned { ballot: self.fold.promised, leader: self.fold.leader.clone() }))
            }
            _ => Ok(Ok(())),
        }
    }

    fn landed(&mut self, before: Fold) {
        self.promise = Some(before);
        self.step = Step::SecondFloor;
    }

    /// The result of the wanted put: whether it landed, or another object is there.
    pub fn put(&mut self, landed: bool) {
        if self.step == Step::Putting {
            if landed {
                self.landed(self.fold.clone());
            } else {
                self.step = Step::Folding;
            }
        }
    }

    /// The promise, once the region has promised: the fold before the Takeover, and the slot of the Takeover.
    pub fn into_promise(self) -> Option<(Fold, Slot)> {
        let promise = self.promise.filter(|_| self.step == Step::Promised)?;
        let slot = promise.at;
        Some((promise, slot))
    }
}
