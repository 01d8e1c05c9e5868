//! Which changes of the regions are taken, and which are refused.

use std::collections::BTreeSet;

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};

use super::*;
use crate::{
    command::Command,
    format::Value,
    names::RegionName,
    state::{ShardState, tests::apply},
};

fn record(number: u16, name: &str) -> RegionRecord {
    let name = RegionName::new(name).unwrap();
    RegionRecord {
        number: RegionNo(number),
        url: format!("memory:///{name}"),
        name,
        region_id: format!("{number:032x}"),
    }
}

fn set(regions: &[u16]) -> RegionSet {
    RegionSet::new(regions.iter().copied().map(RegionNo).collect()).unwrap()
}

fn founded() -> ShardState {
    ShardState::founded(Regions::founded([record(0, "a"), record(1, "b"), record(2, "c")]))
}

fn add(state: &mut ShardState, number: u16, name: &str) -> Applied {
    apply(state, 0, Command::AddRegion(record(number, name)))
}

fn remove(state: &mut ShardState, number: u16) -> Applied {
    apply(state, 0, Command::RemoveRegion(RegionNo(number)))
}

fn set_voters(state: &mut ShardState, voters: &[u16]) {
    assert_eq!(apply(state, 0, Command::SetVoters(set(voters))), Ok(Outcome::Done));
}

fn numbers(state: &ShardState) -> Vec<u16> {
    state.regions.iter().map(|record| record.number.0).collect()
}

/// The command is refused, and changes nothing.
fn refused(state: &mut ShardState, command: Command) {
    let before = state.regions.clone();
    let outcome = apply(state, 0, command.clone());
    assert!(matches!(outcome, Err(Rejection::Malformed(_))), "{command:?}: {outcome:?}");
    assert_eq!(state.regions, before, "{command:?}");
}

#[test]
fn all_founding_regions_vote() {
    let state = founded();
    assert_eq!((numbers(&state), state.regions.voters()), (vec![0, 1, 2], Some(&set(&[0, 1, 2]))));
    assert_eq!(state.regions.next_number(), RegionNo(3));
    assert_eq!(state.regions.get(RegionNo(1)), Some(&record(1, "b")));
    assert_eq!(state.regions.get(RegionNo(3)), None);
    assert_eq!(Regions::founded([]), Regions::default());
    assert_eq!(Regions::default().voters(), None);
}

#[test]
fn a_region_that_is_added_does_not_vote_until_it_is_said() {
    let mut state = founded();
    assert_eq!(add(&mut state, 3, "d"), Ok(Outcome::Done));
    assert_eq!((numbers(&state), state.regions.voters()), (vec![0, 1, 2, 3], Some(&set(&[0, 1, 2]))));
    set_voters(&mut state, &[0, 1, 3]);
    assert_eq!(state.regions.voters(), Some(&set(&[0, 1, 3])));
    assert_eq!(numbers(&state), [0, 1, 3], "one that votes no more is gone");
}

#[test]
fn one_that_waits_to_vote_outlives_a_change_of_voters() {
    let mut state = founded();
    add(&mut state, 3, "d").unwrap();
    add(&mut state, 4, "e").unwrap();
    set_voters(&mut state, &[0, 1, 3]);
    assert_eq!(numbers(&state), [0, 1, 3, 4]);
}

#[test]
fn a_region_that_votes_cannot_be_removed() {
    let mut state = founded();
    refused(&mut state, Command::RemoveRegion(RegionNo(1)));
    add(&mut state, 3, "d").unwrap();
    assert_eq!(remove(&mut state, 3), Ok(Outcome::Done));
    assert_eq!(numbers(&state), [0, 1, 2]);
    refused(&mut state, Command::RemoveRegion(RegionNo(3)));
    refused(&mut state, Command::RemoveRegion(RegionNo(9)));
}

