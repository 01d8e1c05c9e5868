//! Whether the protocol can go on: from a state, with nothing but one quorum of regions left and all others silent for
//! ever, a fresh attempt must become the leader and commit its first entry.

use brigade_index::{ids::RegionNo, region::RegionSet};

use crate::{
    node::Node,
    scenario::Scenario,
    state::{Action, State},
    step::step,
};

/// Lets one put land in a region, if any can.
pub fn deliver(scenario: &Scenario, state: &State, region: RegionNo) -> Option<State> {
    let store = state.region(region);
    let (slot, id) = *store.flying.keys().find(|(slot, _)| !store.objects.contains_key(slot))?;
    step(scenario, state, &Action::Land(region, slot, id))
}

/// The first quorum that is stuck, or the rule that broke while it went on.
pub fn flaw(scenario: &Scenario, state: &State) -> Option<String> {
    let voters: Vec<RegionNo> = state.ghost.in_force().iter().collect();
    (0u32..1 << voters.len()).filter(|mask| mask.count_ones() as usize == state.ghost.in_force().quorum()).find_map(
        |mask| {
            let quorum = (0..voters.len()).filter(|at| mask >> at & 1 == 1).map(|at| voters[at]).collect();
            RegionSet::new(quorum).and_then(|quorum| stuck(scenario, state, &quorum))
        },
    )
}

/// Attempts that may fail since a truncation mark moved: such a Takeover is void, and the next attempt counts.
const ATTEMPTS: usize = 3;

fn stuck(scenario: &Scenario, state: &State, quorum: &RegionSet) -> Option<String> {
    let alone = Scenario { wedge: false, installs: true, patient: false, promotion: None, ..scenario.clone() };
    let mut state = state.clone();
    state.symmetric = false;
    for _ in 0..ATTEMPTS {
        let node = state.nodes.len();
        state = step(&alone, &state, &Action::Stand)?;
        while let Some(next) = go_on(&alone, &state, node, quorum) {
            state = next;
            if state.flaw.is_some() {
                return state.flaw;
            }
            if matches!(state.nodes[node].as_ref(), Node::Leading(leading) if leading.serving) {
                return None;
            }
        }
    }
    let regions: Vec<_> = quorum.iter().map(|region| region.0).collect();
    Some(format!("stuck: regions {regions:?} alone cannot go on\n{state:?}"))
}

/// Something that the node does, or a region for it.
fn go_on(scenario: &Scenario, state: &State, node: usize, quorum: &RegionSet) -> Option<State> {
    let mine = |action: Action| step(scenario, state, &action);
    for region in quorum.iter() {
        let store = state.region(region);
        let own = store.flying.iter().find(|((slot, _), (object, _))| {
            object.head.ballot.nonce == node as u64 + 1 && !store.objects.contains_key(slot)
        });
        if let Some(next) = own.and_then(|((slot, id), _)| mine(Action::Land(region, *slot, *id))) {
            return Some(next);
        }
        if let Some(next) = mine(Action::Advance(node, region)) {
            return Some(next);
        }
        let Node::Leading(leading) = state.nodes[node].as_ref() else { continue };
        let heard = leading.flying.iter().find(|((own, slot), id)| *own == region && store.has_landed(*slot, **id));
        if let Some(next) = heard.and_then(|((_, slot), _)| mine(Action::Landed(node, region, *slot))) {
            return Some(next);
        }
        if leading.can_send(region) {
            return mine(Action::Send(node, region));
        }
        if leading.reign.upcoming(region).is_some() && !leading.installs.contains_key(&region) {
            // It holds less than anybody has as entries.
            let written = mine(Action::Snapshot(node, region)).unwrap_or_else(|| state.clone());
            if let Some(next) = step(scenario, &written, &Action::Install(node, region)) {
                return Some(next);
            }
        }
    }
    None
}
