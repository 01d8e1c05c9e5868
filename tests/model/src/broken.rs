//! What a driver does that breaks a rule: see [`Mutation`].

use std::collections::BTreeMap;

use brigade_index::{
    ids::{RegionNo, Sequence},
    journal::{Candidate, Elected, Election, Fold, Promise, merge, needed_sets},
    region::RegionSet,
};

use crate::{
    mutation::Mutation,
    node::Leading,
    object::content,
    scenario::{Scenario, set},
};

/// The election's result by broken rules; `None` when its rules are whole.
pub fn decide(election: &Election, scenario: &Scenario) -> Option<Option<Option<Elected>>> {
    match scenario.mutation? {
        Mutation::SkipReappend => Some(election.decide().map(|elected| elected.map(without_reappend))),
        Mutation::HeldTooFar => Some(election.decide().map(|elected| {
            elected.map(|mut elected| {
                elected.promises.values_mut().for_each(|promise| hold_all(promise, elected.merged.committed));
                elected
            })
        })),
        Mutation::ForgetLaterSets => Some(decide_by(election, scenario, |start, _| vec![start], |_| {})),
        Mutation::InstallForgets => {
            Some(decide_by(election, scenario, |start, folds| needed_sets(&start, folds), forget))
        }
        _ => None,
    }
}

fn without_reappend(mut elected: Elected) -> Elected {
    let merged = &mut elected.merged;
    merged.settled.append(&mut merged.reappend);
    if let Some((last, ..)) = merged.settled.last() {
        merged.committed = merged.committed.max(*last);
    }
    elected
}

/// Makes a promise look as if all it has some copy of were known to be committed.
pub fn hold_all(promise: &mut Promise, start: Sequence) {
    let end = promise.fold.log.last_key_value().map_or(promise.fold.committed, |(last, _)| *last);
    promise.fold.committed = promise.fold.committed.max(end.min(start));
}

/// What is left of a path when a snapshot takes the place of all entries, not just of those that it covers.
fn forget(fold: &mut Fold) {
    if fold.snapshot.is_some() {
        let newest = fold.promised;
        fold.log.retain(|_, accepted| accepted.ballot == newest);
    }
}

/// An election decided by the driver itself.
fn decide_by(
    election: &Election,
    scenario: &Scenario,
    needed: impl Fn(RegionSet, &[(RegionNo, &Fold)]) -> Vec<RegionSet>,
    spoil: impl Fn(&mut Fold),
) -> Option<Option<Elected>> {
    let ballot = election.ballot()?;
    if scenario.promotion.is_some_and(|(attempt, _)| attempt as u64 + 1 == ballot.nonce) {
        return election.decide();
    }
    let candidate = |region| election.candidate(region);
    let promise = |region, part: &Candidate| {
        let mut fold = part.promise()?.clone();
        spoil(&mut fold);
        Some((region, Promise { fold, floor: part.floor_number() }))
    };
    let promises: BTreeMap<_, _> =
        scenario.regions().filter_map(|region| promise(region, candidate(region)?)).collect();
    let folds: Vec<_> = promises.iter().map(|(region, promise)| (*region, &promise.fold)).collect();
    let start = set(&scenario.voters);
    let has = |region| promises.contains_key(&region);
    if folds.is_empty() || !needed(start.clone(), &folds).iter().all(|set| set.has_quorum(has)) {
        return None;
    }
    let Some(merged) = merge(&folds) else { return Some(None) };
    let mut voters = vec![(Sequence(0), start)];
    let changes = merged.settled.iter().chain(&merged.reappend);
    voters.extend(changes.filter_map(|(sequence, _, accepted)| Some((*sequence, accepted.voters.clone()?))));
    let in_force = voters.iter().rposition(|(sequence, _)| *sequence <= merged.committed).unwrap_or(0);
    let voters = voters.split_off(in_force);
    Some(Some(Elected { ballot, promises, merged, voters, backwards: Vec::new() }))
}

/// Up to where a leader acknowledges by broken rules.
pub fn acknowledged(leading: &Leading, scenario: &Scenario) -> Sequence {
    let reign = &leading.reign;
    let sealed = (reign.committed().0 + 1..=reign.sealed().0).map(Sequence);
    let accepted = |region| reign.lane(region).map_or(Sequence(0), |lane| lane.accepted());
    let counts = |set: RegionSet, counts: &dyn Fn(RegionNo, Sequence) -> bool| {
        sealed.clone().take_while(|sequence| set.has_quorum(|region| counts(region, *sequence))).last()
    };
    let further = match scenario.mutation {
        Some(Mutation::OneRegionIsEnough) => scenario.regions().map(accepted).max(),
        Some(Mutation::CountOldCopies) => counts(reign.voters().clone(), &|region, sequence| {
            let old = leading.promises.get(&region).and_then(|promise| promise.fold.log.get(&sequence));
            let same = old.is_some_and(|old| content(&old.section) == leading.log[&sequence].content);
            same || accepted(region) >= sequence
        }),
        Some(Mutation::SingleQuorum) => {
            counts(leading.voters_behind(reign.sealed()), &|region, sequence| accepted(region) >= sequence)
        }
        _ => None,
    };
    reign.committed().max(further.unwrap_or_default())
}
