//! Taking a shard over in all its regions at once: one ballot, a promise from each of a quorum.

use std::collections::BTreeMap;

use super::{
    fold::{Fold, FoldError},
    merge::{Merged, merge, needed_sets},
    takeover::{Abandoned, Candidate, Want},
};
use crate::{
    format::{Floor, Leader, Record},
    ids::{Ballot, RegionNo, Sequence, WriteId},
    region::{Mark, RegionSet},
};

/// A candidate's view of all regions. It first only looks; from [`Self::stand`] on it takes over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    /// A set of voters that was in force once.
    start: RegionSet,
    candidates: BTreeMap<RegionNo, Candidate>,
    /// Nonce and the highest ballot seen before, from when it may stand on.
    standing: Option<(u64, Ballot)>,
    ballot: Option<Ballot>,
    /// Regions that vote alone, whatever the log says: a promotion, which is lossy by definition.
    promoted: Option<RegionSet>,
}

/// A region's promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The path before the Takeover, which lies where it ends.
    pub fold: Fold,
    /// Number of the floor that was the newest.
    pub floor: u64,
}

/// An election that was won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elected {
    /// Ballot of the reign.
    pub ballot: Ballot,
    /// The promises.
    pub promises: BTreeMap<RegionNo, Promise>,
    /// What they add up to.
    pub merged: Merged,
    /// The regions that vote: from which entry on, and who, ascending. The first is in force at the committed mark or
    /// before.
    pub voters: Vec<(Sequence, RegionSet)>,
    /// Regions that have lost what they had accepted, by the mark that says so. Their promises count for nothing.
    pub backwards: Vec<Mark>,
}

impl Election {
    /// An election among regions of which `start` voted once; each is to be added.
    pub fn new(start: RegionSet) -> Self {
        Self { start, candidates: BTreeMap::new(), standing: None, ballot: None, promoted: None }
    }

    /// Asks this region, too. Its Takeover will carry `id`.
    ///
    /// # Errors
    /// Never before the ballot is chosen.
    pub fn add(&mut self, region: RegionNo, id: WriteId) {
        let mut candidate = Candidate::new(id);
        if let Some(ballot) = self.ballot {
            // It has met nothing yet.
            let _ = candidate.stand(ballot);
        }
        self.candidates.entry(region).or_insert(candidate);
    }

    /// What is needed next in a region.
    pub fn want(&self, region: RegionNo) -> Want {
        self.candidates.get(&region).map_or(Want::Rest, Candidate::want)
    }

    /// One region's part.
    pub fn candidate(&self, region: RegionNo) -> Option<&Candidate> {
        self.candidates.get(&region)
    }

    /// Takes the parts of all regions out, for those that promise later.
    pub fn into_candidates(self) -> BTreeMap<RegionNo, Candidate> {
        self.candidates
    }

    /// The newest floor of a region.
    pub fn floor(&mut self, region: RegionNo, newest: Option<&Floor>) {
        if let Some(candidate) = self.candidates.get_mut(&region) {
            candidate.floor(newest);
        }
    }

    /// The object at the wanted slot of a region, or that there is none.
    ///
    /// # Errors
    /// As [`Candidate::object`].
    pub fn object(&mut self, region: RegionNo, record: Option<&Record>) -> Result<Result<(), Abandoned>, FoldError> {
        let Some(candidate) = self.candidates.get_mut(&region) else { return Ok(Ok(())) };
        if let Err(abandoned) = candidate.object(record)? {
            return Ok(Err(abandoned));
        }
        // Only the end of a path brings the choice nearer, and finding out reads all that was folded.
        Ok(if record.is_none() { self.choose() } else { Ok(()) })
    }

    /// The result of a region's wanted put: whether it landed, or another object is there.
    pub fn put(&mut self, region: RegionNo, landed: bool) {
        if let Some(candidate) = self.candidates.get_mut(&region) {
            candidate.put(landed);
        }
    }

    /// Reads a region's path anew, see [`Candidate::restart`].
    pub fn restart(&mut self, region: RegionNo) {
        if let Some(candidate) = self.candidates.get_mut(&region) {
            candidate.restart();
        }
    }

    /// Looks whether paths have grown, before it stands.
    pub fn look_again(&mut self) {
        self.candidates.values_mut().for_each(Candidate::look_again);
    }

    /// The highest ballot met, and its leader.
    pub fn sighted(&self) -> (Ballot, Option<&Leader>) {
        let folds = self.candidates.values().map(Candidate::fold);
        let newest = folds.max_by_key(|fold| fold.promised);
        newest.map_or((Ballot::BOOTSTRAP, None), |fold| (fold.promised, fold.leader.as_ref()))
    }

    /// From now on it takes over, with a ballot above every one met here and above `seen`.
    ///
    /// # Errors
    /// Never: nothing was put yet.
    pub fn stand(&mut self, nonce: u64, seen: Ballot) -> Result<(), Abandoned> {
        self.standing = Some((nonce, seen));
        self.choose()
    }

    /// From now on it takes over for regions that are to vote alone, whatever the log says: what only others hold is lost.
    /// Their first entry must set them as voters, and a second one be committed before they serve, so that the first is
    /// known to be. All of them must promise, and only they are taken over: the paths of others stay in the old timeline for
    /// ever, see [`Want::Void`].
    ///
    /// # Errors
    /// Never: nothing was put yet.
    pub fn promote(&mut self, to: RegionSet, nonce: u64, seen: Ballot) -> Result<(), Abandoned> {
        self.promoted = Some(to);
        self.stand(nonce, seen)
    }

