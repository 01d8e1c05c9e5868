//! A node in one attempt: it stands, then leads. It drives the journal's own types and holds nothing else.

use std::collections::BTreeMap;

use brigade_index::{
    format::{Floor, Record, SnapshotRef},
    ids::{Ballot, RegionNo, Sequence, WriteId},
    journal::{Abandoned, Candidate, Elected, Election, FoldError, Promise, Reign, Want},
    keys::Slot,
    region::RegionSet,
};

use crate::{
    object::{Content, Entry, content, in_snapshot, takeover, takeover_id},
    region::Region,
    scenario::Scenario,
};

/// One attempt to lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// It takes the regions over.
    Standing(Standing),
    /// It leads.
    Leading(Box<Leading>),
    /// It has given up or was deposed.
    Gone,
}

/// An attempt that is not decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Nonce of its ballot: the number of the attempt, from 1.
    pub nonce: u64,
    /// The election.
    pub election: Election,
    /// The floor that each region's path was read from; only a mutated candidate needs it.
    pub first_floors: BTreeMap<RegionNo, Option<Floor>>,
}

/// An attempt that has won.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leading {
    /// Nonce of its ballot.
    pub nonce: u64,
    /// The reign.
    pub reign: Reign,
    /// Contents of all entries.
    pub log: BTreeMap<Sequence, Entry>,
    /// Entries up to here are known from a snapshot only and cannot be sent.
    pub base: Sequence,
    /// Who votes behind them.
    pub base_voters: RegionSet,
    /// Regions that may still join.
    pub rest: BTreeMap<RegionNo, Candidate>,
    /// Promises of the regions that nothing was sent to yet.
    pub promises: BTreeMap<RegionNo, Promise>,
    /// Snapshots to be installed.
    pub installs: BTreeMap<RegionNo, SnapshotRef>,
    /// What was sent and is not known to have landed.
    pub flying: BTreeMap<(RegionNo, Slot), WriteId>,
    /// Newest floor known of each region.
    pub floors: BTreeMap<RegionNo, u64>,
    /// How far regions that were lost had come.
    pub lost: BTreeMap<RegionNo, Sequence>,
    /// Whether its own first entry is committed.
    pub serving: bool,
}

/// One region's part of an election, or the same of a region that joins later.
pub trait Part {
    /// As [`Candidate::want`].
    fn want(&self) -> Want;
    /// As [`Candidate::floor`].
    fn floor(&mut self, newest: Option<&Floor>);
    /// As [`Candidate::object`].
    ///
    /// # Errors
    /// As there.
    fn object(&mut self, record: Option<&Record>) -> Result<Result<(), Abandoned>, FoldError>;
    /// As [`Candidate::put`].
    fn put(&mut self, landed: bool);
    /// As [`Candidate::restart`].
    fn restart(&mut self);
    /// The Takeover that its fold came through.
    fn parent(&self) -> Slot;
}

impl Part for Candidate {
    fn want(&self) -> Want {
        self.want()
    }

    fn floor(&mut self, newest: Option<&Floor>) {
        self.floor(newest);
    }

    fn object(&mut self, record: Option<&Record>) -> Result<Result<(), Abandoned>, FoldError> {
        self.object(record)
    }

    fn put(&mut self, landed: bool) {
        self.put(landed);
    }

    fn restart(&mut self) {
        self.restart();
    }

    fn parent(&self) -> Slot {
        self.fold().parent
    }
}

impl Part for (&mut Election, RegionNo) {
    fn want(&self) -> Want {
        self.0.want(self.1)
    }

    fn floor(&mut self, newest: Option<&Floor>) {
        self.0.floor(self.1, newest);
    }

    fn object(&mut self, record: Option<&Record>) -> Result<Result<(), Abandoned>, FoldError> {
        self.0.object(self.1, record)
    }

    fn put(&mut self, landed: bool) {
        self.0.put(self.1, landed);
    }

    fn restart(&mut self) {
        self.0.restart(self.1);
    }

