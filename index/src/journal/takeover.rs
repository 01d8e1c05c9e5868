//! Taking over one region: JOURNAL rule "Takeover", steps 1 to 4.

use super::fold::{Fold, FoldError};
use crate::{
    format::{Floor, Leader, Record, Section},
    ids::{Ballot, WriteId},
    keys::Slot,
};

/// What a candidate needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The newest floor of the region, found by listing: give it to [`Candidate::floor`]. It is wanted at first, again
    /// before the Takeover is put if others were met on the path, and again when it has landed.
    Floor,
    /// The object at this slot or that it does not exist: give it to [`Candidate::object`].
    Object(Slot),
    /// Nothing for now: the path has been read to its end, and the candidate does not stand.
    Rest,
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
    /// Nothing: the floor moved in between, so this Takeover counts for nothing in this region, for ever. Or the path is in
    /// an older timeline than the ballot: what the region holds may be what a promotion has left behind, and it can only be
    /// given up and added anew under another number. Or the ballot was used here before.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    FirstFloor,
    Folding,
    Hole,
    SecondFloor,
    Promised,
    Void,
}

/// One region being taken over under one ballot, which is chosen once the path has been read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    ballot: Option<Ballot>,
    id: WriteId,
    step: Step,
    floor: Option<u64>,
    fold: Fold,
    /// The fold before the Takeover.
    promise: Option<Fold>,
    /// Whether a Takeover was folded, or time has passed, since the floor was last looked at. One that lay before a floor that has moved since may
    /// be a late put on a deleted slot; the directory that it names is entered elsewhere on the path, and a Takeover put
    /// there would name the wrong parent, for ever.
    crossed: bool,
    /// Whether its region begins a new timeline.
    promotes: bool,
}

impl Candidate {
    /// A candidate whose Takeover in this region will carry `id`.
    pub fn new(id: WriteId) -> Self {
        let (fold, step) = (Fold::default(), Step::FirstFloor);
        Self { ballot: None, id, step, floor: None, fold, promise: None, crossed: false, promotes: false }
    }

    /// What is needed next.
    pub fn want(&self) -> Want {
        match self.step {
            Step::FirstFloor | Step::SecondFloor => Want::Floor,
            Step::Folding => Want::Object(self.fold.at),
            Step::Hole => match self.ballot {
                None => Want::Rest,
                Some(ballot) if self.is_left_behind(ballot) => Want::Void,
                Some(_) if self.crossed => Want::Floor,
                Some(ballot) => Want::Put { slot: self.fold.at, parent: self.fold.parent, ballot },
            },
            Step::Promised => Want::Promised,
            Step::Void => Want::Void,
        }
    }

    /// Whether the path is in an older timeline than the ballot, and has not just begun.
    fn is_left_behind(&self, ballot: Ballot) -> bool {
        let promised = self.fold.promised;
        !self.promotes && promised != Ballot::BOOTSTRAP && promised.timeline() < ballot.timeline()
    }

    /// Lets the region begin a new timeline.
    pub(super) fn promote(&mut self) {
        self.promotes = true;
    }

    /// Identity that the Takeover carries.
    pub fn id(&self) -> WriteId {
        self.id
    }

    /// Stands with this ballot, which is above every ballot seen in any region; or learns that this path has a higher one.
    ///
    /// # Errors
    /// When a ballot above it was met here.
    ///
    /// # Panics
    /// When the candidate stands already: a ballot is never exchanged (I4).
    pub fn stand(&mut self, ballot: Ballot) -> Result<(), Abandoned> {
        assert!(self.ballot.is_none(), "I4: a ballot is chosen once");
        self.ballot = Some(ballot);
        self.check_ballot()
    }

    /// What has been read so far.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Whether the path has been read to its end, as of then.
    pub fn at_end(&self) -> bool {
        matches!(self.step, Step::Hole | Step::SecondFloor | Step::Promised)
    }

    /// Number of the floor that folding began at; zero for none.
    pub fn floor_number(&self) -> u64 {
        self.floor.unwrap_or(0)
    }