    /// Chooses the ballot once a quorum of paths has been read to the end.
    fn choose(&mut self) -> Result<(), Abandoned> {
        let Some((nonce, seen)) = self.standing.filter(|_| self.ballot.is_none()) else { return Ok(()) };
        let read: Vec<_> = self.folds(|candidate| candidate.at_end().then(|| candidate.fold()));
        if !self.suffices(&read) {
            return Ok(());
        }
        let highest = self.candidates.values().map(|candidate| candidate.fold().promised).max().unwrap_or_default();
        let highest = highest.max(seen);
        let round = match self.promoted {
            Some(_) => (highest.timeline() + 1) << 32,
            None => highest.round + 1,
        };
        let ballot = Ballot { round, nonce };
        self.ballot = Some(ballot);
        let promoted = |region| self.promoted.as_ref().is_some_and(|alone| alone.contains(region));
        let of = self.candidates.iter().filter(|(region, _)| promoted(**region));
        let newest = of.map(|(_, candidate)| candidate.fold().promised.timeline()).max();
        self.candidates.iter_mut().try_for_each(|(region, candidate)| {
            // One that an earlier promotion has left behind spoils what the others hold.
            if promoted(*region) && Some(candidate.fold().promised.timeline()) == newest {
                candidate.promote();
            }
            candidate.stand(ballot)
        })
    }

    /// The ballot, once chosen.
    pub fn ballot(&self) -> Option<Ballot> {
        self.ballot
    }

    fn folds<'a>(&'a self, fold: impl Fn(&'a Candidate) -> Option<&'a Fold>) -> Vec<(RegionNo, &'a Fold)> {
        self.candidates.iter().filter_map(|(region, candidate)| Some((*region, fold(candidate)?))).collect()
    }

    /// Whether these are a quorum of every set that could have committed what they do not show.
    fn suffices(&self, folds: &[(RegionNo, &Fold)]) -> bool {
        let has = |region| folds.iter().any(|(known, _)| *known == region);
        self.needed(folds).iter().all(|set| set.has_quorum(has))
    }

    fn needed(&self, folds: &[(RegionNo, &Fold)]) -> Vec<RegionSet> {
        match &self.promoted {
            // Each of them: what one of them knows to be committed must not be left behind.
            Some(alone) => alone.iter().map(RegionSet::one).collect(),
            None => needed_sets(&self.start, folds),
        }
    }

    /// Whether a quorum could be had if just the regions that meet the condition answer.
    pub fn could_win(&self, condition: impl Fn(RegionNo) -> bool) -> bool {
        let all = self.folds(|candidate| Some(candidate.fold()));
        self.needed(&all).iter().all(|set| set.has_quorum(&condition))
    }

    /// The sets of which quorums are needed, as far as is known now.
    pub fn sets(&self) -> Vec<RegionSet> {
        self.needed(&self.folds(|candidate| Some(candidate.fold())))
    }

    /// How many regions have promised.
    pub fn promises(&self) -> usize {
        self.candidates.values().filter(|candidate| candidate.promise().is_some()).count()
    }

    /// Regions that have promised and lost what they had accepted, by the mark that says so.
    pub fn backwards(&self) -> Vec<Mark> {
        backwards(&self.folds(Candidate::promise))
    }

    /// The result, once a quorum has promised. `Some(None)` when the promises contradict each other (I5).
    pub fn decide(&self) -> Option<Option<Elected>> {
        let ballot = self.ballot?;
        let promised = self.folds(Candidate::promise);
        let backwards = backwards(&promised);
        let whole = |(region, _): &(RegionNo, &Fold)| !backwards.iter().any(|mark| mark.region == *region);
        let promised: Vec<_> = promised.into_iter().filter(whole).collect();
        if promised.is_empty() || !self.suffices(&promised) {
            return None;
        }
        let Some(merged) = merge(&promised) else { return Some(None) };
        let voters = self.voters(&promised, &merged);
        let promise = |(region, fold): &(RegionNo, &Fold)| {
            let floor = self.candidates.get(region).map_or(0, Candidate::floor_number);
            (*region, Promise { fold: (*fold).clone(), floor })
        };
        let promises = promised.iter().map(promise).collect();
        Some(Some(Elected { ballot, promises, merged, voters, backwards }))
    }

    /// Who votes from where on, by what the reign starts from.
    fn voters(&self, promised: &[(RegionNo, &Fold)], merged: &Merged) -> Vec<(Sequence, RegionSet)> {
        let mut voters = vec![(Sequence(0), self.start.clone())];
        let based = promised.iter().filter_map(|(_, fold)| Some((fold.base(), fold.voters.clone()?)));
        voters.extend(based.max_by_key(|(base, _)| *base));
        let changes = merged.settled.iter().chain(&merged.reappend);
        voters.extend(changes.filter_map(|(sequence, _, accepted)| Some((*sequence, accepted.voters.clone()?))));
        if let Some(alone) = &self.promoted {
            // The old voters cannot be asked; the first own entry says so to everybody else.
            return vec![(Sequence(0), alone.clone())];
        }
        voters.sort_by_key(|(sequence, _)| *sequence);
        let in_force = voters.iter().rposition(|(sequence, _)| *sequence <= merged.committed).unwrap_or(0);
        voters.split_off(in_force)
    }
}

/// The marks that regions do not reach, by what the others say.
fn backwards(promised: &[(RegionNo, &Fold)]) -> Vec<Mark> {
    let marks = promised.iter().flat_map(|(_, fold)| fold.marks.values());
    let missed =
        marks.filter(|mark| promised.iter().any(|(region, fold)| *region == mark.region && !fold.reaches(mark)));
    let missed: BTreeMap<RegionNo, Mark> = missed.map(|mark| (mark.region, *mark)).collect();
    missed.into_values().collect()
}