#[test]
fn a_number_is_never_given_twice_but_a_name_is_when_it_is_free() {
    let mut state = founded();
    refused(&mut state, Command::AddRegion(record(2, "d")));
    refused(&mut state, Command::AddRegion(record(3, "b")));
    add(&mut state, 3, "d").unwrap();
    remove(&mut state, 3).unwrap();
    refused(&mut state, Command::AddRegion(record(3, "d")));
    add(&mut state, 4, "d").unwrap();
    // "c" was lost, and comes back under its name as another region.
    set_voters(&mut state, &[0, 1, 4]);
    refused(&mut state, Command::AddRegion(record(2, "c")));
    add(&mut state, 7, "c").unwrap();
    assert_eq!((numbers(&state), state.regions.next_number()), (vec![0, 1, 4, 7], RegionNo(8)));
}

#[test]
fn the_last_number_is_not_given() {
    let mut state = founded();
    refused(&mut state, Command::AddRegion(record(u16::MAX, "d")));
    add(&mut state, u16::MAX - 1, "d").unwrap();
    remove(&mut state, u16::MAX - 1).unwrap();
    assert_eq!(state.regions.next_number(), RegionNo(u16::MAX));
    refused(&mut state, Command::AddRegion(record(u16::MAX, "d")));
    assert_eq!(Regions::founded([record(u16::MAX, "a")]).next_number(), RegionNo(u16::MAX));
}

fn command() -> impl Strategy<Value = Command> {
    let voters = btree_set((0..9u16).prop_map(RegionNo), 1..6);
    prop_oneof![
        (0..9u16, "[a-f]").prop_map(|(number, name)| Command::AddRegion(record(number, &name))),
        (0..9u16).prop_map(|number| Command::RemoveRegion(RegionNo(number))),
        voters.prop_map(|voters| Command::SetVoters(RegionSet::new(voters).unwrap())),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_numbers_and_names_are_unique_and_voters_are_obeyed(commands in vec(command(), 0..30)) {
        let mut state = founded();
        let mut given = BTreeSet::from([0, 1, 2]);
        for command in commands {
            let before = state.regions.clone();
            let outcome = apply(&mut state, 0, command.clone());
            match &command {
                Command::SetVoters(voters) => {
                    prop_assert_eq!(&outcome, &Ok(Outcome::Done), "the protocol has counted by it already");
                    prop_assert_eq!(state.regions.voters(), Some(voters));
                    // No region that votes from now on was dropped by it.
                    prop_assert!(before.iter().all(|known| !voters.contains(known.number)
                        || state.regions.get(known.number) == Some(known)));
                }
                Command::AddRegion(record) if outcome.is_ok() => {
                    prop_assert!(given.insert(record.number.0), "{} was given before", record.number);
                }
                Command::RemoveRegion(number) if outcome.is_ok() => {
                    prop_assert!(!before.voters().unwrap().contains(*number));
                    prop_assert_eq!(state.regions.get(*number), None);
                }
                _ => {}
            }
            if outcome.is_err() {
                prop_assert_eq!(&state.regions, &before);
            }
            prop_assert!(state.regions.next_number() >= before.next_number());
            prop_assert!(state.regions.iter().all(|known| known.number < state.regions.next_number()));
            let names: BTreeSet<_> = state.regions.iter().map(|known| known.name.clone()).collect();
            prop_assert_eq!(names.len(), state.regions.iter().len());
        }
    }
}

/// A leader gives a region the next number and proposes both changes one behind the other; marks are not state.
#[test]
fn one_entry_may_add_a_region_and_let_it_vote() {
    let mut state = founded();
    let mark =
        crate::region::Mark { region: RegionNo(3), ballot: crate::ids::Ballot::default(), sequence: state.applied };
    let commands = vec![Command::AddRegion(record(3, "d")), Command::SetVoters(set(&[0, 1, 3]))];
    let value = Value { time_ms: 1, commands, marks: vec![mark] };
    assert_eq!(value.voters(), Some(&set(&[0, 1, 3])));
    let (outcomes, touched) = state.apply(&value, state.applied.next(), 100);
    assert_eq!((outcomes, touched), (vec![Ok(Outcome::Done); 2], Vec::new()));
    assert_eq!(numbers(&state), [0, 1, 3]);
    let plain = Value { commands: vec![Command::RemoveRegion(RegionNo(3))], ..value };
    assert_eq!(plain.voters(), None);
}
