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
        IgnoreParents => Scenario { attempts: 3, floors: 2, copies: 2, entries: 3, reader: Some(1), ..cut },
        InstallUncommitted | InstallWithoutSnapshot => away,
        FloorTooEarly | FloorWithoutSnapshot => Scenario { floors: 1, ..three },
        SingleQuorum | ForgetLaterSets => {
            Scenario { regions: 2, founded: 2, entries: 3, changes: vec![vec![2]], ..one }
        }
    }
}

const ALL: [Mutation; 21] = [
    FillEnd,
    AnyObjectIsOwn,
    CountOldCopies,
    SkipReappend,
    OutOfOrder,
    MarkAboveEntry,
    TakeoverCarriesMark,
    OneRegionIsEnough,
    DeleteBeforeFloor,
    DeleteTakeovers,
    TrustFirstFloor,
    IgnoreParents,
    OtherBytes,
    InstallUncommitted,
    InstallForgets,
    InstallWithoutSnapshot,
    FloorTooEarly,
    FloorWithoutSnapshot,
    SingleQuorum,
    ForgetLaterSets,
    HeldTooFar,
];

#[test]
fn every_rule_is_needed() {
    let mut missed = Vec::new();
    for mutation in ALL {
        let outcome = run::walk(&scenario(mutation), Duration::from_secs(60), 1);
        let steps = outcome.flaw.as_ref().map_or(0, |(way, _)| way.len());
        let flaw = outcome.flaw.map(|(_, flaw)| flaw);
        println!(
            "{mutation:?} | {} | {steps} | {:.1} | {}",
            outcome.states,
            outcome.took.as_secs_f64(),
            flaw.as_deref().unwrap_or("-")
        );
        if flaw.is_none() {
            missed.push(mutation);
        }
    }
    assert_eq!(missed, [], "these were not noticed");
}

#[test]
fn whole_rules_stand_where_broken_ones_fall() {
    for mutation in ALL {
        let whole = Scenario { mutation: None, ..scenario(mutation) };
        let outcome = run::walk(&whole, Duration::from_millis(1_500), 7);
        assert!(outcome.flaw.is_none(), "{mutation:?}: {:?}", outcome.flaw.map(|(_, flaw)| flaw));
    }
}
