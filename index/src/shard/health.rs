//! Whether this node leads, and which regions take its writes.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ProposeError;
use crate::{
    format::Leader,
    ids::RegionNo,
    names::RegionName,
    region::{RegionRecord, RegionSet},
    store::StoreError,
};

/// New proposals are refused once appends to too many regions have failed for this long: long enough to ride out a
/// hiccup, short enough that callers learn of an outage before their own time-outs.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// What this node is to the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It leads.
    Leading,
    /// Another node took over.
    Deposed(Option<Leader>),
    /// It led, and stands again with a higher ballot, because a challenger took a minority of regions from it.
    Renewing,
    /// Something that must not be was found in the journal.
    Broken(String),
    /// It led and has stopped.
    Stopped,
    /// It never led: it tells what is committed while nobody can lead, for this reason.
    Reading(String),
}

/// What a region is to the reign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It has not promised yet.
    Joining,
    /// It is sent entries.
    Joined,
    /// Another leader's Takeover is in it, so that this reign cannot append to it any more.
    Lost,
    /// It is not what it should be, and is not written to.
    Refused { problem: String, hint: String },
}

/// A region that does not answer as it should.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) since: Instant,
    pub(super) problem: String,
    pub(super) hint: String,
}

#[derive(Clone, Debug)]
pub(super) struct RegionHealth {
    pub(super) record: RegionRecord,
    pub(super) condition: Condition,
    pub(super) failing: Option<Failing>,
}

struct Inner {
    role: Role,
    /// Quorums of each of these are needed now.
    sets: Vec<RegionSet>,
    regions: BTreeMap<RegionNo, RegionHealth>,
}

pub(super) struct Health {
    inner: Mutex<Inner>,
    /// Cancelled when the role is leading no more.
    pub(super) over: CancellationToken,
}

impl Health {
    pub(super) fn new(sets: Vec<RegionSet>) -> Self {
        let inner = Inner { role: Role::Leading, sets, regions: BTreeMap::new() };
        Self { inner: Mutex::new(inner), over: CancellationToken::new() }
    }

    /// Who votes has changed.
    pub(super) fn set_voters(&self, sets: Vec<RegionSet>) {
        self.inner.lock().sets = sets;
    }

    /// Quorums of each of these are needed now.
    pub(super) fn sets(&self) -> Vec<RegionSet> {
        self.inner.lock().sets.clone()
    }

    /// A region has come to be known, or its condition has changed. True if this is news.
    pub(super) fn set_condition(&self, record: &RegionRecord, condition: Condition) -> bool {
        let mut inner = self.inner.lock();
        let before = inner.regions.get(&record.number);
        let news = before.is_none_or(|region| region.condition != condition);
        let failing = before.and_then(|region| region.failing.clone());
        inner.regions.insert(record.number, RegionHealth { record: record.clone(), condition, failing });
        news
    }

    pub(super) fn forget(&self, region: RegionNo) {
        self.inner.lock().regions.remove(&region);
    }

    /// A region did what it was asked. True if it had been failing.
    pub(super) fn succeeded(&self, region: RegionNo) -> bool {
        self.inner.lock().regions.get_mut(&region).is_some_and(|region| region.failing.take().is_some())
    }

    /// A region did not do what it was asked. True if this is news.
    pub(super) fn failed(&self, region: RegionNo, error: &StoreError) -> bool {
        self.failed_with(region, error.to_string(), error.hint().to_owned())
    }

    /// As [`Self::failed`], in words.
    pub(super) fn failed_with(&self, region: RegionNo, problem: String, hint: String) -> bool {
        let mut inner = self.inner.lock();
        let Some(region) = inner.regions.get_mut(&region) else { return false };
        let since = region.failing.as_ref().map(|failing| failing.since);
        region.failing = Some(Failing { since: since.unwrap_or_else(Instant::now), problem, hint });
        since.is_none()
    }

    /// The role changes for good; the first change stays.
    pub(super) fn end(&self, role: Role) {
        let mut inner = self.inner.lock();
        if inner.role == Role::Leading {
            inner.role = role;
        }
        drop(inner);
        self.over.cancel();
    }

    /// Whether proposals are taken.
    pub(super) fn check(&self) -> Result<(), ProposeError> {
        let inner = self.inner.lock();
        match &inner.role {
            Role::Deposed(leader) => Err(ProposeError::NotLeader { leader: leader.clone() }),
            Role::Renewing => Err(ProposeError::NotLeader { leader: None }),
            Role::Broken(problem) => Err(ProposeError::Unknown(problem.clone())),
            Role::Stopped => Err(ProposeError::ShuttingDown),
            Role::Reading(problem) => Err(ProposeError::Quorum(problem.clone())),
            Role::Leading => inner.check_quorum(),
        }
    }

    /// The role, and every region's health.
    pub(super) fn look(&self) -> (Role, BTreeMap<RegionNo, RegionHealth>) {
        let inner = self.inner.lock();
        (inner.role.clone(), inner.regions.clone())
    }

    /// Whether a region has failed for so long that it is not asked first any more.
    pub(super) fn is_failing(&self, region: RegionNo) -> bool {
        self.inner.lock().regions.get(&region).is_some_and(|region| region.failing.is_some())
    }

    /// Why the stores do not take writes at present, if they do not.
    pub(super) fn problem(&self) -> Option<String> {
        self.inner.lock().check_quorum().err().map(|error| error.to_string())
    }
}

impl Inner {
    fn check_quorum(&self) -> Result<(), ProposeError> {
        let serves = |region: RegionNo| {
            self.regions.get(&region).is_some_and(|region| {
                let failing = region.failing.as_ref().is_some_and(|failing| failing.since.elapsed() >= PATIENCE);
                region.condition == Condition::Joined && !failing
            })
        };
        let Some(set) = self.sets.iter().find(|set| !set.has_quorum(serves)) else { return Ok(()) };
        if set.len() == 1 {
            let only = set.iter().find_map(|region| self.regions.get(&region)?.failing.as_ref());
            let problem =
                only.map_or_else(|| "the region has not promised yet".to_owned(), |only| only.problem.clone());
            return Err(ProposeError::Unavailable(problem));
        }
        let out: Vec<_> = set.iter().filter(|region| !serves(*region)).map(|region| self.describe(region)).collect();
        let up = set.len() - out.len();
        let text =
            format!("{up} of {} regions take writes, {} are needed; {}", set.len(), set.quorum(), out.join("; "));
        Err(ProposeError::Quorum(text))
    }

    fn describe(&self, region: RegionNo) -> String {
        let Some(RegionHealth { record, condition, failing }) = self.regions.get(&region) else {
            return format!("region number {region} is not known");
        };
        let name: &RegionName = &record.name;
        match (condition, failing) {
            (Condition::Refused { problem, hint }, _) => format!("{name}: {problem} ({hint})"),
            (_, Some(Failing { problem, hint, .. })) => format!("{name}: {problem} ({hint})"),
            (Condition::Lost, None) => format!("{name}: another node has taken it over"),
            (_, None) => format!("{name}: it has not promised yet"),
        }
    }
}