    fn parent(&self) -> Slot {
        self.0.candidate(self.1).map(|candidate| candidate.fold().parent).unwrap_or_default()
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing has changed.
    Idle,
    /// Something has.
    Moved,
    /// A higher ballot was met.
    Abandoned,
}

/// Goes on with taking one region over: to the next put, or by one read when reads are steps of their own.
pub fn advance(part: &mut impl Part, region: &mut Region, scenario: &Scenario) -> Step {
    use crate::mutation::Mutation::{FillEnd, IgnoreParents};
    let mut step = Step::Idle;
    loop {
        let read = match part.want() {
            Want::Rest | Want::Promised | Want::Void => return step,
            Want::Floor => {
                part.floor(region.newest());
                step = Step::Moved;
                if scenario.single_reads() {
                    return step;
                }
                continue;
            }
            Want::Object(slot) => region.objects.get(&slot),
            Want::Put { slot, parent, ballot } => {
                let end = region.objects.range(slot..Slot { ballot: slot.ballot, index: u64::MAX }).next_back();
                let slot = end.filter(|_| scenario.breaks(FillEnd)).map_or(slot, |(last, _)| last.next());
                let own = takeover(ballot, parent);
                if scenario.breaks(FillEnd) && region.flying.keys().all(|(_, id)| *id != own.head.id) {
                    let landed = region.objects.values().any(|object| object.head.id == own.head.id);
                    if landed {
                        part.put(true);
                        continue;
                    }
                }
                if !region.objects.contains_key(&slot) {
                    return if region.send(slot, own, scenario.copies) { Step::Moved } else { step };
                }
                region.objects.get(&slot)
            }
        };
        let ending = read.is_none();
        let mut record = read.map(|object| Record::clone(object));
        if let Some(record) = record.as_mut().filter(|_| scenario.breaks(IgnoreParents)) {
            record.head.parent = part.parent();
        }
        match part.object(record.as_ref()) {
            Ok(Ok(())) => step = Step::Moved,
            Ok(Err(_)) => return Step::Abandoned,
            Err(_) => {
                part.restart();
                return Step::Moved;
            }
        }
        if scenario.single_reads() && !ending {
            return step;
        }
    }
}

impl Standing {
    /// The attempt with this number, from 1, asking all regions.
    pub fn new(scenario: &Scenario, nonce: u64) -> Self {
        let start = crate::scenario::set(&scenario.voters);
        let mut election = Election::new(start);
        for region in scenario.regions() {
            election.add(region, takeover_id(nonce));
        }
        let stood = match scenario.promotion {
            Some((attempt, region)) if attempt as u64 + 1 == nonce => {
                election.promote(RegionSet::one(RegionNo(region)), nonce, Ballot::BOOTSTRAP)
            }
            _ => election.stand(nonce, Ballot::BOOTSTRAP),
        };
        assert!(stood.is_ok(), "nothing was read yet");
        Self { nonce, election, first_floors: BTreeMap::new() }
    }

    /// One step in one region.
    pub fn advance(&mut self, number: RegionNo, region: &mut Region, scenario: &Scenario) -> Step {
        if scenario.breaks(crate::mutation::Mutation::TrustFirstFloor) && self.election.want(number) == Want::Floor {
            let newest = region.newest().cloned();
            let first = self.first_floors.entry(number).or_insert(newest).clone();
            self.election.floor(number, first.as_ref());
            return Step::Moved;
        }
        advance(&mut (&mut self.election, number), region, scenario)
    }

    /// What this election comes to by the rules, or by the broken ones.
    pub fn decide(&self, scenario: &Scenario) -> Option<Option<Elected>> {
        crate::broken::decide(&self.election, scenario).unwrap_or_else(|| self.election.decide())
    }
}

impl Leading {
    /// The reign of an election, with its own first entry sealed.
    pub fn new(scenario: &Scenario, nonce: u64, election: Election, elected: &Elected) -> Self {
        let merged = &elected.merged;
        let mut log = BTreeMap::new();
        let base = merged.snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
        if let Some((_, snapshot)) = &merged.snapshot {
            for sequence in (1..=base.0).map(Sequence) {
                log.insert(sequence, Entry { content: in_snapshot(snapshot, sequence), voters: None });
            }
        }
        for (sequence, _, accepted) in merged.settled.iter().chain(&merged.reappend) {
            let entry = Entry { content: content(&accepted.section), voters: accepted.voters.clone() };
            log.insert(*sequence, entry);
        }
        let based = elected.promises.values().filter(|promise| promise.fold.base() == base);
        let base_voters = based.filter_map(|promise| promise.fold.voters.clone()).next();
        let promised = |(region, promise): (&RegionNo, &Promise)| (*region, promise.floor);
        let mut rest = election.into_candidates();
        rest.retain(|region, _| !elected.promises.contains_key(region));
        let mut leading = Self {
            nonce,
            reign: Reign::new(elected, scenario.window),
            log,
            base,
            base_voters: base_voters.unwrap_or_else(|| crate::scenario::set(&scenario.voters)),
            rest,
            promises: if scenario.installs { elected.promises.clone() } else { BTreeMap::new() },
            installs: BTreeMap::new(),
            flying: BTreeMap::new(),
            floors: elected.promises.iter().map(promised).collect(),
            lost: BTreeMap::new(),
            serving: false,
        };
        let alone = scenario.promotion.filter(|(attempt, _)| *attempt as u64 + 1 == nonce);
        leading.seal(alone.map(|(_, region)| RegionSet::one(RegionNo(region))));
        leading
    }

    /// Gives the next entry a content.
    pub fn seal(&mut self, voters: Option<RegionSet>) {
        let sequence = self.reign.seal(voters.clone());
        self.log.insert(sequence, Entry { content: self.nonce as Content, voters });
    }

    /// Who votes behind an entry.
    pub fn voters_behind(&self, sequence: Sequence) -> RegionSet {
        let changes = self.log.range(..=sequence).rev();
        changes.filter_map(|(_, entry)| entry.voters.clone()).next().unwrap_or_else(|| self.base_voters.clone())
    }

    /// Contents of entries 1 to `sequence`.
    pub fn contents(&self, sequence: Sequence) -> Vec<Content> {
        self.log.range(..=sequence).map(|(_, entry)| entry.content).collect()
    }

    /// Its timeline: the high part of the round.
    pub fn timeline(&self) -> u64 {
        self.reign.ballot().round >> 32
    }
}
