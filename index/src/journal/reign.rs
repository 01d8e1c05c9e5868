//! One reign over all regions: what is appended where, what is committed, who votes.

use std::collections::BTreeMap;

use super::{
    append::{Append, Cargo, Lane},
    election::{Elected, Promise},
    extents::Extents,
    fold::Fold,
    merge::Merged,
};
use crate::{
    format::Extent,
    ids::{Ballot, RegionNo, Sequence},
    keys::Slot,
    region::{Mark, RegionSet},
};

/// What a leader has sent and knows, as far as safety is concerned. It holds no contents: those are the driver's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reign {
    ballot: Ballot,
    window: usize,
    /// Ballots of the copies of settled entries that are right, from which entry on each, up to the committed mark that the
    /// reign began with.
    settled: Vec<(Sequence, Ballot)>,
    start: Sequence,
    /// The first entry of its own.
    own: Sequence,
    /// The last entry that has a content.
    sealed: Sequence,
    committed: Sequence,
    /// Who votes from behind which entry on, ascending; the first is in force at the committed mark.
    voters: Vec<(Sequence, RegionSet)>,
    lanes: BTreeMap<RegionNo, Lane>,
    extents: BTreeMap<RegionNo, Extents>,
    /// Regions that another leader has taken over, or that are broken, and how far they had accepted.
    lost: BTreeMap<RegionNo, Sequence>,
    /// How far regions had come under earlier ballots, as far as promises tell.
    marks: BTreeMap<RegionNo, Mark>,
}

impl Reign {
    /// The reign that an election gives. All promised regions are joined to it. Its first own entry, which is yet to be
    /// sealed, follows the entries to be appended again.
    pub fn new(elected: &Elected, window: usize) -> Self {
        let Merged { committed, reappend, settled, .. } = &elected.merged;
        let last = reappend.last().map_or(*committed, |(sequence, ..)| *sequence);
        let mut right: Vec<(Sequence, Ballot)> = Vec::new();
        for (sequence, _, accepted) in settled {
            if right.last().is_none_or(|(_, ballot)| *ballot != accepted.ballot) {
                right.push((*sequence, accepted.ballot));
            }
        }
        let mut reign = Self {
            ballot: elected.ballot,
            window,
            settled: right,
            start: *committed,
            own: last.next(),
            sealed: last,
            committed: *committed,
            voters: elected.voters.clone(),
            lanes: BTreeMap::new(),
            extents: BTreeMap::new(),
            lost: BTreeMap::new(),
            marks: BTreeMap::new(),
        };
        for (region, promise) in &elected.promises {
            // The election has sorted out those that went backwards.
            let _ = reign.join(*region, promise);
        }
        reign
    }

    /// A region has promised, at the start or later.
    ///
    /// # Errors
    /// The region lost what it had accepted, by this mark (I19); it is not joined.
    pub fn join(&mut self, region: RegionNo, promise: &Promise) -> Result<(), Mark> {
        let fold = &promise.fold;
        for mark in fold.marks.values() {
            let known = self.marks.entry(mark.region).or_insert(*mark);
            if (known.ballot, known.sequence) < (mark.ballot, mark.sequence) {
                *known = *mark;
            }
        }
        if let Some(mark) = self.marks.get(&region).filter(|mark| !fold.reaches(mark)) {
            return Err(*mark);
        }
        let lane = Lane::new(self.ballot, fold.at, self.held(fold), self.window);
        let mut extents = fold.extents.clone();
        let (first, origin) = lane.start();
        extents.begin(Extent { first, ballot: self.ballot, origin });
        self.lanes.insert(region, lane);
        self.extents.insert(region, extents);
        Ok(())
    }

    /// The last entry that a region which promises this holds as it is committed, with all before it.
    ///
    /// What it knows as committed is right; so is a copy under the same ballot as the one that is (I4).
    pub fn held(&self, fold: &Fold) -> Sequence {
        let mut held = fold.committed.min(self.start);
        while held < self.start {
            let next = held.next();
            let Some(accepted) = fold.log.get(&next) else { break };
            if self.ballot_of(next) != Some(accepted.ballot) {
                break;
            }
            held = next;
        }
        held
    }

    /// Up to which entry, at most `sequence`, objects may be deleted with regard to regions that are behind: they are sent
    /// what others hold. `waits` says of a region and of how many entries it is behind whether it is waited for; one that is
    /// not, or of which nothing is known, is given a snapshot when it comes.
    pub fn needed_by_none(
        &self,
        regions: impl Iterator<Item = RegionNo>,
        sequence: Sequence,
        waits: impl Fn(RegionNo, u64) -> bool,
    ) -> Sequence {
        let accepted = |region: RegionNo| match (self.lanes.get(&region), self.lost.get(&region)) {
            (Some(lane), _) => Some(lane.accepted()),
            (None, Some(accepted)) => Some(*accepted),
            (None, None) => self.marks.get(&region).map(|mark| mark.sequence),
        };
        let known = regions.filter_map(|region| Some((region, accepted(region)?)));
        let near = known.filter(|(region, accepted)| waits(*region, self.committed.0.saturating_sub(accepted.0)));
        near.map(|(_, accepted)| accepted).min().map_or(sequence, |least| least.min(sequence))
    }

