//! The scenarios by name.

use crate::scenario::{Deletions, Scenario};

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let mut all = one_region();
    all.extend(three_regions());
    all.extend(changing());
    all
}

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn one_region() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "one-region",
            about: "one region, three ballots, two entries, window two, puts that land twice",
            attempts: 3,
            entries: 2,
            window: 2,
            copies: 2,
            wedge: true,
            quick: true,
            ..Scenario::default()
        },
        Scenario {
            name: "one-region-truncation",
            about: "one region, two ballots, a truncation mark, deletion of all before it, puts that land twice, a reader",
            attempts: 2,
            entries: 2,
            copies: 2,
            floors: 1,
            deletions: Deletions::Together,
            reader: Some(1),
            wedge: true,
            quick: true,
            ..Scenario::default()
        },
        Scenario {
            name: "one-region-zombie",
            about: "one region, three ballots, two truncation marks, deletion in any order: late puts on deleted slots",
            attempts: 3,
            entries: 2,
            copies: 2,
            floors: 2,
            deletions: Deletions::Each,
            ..Scenario::default()
        },
        Scenario {
            name: "one-region-zombie-reader",
            about: "one region, three ballots, two truncation marks, deletion together, a reader",
            attempts: 3,
            entries: 2,
            copies: 2,
            floors: 2,
            deletions: Deletions::Together,
            reader: Some(1),
            ..Scenario::default()
        },
    ]
}

fn three_regions() -> Vec<Scenario> {
    let three = Scenario { regions: 3, voters: vec![1, 2, 3], founded: 3, symmetric: true, ..Scenario::default() };
    vec![
        Scenario {
            name: "three-regions",
            about: "three regions, two ballots, two entries, window one",
            quick: true,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-patient",
            about: "the same, and leaders may wait for all three promises",
            patient: true,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-window",
            about: "three regions, two ballots, three entries, window two",
            entries: 3,
            window: 2,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-three-ballots",
            about: "three regions, three ballots, one entry",
            attempts: 3,
            entries: 1,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-three-ballots-two-entries",
            about: "three regions, three ballots, two entries",
            attempts: 3,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-install",
            about: "three regions, three ballots, two entries, snapshots in place of entries for regions that were away",
            attempts: 3,
            installs: true,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-cut",
            about: "three regions, two ballots, three entries, one truncation mark; two of them hold all at the start",
            entries: 3,
            window: 2,
            floors: 1,
            ahead: vec![1, 3],
            ..three.clone()
        },
        Scenario {
            name: "three-regions-away",
            about: "three regions, two ballots, three entries; a region that was away gets a snapshot in place of entries",
            entries: 3,
            window: 2,
            installs: true,
            ahead: vec![1, 3],
            ..three.clone()
        },
        Scenario {
            name: "three-regions-truncation",
            about: "three regions, three ballots, two entries, one truncation mark, snapshots that reach only some",
            attempts: 3,
            floors: 1,
            deletions: Deletions::Together,
            ..three.clone()
        },
        Scenario {
            name: "three-regions-all",
            about: "three regions, four ballots, four entries, window two, truncation, installs, a reader, marks; for walks",
            attempts: 4,
            entries: 5,
            window: 2,
            copies: 2,
            floors: 3,
            deletions: Deletions::Each,
            installs: true,
            reader: Some(1),
            marks: true,
            patient: true,
            symmetric: false,
            wedge: true,
            ..three
        },
    ]
}

fn changing() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "voters-grow",
            about: "one region that votes, two that learn, a change to all three, two ballots",
            regions: 3,
            voters: vec![1],
            founded: 3,
            entries: 3,
            changes: vec![vec![1, 2, 3]],
            ..Scenario::default()
        },
        Scenario {
            name: "voters-replace",
            about: "three regions that vote, a fourth takes the place of the third, two ballots",
            regions: 4,
            voters: vec![1, 2, 3],
            founded: 4,
            entries: 2,
            changes: vec![vec![1, 2, 4]],
            ..Scenario::default()
        },
        Scenario {
            name: "voters-move",
            about: "one region that votes hands over to another, three ballots",
            regions: 2,
            voters: vec![1],
            founded: 2,
            attempts: 3,
            entries: 3,
            changes: vec![vec![2], vec![1, 2]],
            quick: true,
            ..Scenario::default()
        },
        Scenario {
            name: "voters-all",
            about: "four regions, four ballots, changes between sets of one and three, truncation, installs; for walks",
            regions: 4,
            voters: vec![1],
            founded: 3,
            attempts: 4,
            entries: 6,
            window: 2,
            floors: 2,
            deletions: Deletions::Together,
            installs: true,
            marks: true,
            changes: vec![vec![1, 2, 3], vec![1, 2, 4], vec![2]],
            ..Scenario::default()
        },
        Scenario {
            name: "promotion",
            about: "the home region votes, another learns and is promoted; the old home returns; three ballots",
            regions: 2,
            voters: vec![1],
            founded: 2,
            attempts: 3,
            entries: 3,
            promotion: Some((1, 2)),
            quick: true,
            ..Scenario::default()
        },
        Scenario {
            name: "promotion-all",
            about: "a home and two that learn, four ballots, window two, a reader at home; for walks",
            regions: 3,
            voters: vec![1],
            founded: 3,
            attempts: 4,
            entries: 5,
            window: 2,
            reader: Some(1),
            promotion: Some((2, 2)),
            marks: true,
            ..Scenario::default()
        },
    ]
}
