//! The scenarios hold, as far as a test's time allows. README.md says what was explored in full.

use std::time::Duration;

use brigade_model::{
    run::{self, Order},
    scenario::Scenario,
    scenarios::{all, named},
};

#[test]
fn one_region_is_exhausted() {
    let scenario = Scenario { attempts: 2, wedge: false, ..named("one-region").unwrap() };
    let outcome = run::check(&scenario, Order::Breadth, Duration::from_secs(120), 2);
    assert!(outcome.flaw.is_none(), "{:?}", outcome.flaw);
    assert!(outcome.exhausted && outcome.progress > 0, "{} states", outcome.states);
}

#[test]
fn no_scenario_is_violated_soon() {
    for scenario in all().iter().filter(|scenario| scenario.quick) {
        let outcome = run::check(scenario, Order::Depth, Duration::from_secs(4), 2);
        assert!(outcome.flaw.is_none(), "{}: {:?}", scenario.name, outcome.flaw);
    }
}

#[test]
fn no_walk_meets_a_violation() {
    for scenario in all() {
        let outcome = run::walk(&scenario, Duration::from_secs(3), 1);
        assert!(outcome.flaw.is_none(), "{}: {:?}", scenario.name, outcome.flaw);
    }
}

#[test]
fn equal_seeds_walk_equal_ways() {
    let scenario =
        Scenario { mutation: Some(brigade_model::mutation::Mutation::SkipReappend), ..named("three-regions").unwrap() };
    let way = |seed| run::walk(&scenario, Duration::from_secs(60), seed).flaw.map(|(way, flaw)| (way.len(), flaw));
    assert_eq!(way(5), way(5));
    assert!(way(5).is_some());
}
