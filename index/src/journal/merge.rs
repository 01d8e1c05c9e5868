//! What a leader starts from, given the promises of a quorum.

use super::fold::{Accepted, Fold};
use crate::{
    format::SnapshotRef,
    ids::{RegionNo, Sequence},
    region::RegionSet,
};

/// The start of a reign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The snapshot to start from, and the region that has it.
    pub snapshot: Option<(RegionNo, SnapshotRef)>,
    /// Entries after the snapshot up to [`Self::committed`], each with the region that has it.
    pub settled: Vec<(Sequence, RegionNo, Accepted)>,
    /// All entries up to here are known to be committed.
    pub committed: Sequence,
    /// Entries to be appended again under the new ballot, in order.
    pub reappend: Vec<(Sequence, RegionNo, Accepted)>,
}

/// For each sequence the value with the highest ballot among the promises, up to the first gap; what lies above a gap
/// was never committed and is discarded. `committed` is the highest committed mark among the promises.
///
/// Returns `None` when the promises contradict each other: a committed entry that none of them has (I5).
pub fn merge(promises: &[(RegionNo, &Fold)]) -> Option<Merged> {
    let committed = promises.iter().map(|(_, fold)| fold.committed).max()?;
    let with_snapshot = promises.iter().filter_map(|(region, fold)| Some((*region, fold.snapshot.clone()?)));
    let snapshot = with_snapshot.max_by_key(|(_, snapshot)| snapshot.sequence);
    let base = snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
    let mut merged = Merged { snapshot, settled: Vec::new(), committed, reappend: Vec::new() };
    let mut sequence = base.next();
    while let Some((region, accepted)) = newest_copy(promises, sequence, committed) {
        let list = if sequence <= committed { &mut merged.settled } else { &mut merged.reappend };
        list.push((sequence, region, accepted.clone()));
        sequence = sequence.next();
    }
    (sequence > committed).then_some(merged)
}

/// The copy with the highest ballot. Above the committed mark a copy of an older timeline than its path is in counts for
/// nothing: the promotion that began the new one has left it behind.
fn newest_copy<'a>(
    promises: &[(RegionNo, &'a Fold)],
    sequence: Sequence,
    committed: Sequence,
) -> Option<(RegionNo, &'a Accepted)> {
    let copies = promises.iter().filter_map(|(region, fold)| {
        let accepted = fold.log.get(&sequence)?;
        let counts = sequence <= committed || accepted.ballot.timeline() == fold.promised.timeline();
        counts.then_some((*region, accepted))
    });
    copies.max_by_key(|(_, accepted)| accepted.ballot)
}

/// The sets of regions of each of which a quorum must promise, as far as these folds tell: the one in force at their
/// highest committed mark, and every one that a later entry carries in its newest copy, since that entry may be committed
/// (I20).
///
/// `start` is a set that was in force once. A later one was committed by a quorum of it, so a quorum of promises from
/// `start` shows the later one.
pub fn needed_sets(start: &RegionSet, folds: &[(RegionNo, &Fold)]) -> Vec<RegionSet> {
    let committed = folds.iter().map(|(_, fold)| fold.committed).max().unwrap_or_default();
    let mut in_force = (Sequence(0), start);
    for (_, fold) in folds {
        if let Some(voters) = fold.voters.as_ref().filter(|_| fold.base() >= in_force.0) {
            in_force = (fold.base(), voters);
        }
    }
    let mut needed = Vec::new();
    for (_, fold) in folds {
        for (sequence, accepted) in &fold.log {
            let Some(voters) = &accepted.voters else { continue };
            // An older copy than the newest that a quorum shows was never committed.
            let newest = newest_copy(folds, *sequence, committed);
            if newest.is_none_or(|(_, newest)| newest.ballot != accepted.ballot) {
                continue;
            }
            if *sequence > committed {
                needed.push(voters.clone());
            } else if *sequence > in_force.0 {
                in_force = (*sequence, voters);
            }
        }
    }
    needed.push(in_force.1.clone());
    needed
}