    /// Reads on from where the path ended, without standing yet.
    pub fn look_again(&mut self) {
        if self.step == Step::Hole {
            self.step = Step::Folding;
            // Time has passed: the hole may lie before a mark by now, where what was behind the end is deleted.
            self.crossed = true;
        }
    }

    /// Reads everything anew from the newest floor, after something was met that cannot be on the path.
    pub fn restart(&mut self) {
        self.step = Step::FirstFloor;
        self.fold = Fold::default();
        self.promise = None;
    }

    /// The newest floor.
    pub fn floor(&mut self, newest: Option<&Floor>) {
        let number = newest.map(|floor| floor.k);
        match self.step {
            Step::Hole if number == self.floor => self.crossed = false,
            Step::FirstFloor | Step::Hole => {
                self.floor = number;
                self.fold = Fold::start(newest);
                self.crossed = false;
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
            self.step = Step::Hole;
            // The floor itself may know of a higher ballot.
            return Ok(self.check_ballot());
        };
        // A ballot has one owner (I4): a Takeover under the candidate's own is an earlier attempt of the same reign, such as
        // one that was made before the cluster knew the region. A second one would end that very reign.
        let of_reign = matches!(record.section, Section::Takeover(_)) && self.ballot == Some(record.head.ballot);
        let own = record.head.id == self.id || of_reign;
        let before = own.then(|| self.fold.clone());
        self.fold.accept(record)?;
        if let Some(before) = before {
            self.landed(before);
            return Ok(Ok(()));
        }
        let takeover = matches!(record.section, Section::Takeover(_));
        self.crossed |= takeover;
        // A ballot has one owner, so this is an earlier attempt of its own under another identity. A second Takeover of one
        // ballot could not be on the path.
        let again = takeover && self.ballot == Some(record.head.ballot);
        self.step = if again { Step::Void } else { Step::Folding };
        Ok(self.check_ballot())
    }

    fn check_ballot(&self) -> Result<(), Abandoned> {
        match self.ballot {
            Some(ballot) if self.fold.promised > ballot => {
                Err(Abandoned { ballot: self.fold.promised, leader: self.fold.leader.clone() })
            }
            _ => Ok(()),
        }
    }

    fn landed(&mut self, before: Fold) {
        self.promise = Some(before);
        self.step = Step::SecondFloor;
    }

    /// The result of the wanted put: whether it landed, or another object is there.
    pub fn put(&mut self, landed: bool) {
        if self.step == Step::Hole && self.ballot.is_some() {
            if landed {
                self.landed(self.fold.clone());
            } else {
                self.step = Step::Folding;
            }
        }
    }

    /// The promise, once the region has promised: the fold before the Takeover, which lies where that fold ends.
    pub fn promise(&self) -> Option<&Fold> {
        self.promise.as_ref().filter(|_| self.step == Step::Promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_takeover_of_the_same_reign_is_the_promise() {
        let ballot = Ballot { round: 3, nonce: 7 };
        let mut first = Candidate::new(WriteId(1));
        first.stand(ballot).unwrap();
        first.floor(None);
        first.object(None).unwrap().unwrap();
        let Want::Put { slot, parent, .. } = first.want() else { panic!("{first:?}") };
        let takeover = Leader::default().takeover(ballot, parent, first.id());
        let takeover = Record::decode(&takeover).unwrap();

        let mut second = Candidate::new(WriteId(2));
        second.stand(ballot).unwrap();
        second.floor(None);
        assert_eq!(second.want(), Want::Object(slot));
        second.object(Some(&takeover)).unwrap().unwrap();
        assert_eq!(second.want(), Want::Floor);
        second.floor(None);
        assert_eq!(second.promise().map(|fold| fold.at), Some(slot), "it takes the region over no second time");

        let mut other = Candidate::new(WriteId(3));
        other.stand(Ballot { round: 3, nonce: 8 }).unwrap();
        other.floor(None);
        other.object(Some(&takeover)).unwrap().unwrap();
        assert_eq!(other.want(), Want::Object(Slot::first(ballot)), "another reign goes on behind it");
    }
}
