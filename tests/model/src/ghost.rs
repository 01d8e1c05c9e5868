//! What is truly committed, kept beside the model's states: nobody in the model reads it.

use std::collections::BTreeMap;

use brigade_index::{
    ids::{Ballot, Sequence},
    region::RegionSet,
};

use crate::object::{Content, Entry};

/// The truth.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Contents of all entries that any leader has committed, by timeline.
    pub logs: BTreeMap<u64, Vec<Content>>,
    /// The ballot under which each was committed first, as far as anybody knew.
    pub ballots: BTreeMap<u64, Vec<Ballot>>,
    /// What the leader of a promotion started from, committed or not.
    pub carried: Vec<Content>,
    /// Who votes behind which committed entry of the newest timeline; ascending.
    pub voters: Vec<(Sequence, RegionSet)>,
    /// The attempts that have served, oldest first.
    pub served: Vec<u64>,
    /// The timeline of each attempt that has led.
    pub led: BTreeMap<Content, u64>,
}

impl Ghost {
    /// Nothing is committed yet.
    pub fn new(voters: RegionSet) -> Self {
        let logs = BTreeMap::from([(0, Vec::new())]);
        let ballots = BTreeMap::from([(0, Vec::new())]);
        Self {
            logs,
            ballots,
            carried: Vec::new(),
            voters: vec![(Sequence(0), voters)],
            served: Vec::new(),
            led: BTreeMap::new(),
        }
    }

    /// The log of a timeline.
    pub fn log(&self, timeline: u64) -> &[Content] {
        self.logs.get(&timeline).map_or(&[], Vec::as_slice)
    }

    /// Entries of a timeline that were committed under ballots below this one.
    pub fn before(&self, ballot: Ballot) -> impl Iterator<Item = (Sequence, Content)> + '_ {
        let timeline = ballot.timeline();
        let ballots = self.ballots.get(&timeline).map_or(&[][..], Vec::as_slice);
        let entries = self.log(timeline).iter().zip(ballots).zip(1..);
        entries
            .filter(move |((_, own), _)| **own < ballot)
            .map(|((content, _), sequence)| (Sequence(sequence), *content))
    }

    /// The newest timeline.
    pub fn newest(&self) -> u64 {
        self.logs.last_key_value().map_or(0, |(timeline, _)| *timeline)
    }

    /// The regions that vote behind everything committed.
    pub fn in_force(&self) -> &RegionSet {
        &self.voters[self.voters.len() - 1].1
    }

    /// A timeline begins with what its first leader found to be committed.
    ///
    /// # Errors
    /// When that is not what the timeline before has committed.
    pub fn branch(
        &mut self,
        timeline: u64,
        committed: &[Content],
        carried: Vec<Content>,
        voters: &RegionSet,
    ) -> Result<(), String> {
        let before = self.log(self.newest());
        if !before.starts_with(committed) {
            return Err(format!("promotion: {committed:?} is no prefix of what was committed, {before:?}"));
        }
        let ballots = self.ballots[&self.newest()][..committed.len()].to_vec();
        self.logs.insert(timeline, committed.to_vec());
        self.ballots.insert(timeline, ballots);
        self.carried = carried;
        self.voters.push((Sequence(committed.len() as u64), voters.clone()));
        Ok(())
    }

    /// A leader holds everything up to `committed` for committed.
    ///
    /// # Errors
    /// When another content was committed before (I1), or one of a timeline that was left (promotion).
    pub fn commit(
        &mut self,
        ballot: Ballot,
        committed: Sequence,
        log: &BTreeMap<Sequence, Entry>,
    ) -> Result<(), String> {
        let timeline = ballot.timeline();
        let (Some(own), Some(ballots)) = (self.logs.get_mut(&timeline), self.ballots.get_mut(&timeline)) else {
            return Err("a timeline that nobody began".to_owned());
        };
        for (sequence, entry) in log.range(..=committed) {
            let at = sequence.0 as usize - 1;
            match own.get(at) {
                Some(known) if *known == entry.content => {}
                Some(known) => {
                    return Err(format!("I1: entry {sequence} was committed as {known} and now as {}", entry.content));
                }
                None if at > own.len() => {
                    return Err(format!("I1: entry {sequence} is committed without those before"));
                }
                None => {
                    if self.led.get(&entry.content).is_some_and(|led| *led < timeline)
                        && self.carried.get(at) != Some(&entry.content)
                    {
                        return Err(format!("promotion: entry {sequence} comes from the timeline that was left"));
                    }
                    own.push(entry.content);
                    ballots.push(ballot);
                    if let Some(voters) = &entry.voters {
                        self.voters.push((*sequence, voters.clone()));
                    }
                }
            }
        }
        Ok(())
    }
}
