//! The invariants, on every state.

use brigade_index::{
    ids::{RegionNo, Sequence},
    journal::{Fold, Place},
    keys::Slot,
};

use crate::{
    object::{Content, content, in_snapshot},
    region::{Region, content_in},
    scenario::Scenario,
    state::State,
};

/// The first invariant that does not hold.
pub fn flaw(scenario: &Scenario, state: &State) -> Option<String> {
    let mut paths = Vec::new();
    for number in scenario.regions() {
        match &state.region(number).path {
            Ok(fold) => paths.push((number, fold)),
            Err(error) => return Some(format!("I3: the path of region {number} is broken: {error}")),
        }
    }
    paths.iter().find_map(|(number, fold)| path(state, *number, fold)).or_else(|| quorums(state, &paths))
}

/// A path claims only what is committed (I1, I2), and knows where its entries are.
fn path(state: &State, number: RegionNo, fold: &Fold) -> Option<String> {
    let contents: Vec<_> = (1..=fold.committed.0).map(|n| content_in(fold, Sequence(n)).unwrap_or_default()).collect();
    if !state.ghost.logs.values().any(|log| log.starts_with(&contents)) {
        return Some(format!("I2: region {number} says that {contents:?} is committed"));
    }
    let lost = fold
        .log
        .range(..=fold.committed)
        .find(|(sequence, accepted)| fold.extents.find(**sequence) != Some(Place::Journal(accepted.slot)));
    lost.map(|(sequence, _)| format!("I10: region {number} does not know where its entry {sequence} is"))
}

/// Every quorum alone holds everything committed, on its paths or in snapshots that it has (I6).
fn quorums(state: &State, paths: &[(RegionNo, &Fold)]) -> Option<String> {
    let voters: Vec<RegionNo> = state.ghost.in_force().iter().collect();
    let committed = state.ghost.log(state.ghost.newest());
    for mask in 0u32..1 << voters.len() {
        if mask.count_ones() as usize != state.ghost.in_force().quorum() {
            continue;
        }
        let of = |region: &RegionNo| voters.iter().position(|own| own == region).is_some_and(|at| mask >> at & 1 == 1);
        let quorum: Vec<_> = paths.iter().filter(|(region, _)| of(region)).copied().collect();
        for (expected, sequence) in committed.iter().zip(1..) {
            let found = found(state, &quorum, Sequence(sequence));
            if found != Some(*expected) {
                let regions: Vec<_> = quorum.iter().map(|(region, _)| region.0).collect();
                return Some(format!(
                    "I6: entry {sequence}, committed as {expected}, is {found:?} by regions {regions:?}"
                ));
            }
        }
    }
    None
}

/// What these regions say that an entry is.
fn found(state: &State, quorum: &[(RegionNo, &Fold)], sequence: Sequence) -> Option<Content> {
    let covered = quorum.iter().find_map(|(region, fold)| {
        let snapshot = fold.snapshot.as_ref().filter(|snapshot| snapshot.sequence >= sequence)?;
        Some((state.region(*region).has_snapshot(snapshot), in_snapshot(snapshot, sequence)))
    });
    if let Some((whole, content)) = covered {
        return whole.then_some(content);
    }
    let copies = quorum.iter().filter_map(|(_, fold)| fold.log.get(&sequence));
    copies.max_by_key(|accepted| accepted.ballot).map(|accepted| content(&accepted.section))
}

/// Slots of a region whose object may be deleted now.
pub fn deletable(region: &Region) -> Vec<Slot> {
    region.below.iter().filter(|slot| region.objects.contains_key(slot)).copied().collect()
}
