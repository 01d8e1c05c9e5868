//! What a leader starts from, given the promises of a majority.

use super::fold::{Accepted, Fold};
use crate::{format::SnapshotRef, ids::Sequence};

/// The start of a reign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The snapshot to start from, and the promise (by index) that has it.
    pub snapshot: Option<(usize, SnapshotRef)>,
    /// Entries after the snapshot up to [`Self::committed`], each with the promise that has it.
    pub settled: Vec<(Sequence, usize, Accepted)>,
    /// All entries up to here are known to be committed.
    pub committed: Sequence,
    /// Entries to be appended again under the new ballot, in order.
    pub reappend: Vec<(Sequence, usize, Accepted)>,
}

/// For each sequence the value with the highest ballot among the promises, up to the first gap; what lies above a gap
/// was never committed and is discarded. `committed` is the highest committed mark among the promises.
///
/// Returns `None` when the promises contradict each other: a committed entry that none of them has (I5).
pub fn merge(promises: &[Fold]) -> Option<Merged> {
    let committed = promises.iter().map(|fold| fold.committed).max()?;
    let with_snapshot = promises.iter().enumerate().filter_map(|(at, fold)| Some((at, fold.snapshot.clone()?)));
    let snapshot = with_snapshot.max_by_key(|(_, snapshot)| snapshot.sequence);
    let base = snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
    let mut merged = Merged { snapshot, settled: Vec::new(), committed, reappend: Vec::new() };
    let mut sequence = base.next();
    loop {
        let copies = promises.iter().enumerate().filter_map(|(at, fold)| Some((at, fold.log.get(&sequence)?)));
        let Some((at, accepted)) = copies.max_by_key(|(_, accepted)| accepted.ballot) else { break };
        let list = if sequence <= committed { &mut merged.settled } else { &mut merged.reappend };
        list.push((sequence, at, accepted.clone()));
        sequence = sequence.next();
    }
    (sequence > committed).then_some(merged)
}