    /// How far each region has come, to be remembered in an entry.
    pub fn marks(&self) -> Vec<Mark> {
        let own = |(region, lane): (&RegionNo, &Lane)| {
            let mark = Mark { region: *region, ballot: self.ballot, sequence: lane.accepted() };
            lane.has_accepted().then_some((*region, mark))
        };
        let mut marks = self.marks.clone();
        marks.extend(self.lanes.iter().filter_map(own));
        marks.into_values().collect()
    }

    fn ballot_of(&self, sequence: Sequence) -> Option<Ballot> {
        let (first, _) = *self.settled.first()?;
        let at = self.settled.partition_point(|(from, _)| *from <= sequence);
        (first <= sequence && sequence <= self.start).then(|| self.settled[at - 1].1)
    }

    /// Puts a snapshot of all entries up to `sequence` in place of entries in a region that has just joined and holds much
    /// less. Whether that was possible: the entries are committed and nothing was sent to the region yet.
    /// The region must have the snapshot whole before (I10).
    pub fn install(&mut self, region: RegionNo, promise: &Promise, sequence: Sequence) -> bool {
        let (Some(lane), Some(extents)) = (self.lanes.get_mut(&region), self.extents.get_mut(&region)) else {
            return false;
        };
        if sequence > self.committed || !lane.install(sequence) {
            return false;
        }
        *extents = promise.fold.extents.clone();
        if promise.fold.committed < sequence {
            extents.begin_copies(promise.fold.committed.next());
        }
        let (first, origin) = lane.start();
        extents.begin(Extent { first, ballot: self.ballot, origin });
        true
    }

    /// The next entry gets this sequence. With `voters` it changes who votes; one change at a time.
    ///
    /// # Panics
    /// When voters change while an earlier change is not committed yet.
    pub fn seal(&mut self, voters: Option<RegionSet>) -> Sequence {
        self.sealed = self.sealed.next();
        if let Some(voters) = voters {
            assert!(!self.is_changing(), "I20: one change of voters at a time");
            self.voters.push((self.sealed, voters));
        }
        self.sealed
    }

    /// What is to be sent to a region next, if anything can.
    pub fn upcoming(&self, region: RegionNo) -> Option<Cargo> {
        let lane = self.lanes.get(&region).filter(|lane| lane.has_room())?;
        let cargo = lane.upcoming();
        let ready = match cargo {
            Cargo::Install(_) => true,
            Cargo::Commit(sequence) => sequence <= self.sealed,
        };
        ready.then_some(cargo)
    }

    /// Takes what is to be sent to a region next.
    pub fn send(&mut self, region: RegionNo) -> Option<Append> {
        self.upcoming(region)?;
        let lane = self.lanes.get_mut(&region)?;
        let (slot, cargo) = lane.send();
        // An entry never claims more than what it and those before it hold.
        let (Cargo::Commit(sequence) | Cargo::Install(sequence)) = cargo;
        Some(Append { slot, parent: lane.parent(), cargo, committed: self.committed.min(sequence) })
    }

    /// The object at `slot` of a region landed with the leader's own identity. Gives the committed mark.
    pub fn landed(&mut self, region: RegionNo, slot: Slot) -> Sequence {
        if let Some(lane) = self.lanes.get_mut(&region) {
            lane.landed(slot);
            self.advance();
        }
        self.committed
    }

    /// The region takes no more appends of this reign: another leader took it over, or it is broken.
    pub fn lose(&mut self, region: RegionNo) {
        let accepted = self.close(region).map_or(Sequence(0), |lane| lane.accepted());
        self.lost.entry(region).or_insert(accepted);
    }

    /// No more is appended to a region. How far it had come is remembered: later marks would tell less than earlier ones
    /// otherwise, and a region that went backwards would pass.
    fn close(&mut self, region: RegionNo) -> Option<Lane> {
        let lane = self.lanes.remove(&region)?;
        if lane.has_accepted() {
            self.marks.insert(region, Mark { region, ballot: self.ballot, sequence: lane.accepted() });
        }
        Some(lane)
    }

    /// The region joins again later, with the same promise; nothing was sent to it yet.
    pub fn put_off(&mut self, region: RegionNo) {
        self.lanes.remove(&region);
        self.extents.remove(&region);
    }

