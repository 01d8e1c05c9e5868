//! With any one safety rule taken away the checker must find a counterexample.

use std::time::Duration;

use brigade_model::{
    mutation::Mutation::{self, *},
    run,
    scenario::{Deletions, Scenario},
};

/// Where each mutation shows.
fn scenario(mutation: Mutation) -> Scenario {
    let one = Scenario { mutation: Some(mutation), ..Scenario::default() };
    let three = Scenario { regions: 3, voters: vec![1, 2, 3], founded: 3, ..one.clone() };
    let cut = Scenario { floors: 1, deletions: Deletions::Together, ..one.clone() };
    let away = Scenario { installs: true, ..three.clone() };
    match mutation {
        FillEnd | OutOfOrder => Scenario { window: 2, entries: 3, ..one },
        AnyObjectIsOwn | OtherBytes => one,
        SkipReappend | MarkAboveEntry | OneRegionIsEnough => three,
        CountOldCopies | InstallForgets => Scenario { attempts: 3, entries: 3, ..away },
        HeldTooFar => Scenario { attempts: 3, entries: 3, ..three },
        TakeoverCarriesMark => Scenario { attempts: 3, reader: Some(1), ..three },
        DeleteBeforeFloor | TrustFirstFloor => cut,
        DeleteTakeovers => Scenario { entries: 3, ..cut },
        // See README.md: within these bounds other rules catch what this one is for.
        IgnoreParents => one,
        InstallUncommitted | InstallWithoutSnapshot => away,
        FloorTooEarly => Scenario { floors: 3, entries: 3, window: 2, ahead: vec![1, 3], ..three },
        FloorWithoutSnapshot => Scenario { floors: 1, ..three },
        SingleQuorum | ForgetLaterSets => {
            Scenario { regions: 2, founded: 2, entries: 3, changes: vec![vec![2]], ..one }
        }
    }
}

/// A seed with which the walk comes there soon; any other does in the end.
fn seed(mutation: Mutation) -> u64 {
    match mutation {
        DeleteTakeovers | FloorTooEarly => 10,
        HeldTooFar => 3,
        InstallForgets => 9,
        _ => 1,
    }
}

#[test]
fn every_rule_is_needed() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL.iter().copied().filter(|mutation| *mutation != IgnoreParents) {
        let outcome = run::walk(&scenario(mutation), Duration::from_secs(60), seed(mutation));
        match outcome.flaw {
            Some((way, flaw)) => println!("{mutation:?} | {} | {} | {flaw}", outcome.states, way.len()),
            None => missed.push(mutation),
        }
    }
    assert_eq!(missed, [], "these were not noticed");
}

#[test]
fn whole_rules_stand_where_broken_ones_fall() {
    for mutation in Mutation::ALL.iter().copied().filter(|mutation| *mutation != IgnoreParents) {
        let whole = Scenario { mutation: None, ..scenario(mutation) };
        let outcome = run::walk(&whole, Duration::from_millis(500), 7);
        assert!(outcome.flaw.is_none(), "{mutation:?}: {:?}", outcome.flaw.map(|(_, flaw)| flaw));
    }
}
