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

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn set(regions: &[u16]) -> RegionSet {
        RegionSet::new(regions.iter().copied().map(RegionNo).collect()).unwrap()
    }

    #[test]
    fn a_set_is_never_empty_and_knows_its_regions() {
        assert_eq!(RegionSet::new(BTreeSet::new()), None);
        assert_eq!(RegionSet::one(RegionNo(4)), set(&[4]));
        let three = set(&[9, 2, 4]);
        assert_eq!(three.iter().map(|region| region.0).collect::<Vec<_>>(), [2, 4, 9]);
        assert!(three.contains(RegionNo(4)) && !three.contains(RegionNo(3)));
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        let quorums = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)];
        for (regions, quorum) in quorums {
            let set = set(&(0..regions).collect::<Vec<_>>());
            assert_eq!((set.len(), set.quorum()), (usize::from(regions), quorum));
            for met in 0..=regions {
                assert_eq!(set.has_quorum(|region| region.0 < met), usize::from(met) >= quorum, "{met} of {regions}");
            }
        }
    }

    #[test]
    fn only_regions_of_the_set_count() {
        let mut asked = Vec::new();
        assert!(!set(&[0, 1, 2]).has_quorum(|region| {
            asked.push(region.0);
            region.0 > 1
        }));
        assert_eq!(asked, [0, 1, 2]);
    }

    proptest! {
        /// Why no two leaders can commit side by side: any two quorums of one set share a region.
        #[test]
        fn two_quorums_share_a_region(
            regions in btree_set(any::<u16>().prop_map(RegionNo), 1..7),
            one in any::<u8>(),
            other in any::<u8>(),
        ) {
            let set = RegionSet::new(regions).unwrap();
            let at = |region| set.iter().position(|own| own == region).unwrap();
            let (one, other) = (|region| one >> at(region) & 1 == 1, |region| other >> at(region) & 1 == 1);
            if set.has_quorum(one) && set.has_quorum(other) {
                prop_assert!(set.iter().any(|region| one(region) && other(region)));
            }
        }
    }
}