    /// The region has lost what it had accepted: it takes no more appends, and nothing that it took counts any more.
    pub fn distrust(&mut self, region: RegionNo) {
        self.close(region);
        self.lost.insert(region, Sequence(0));
    }

    /// The region is no concern of this reign any more.
    pub fn leave(&mut self, region: RegionNo) {
        self.lanes.remove(&region);
        self.extents.remove(&region);
        self.lost.remove(&region);
        self.marks.remove(&region);
    }

    /// Raises the committed mark as far as quorums have accepted (I6); it never falls (I2). An entry that changes the
    /// voters needs a quorum of those before it and of those that it sets; those behind it need the latter (I20).
    fn advance(&mut self) {
        for at in 0..self.voters.len() {
            let reach = self.reach(&self.voters[at].1);
            let Some((change, next)) = self.voters.get(at + 1).cloned() else {
                self.committed = self.committed.max(reach);
                break;
            };
            if reach < change {
                self.committed = self.committed.max(reach);
                break;
            }
            if self.reach(&next) < change {
                self.committed = self.committed.max(Sequence(change.0 - 1));
                break;
            }
            self.committed = self.committed.max(change);
        }
        let in_force = self.voters.iter().rposition(|(from, _)| *from <= self.committed).unwrap_or(0);
        self.voters.drain(..in_force);
    }

    /// The highest sequence that a quorum of the set has accepted.
    fn reach(&self, set: &RegionSet) -> Sequence {
        let of = |region| match self.lanes.get(&region) {
            Some(lane) => lane.accepted(),
            // What lies below another leader's Takeover counts all the same.
            None => self.lost.get(&region).copied().unwrap_or_default(),
        };
        let mut accepted: Vec<_> = set.iter().map(of).collect();
        accepted.sort_unstable_by(|a, b| b.cmp(a));
        accepted[set.quorum() - 1]
    }

    /// Appends in flight to one region, and entries that are not committed, at most.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Ballot of the reign.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// All entries up to here are committed.
    pub fn committed(&self) -> Sequence {
        self.committed
    }

    /// The committed mark that the reign began with.
    pub fn start(&self) -> Sequence {
        self.start
    }

    /// The last entry that has a content.
    pub fn sealed(&self) -> Sequence {
        self.sealed
    }

    /// The first entry of its own: once it is committed, the leader is known to have started from everything that was.
    pub fn own(&self) -> Sequence {
        self.own
    }

    /// Whether the voters are being changed by an entry that is not committed yet.
    pub fn is_changing(&self) -> bool {
        self.voters.len() > 1
    }

    /// The regions that vote at the committed mark.
    pub fn voters(&self) -> &RegionSet {
        &self.voters[0].1
    }

    /// Every set of which a quorum is needed now: the one in force, and the one that a change sets.
    pub fn sets(&self) -> Vec<RegionSet> {
        self.voters.iter().map(|(_, set)| set.clone()).collect()
    }

    /// Whether a quorum of every set that is needed now meets the condition.
    pub fn has_quorum(&self, condition: impl Fn(RegionNo) -> bool) -> bool {
        self.voters.iter().all(|(_, set)| set.has_quorum(&condition))
    }

    /// Whether regions lost leave no quorum: the reign is over.
    pub fn is_over(&self) -> bool {
        !self.has_quorum(|region| !self.lost.contains_key(&region))
    }

    /// Whether another leader has taken this region over, or it is broken.
    pub fn has_lost(&self, region: RegionNo) -> bool {
        self.lost.contains_key(&region)
    }

    /// Regions that appends go to.
    pub fn regions(&self) -> impl Iterator<Item = RegionNo> + '_ {
        self.lanes.keys().copied()
    }

    /// Appends to one region.
    pub fn lane(&self, region: RegionNo) -> Option<&Lane> {
        self.lanes.get(&region)
    }

    /// Where a region holds which entry.
    pub fn extents(&self, region: RegionNo) -> Option<&Extents> {
        self.extents.get(&region)
    }

    /// Where the path of a region may be cut: the slot behind entry `sequence`, of which there is a snapshot.
    /// `durable` says which regions have that snapshot whole; a quorum and the region itself must (I10).
    ///
    /// Never before the first own entry is committed: what the region accepted above `sequence` under earlier ballots is
    /// cut off too, and until then it may be what an entry was committed by (I6).
    pub fn floor(&self, region: RegionNo, sequence: Sequence, durable: impl Fn(RegionNo) -> bool) -> Option<Slot> {
        let serves = self.committed >= self.own;
        let allowed = serves && sequence <= self.committed && durable(region) && self.has_quorum(&durable);
        self.lanes.get(&region).filter(|_| allowed)?.behind(sequence)
    }
}
