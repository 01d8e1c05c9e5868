//! The cluster's regions as committed state.

use std::collections::BTreeMap;

use crate::{
    command::{Applied, Outcome, Rejection},
    ids::RegionNo,
    region::{RegionRecord, RegionSet},
};

/// The regions that the cluster knows: those that vote, and those that are sent everything but do not vote yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    records: BTreeMap<RegionNo, RegionRecord>,
    voters: Option<RegionSet>,
    /// The next region added gets this number, or a higher one.
    next: RegionNo,
}

impl Regions {
    /// The founding regions: all of them vote.
    pub fn founded(records: impl IntoIterator<Item = RegionRecord>) -> Self {
        let records: BTreeMap<_, _> = records.into_iter().map(|record| (record.number, record)).collect();
        let voters = RegionSet::new(records.keys().copied().collect());
        let next = records.keys().next_back().map_or(RegionNo(0), |last| RegionNo(last.0.saturating_add(1)));
        Self { records, voters, next }
    }

    /// Puts it together from its parts, as a snapshot stores them.
    pub(crate) fn from_parts(records: Vec<RegionRecord>, voters: Option<RegionSet>, next: RegionNo) -> Self {
        let records = records.into_iter().map(|record| (record.number, record)).collect();
        Self { records, voters, next }
    }

    /// All regions, by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RegionRecord> {
        self.records.values()
    }

    /// A region.
    pub fn get(&self, region: RegionNo) -> Option<&RegionRecord> {
        self.records.get(&region)
    }

    /// The regions that vote; `None` before the cluster was founded, in tests.
    pub fn voters(&self) -> Option<&RegionSet> {
        self.voters.as_ref()
    }

    /// Number for the next region.
    pub fn next_number(&self) -> RegionNo {
        self.next
    }

    pub(super) fn add(&mut self, record: &RegionRecord) -> Applied {
        // The last number is never given: a next one always exists.
        let next =
            record.number.0.checked_add(1).ok_or(Rejection::Malformed("there is no number for another region"))?;
        if record.number < self.next || self.iter().any(|known| known.name == record.name) {
            return Err(Rejection::Malformed("a region of this number or name was there before"));
        }
        self.next = RegionNo(next);
        self.records.insert(record.number, record.clone());
        Ok(Outcome::Done)
    }

    pub(super) fn remove(&mut self, region: RegionNo) -> Applied {
        if self.voters.as_ref().is_some_and(|voters| voters.contains(region)) {
            return Err(Rejection::Malformed("a region that votes cannot be removed"));
        }
        self.records.remove(&region).map(|_| Outcome::Done).ok_or(Rejection::Malformed("there is no such region"))
    }

    /// Regions that voted and do so no more are gone: what they hold is not looked at again.
    pub(super) fn set_voters(&mut self, voters: &RegionSet) -> Applied {
        let before = self.voters.replace(voters.clone());
        let left = |region: &RegionNo| before.as_ref().is_some_and(|before| before.contains(*region));
        self.records.retain(|region, _| voters.contains(*region) || !left(region));
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests;
