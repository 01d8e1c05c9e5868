//! Which regions a cluster has, and which of them vote.

use std::collections::BTreeSet;

use crate::{
    ids::{Ballot, RegionNo, Sequence},
    names::RegionName,
};

/// A region that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegionRecord {
    /// Its number, never given twice.
    pub number: RegionNo,
    /// Its name.
    pub name: RegionName,
    /// URL of its store, as the operator gave it; without secrets.
    pub url: String,
    /// The identity that its store carries: 32 hexadecimal digits.
    pub region_id: String,
}

/// The regions that vote: never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionSet(BTreeSet<RegionNo>);

impl RegionSet {
    /// A set of these regions; `None` when there are none.
    pub fn new(regions: BTreeSet<RegionNo>) -> Option<Self> {
        (!regions.is_empty()).then_some(Self(regions))
    }

    /// The set of one region.
    pub fn one(region: RegionNo) -> Self {
        Self(BTreeSet::from([region]))
    }

    /// Whether the region votes.
    pub fn contains(&self, region: RegionNo) -> bool {
        self.0.contains(&region)
    }

    /// The regions in the order of their numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RegionNo> + '_ {
        self.0.iter().copied()
    }

    /// How many they are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them are a quorum: more than half.
    pub fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Whether a quorum of them meets the condition.
    pub fn has_quorum(&self, mut condition: impl FnMut(RegionNo) -> bool) -> bool {
        self.iter().filter(|region| condition(*region)).count() >= self.quorum()
    }
}

/// What a leader knew of a region when it wrote an entry: the region had accepted everything up to `sequence` under
/// `ballot`. A region whose path does not reach so far has gone backwards (I19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The region.
    pub region: RegionNo,
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Last entry accepted under it.
    pub sequence: Sequence,
}
