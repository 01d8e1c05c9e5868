//! The model that stateright explores.

use std::sync::Arc;

use brigade_index::ids::{RegionNo, Sequence};
use stateright::{Model, Property};

use crate::{
    check,
    ghost::Ghost,
    mutation::Mutation,
    node::{Leading, Node},
    object::snapshot,
    region::Region,
    scenario::{Deletions, Scenario, set},
    state::{Action, Reader, State},
    step::step,
    wedge,
};

/// A scenario to be explored.
#[derive(Clone, Debug)]
pub struct Exploration(pub Scenario);

/// Name of the property that stands for all invariants.
pub const SAFE: &str = "the invariants hold";
/// Name of the property that shows progress.
pub const PROGRESS: &str = "a second leader serves what the first had committed";

impl Exploration {
    /// The first state: before or behind the founding.
    fn first(&self) -> State {
        let scenario = &self.0;
        let mut state = State {
            regions: scenario.regions().map(|_| Arc::new(Region::default())).collect(),
            nodes: Vec::new(),
            reader: scenario.reader.map(|_| Arc::new(Reader { fold: None, shown: Vec::new() })),
            ghost: Arc::new(Ghost::new(set(&scenario.voters))),
            flaw: None,
            symmetric: scenario.symmetric,
        };
        if scenario.founded > 0 {
            state = step(scenario, &state, &Action::Stand).unwrap_or(state);
            // One after the other, so that the last of them decides.
            let regions = || scenario.regions().take(scenario.founded.into());
            for region in regions().chain(regions()) {
                while let Some(next) = wedge::deliver(scenario, &state, region)
                    .or_else(|| step(scenario, &state, &Action::Advance(0, region)))
                {
                    state = next;
                }
            }
            state = step(scenario, &state, &Action::Lead(0)).unwrap_or(state);
        }
        self.ahead(state)
    }

    /// Lets the first leader fill the regions that are ahead: everything is sent before it hears of anything, so that
    /// marks stay as far behind as the window lets them.
    fn ahead(&self, mut state: State) -> State {
        let scenario = &self.0;
        let ahead = || scenario.ahead.iter().copied().map(RegionNo);
        loop {
            let before = state.clone();
            let mut take = |action: Action| {
                let next = step(scenario, &state, &action);
                next.map(|next| state = next).is_some()
            };
            for region in ahead() {
                while take(Action::Send(0, region)) {}
            }
            for region in ahead() {
                while let Some(next) = wedge::deliver(scenario, &state, region) {
                    state = next;
                }
            }
            let Some(Node::Leading(leading)) = state.nodes.first().map(AsRef::as_ref) else { return state };
            for (region, slot) in leading.clone().flying.into_keys() {
                state = step(scenario, &state, &Action::Landed(0, region, slot)).unwrap_or(state);
            }
            while let Some(Node::Leading(leading)) = state.nodes.first().map(AsRef::as_ref)
                && !scenario.ahead.is_empty()
                && leading.serving
                && leading.reign.sealed().0 < scenario.entries
            {
                state = step(scenario, &state, &Action::Seal(0)).unwrap_or(state);
            }
            if state == before {
                return state;
            }
        }
    }

    fn leader(&self, state: &State, node: usize, leading: &Leading, actions: &mut Vec<Action>) {
        let scenario = &self.0;
        let reign = &leading.reign;
        if leading.serving && reign.sealed().0 < scenario.entries {
            actions.push(Action::Seal(node));
            let changes = scenario.changes.iter().enumerate();
            let changes = changes.filter(|(_, change)| !reign.is_changing() && *reign.voters() != set(change));
            actions.extend(changes.map(|(change, _)| Action::Change(node, change)));
        }
        for region in reign.regions() {
            if leading.can_send(region) {
                actions.push(Action::Send(node, region));
            }
            if leading.promises.contains_key(&region)
                && !leading.installs.contains_key(&region)
                && reign.committed() > Sequence(0)
            {
                let whole = state.region(region).has_snapshot(&snapshot(&leading.contents(reign.committed())));
                if whole || scenario.breaks(Mutation::InstallWithoutSnapshot) {
                    actions.push(Action::Install(node, region));
                } else if scenario.floors == 0 {
                    actions.push(Action::Snapshot(node, region));
                }
            }
        }
        for (region, slot) in leading.flying.keys() {
            let id = leading.flying[&(*region, *slot)];
            let store = state.region(*region);
            let there = store.objects.get(slot);
            let any = scenario.breaks(Mutation::AnyObjectIsOwn) && there.is_some();
            if any || store.has_landed(*slot, id) {
                actions.push(Action::Landed(node, *region, *slot));
            }
            if !any && there.is_some_and(|object| object.head.id != id) {
                actions.push(Action::Taken(node, *region, *slot));
            }
            if scenario.breaks(Mutation::OtherBytes) {
                actions.push(Action::OtherBytes(node, *region, *slot));
            }
        }
        self.truncation(state, node, leading, actions);
    }

    fn truncation(&self, state: &State, node: usize, leading: &Leading, actions: &mut Vec<Action>) {
        let scenario = &self.0;
        let used: usize = state
            .regions
            .iter()
            .map(|region| region.newest().map_or(0, |newest| newest.k as usize) + region.floors_flying.len())
            .sum();
        if used >= scenario.floors {
            return;
        }
        let committed = leading.reign.committed();
        let newest = snapshot(&leading.contents(committed));
        for region in leading.reign.regions().collect::<Vec<_>>() {
            let store = state.region(region);
            if committed > Sequence(0) && !store.has_snapshot(&newest) {
                actions.push(Action::Snapshot(node, region));
            }
            let above = store.newest().map_or(Sequence(0), |floor| floor.snapshot.sequence);
            for sequence in (above.0 + 1..=committed.0).map(Sequence) {
                let covered = snapshot(&leading.contents(sequence));
                if leading.cut_at(scenario, state, region, &covered).is_some() {
                    actions.push(Action::Cut(node, region, sequence));
                }
            }
        }
    }

    fn stores(&self, state: &State, actions: &mut Vec<Action>) {
        for region in self.0.regions() {
            let store = state.region(region);
            let free = store.flying.keys().filter(|(slot, _)| !store.objects.contains_key(slot));
            actions.extend(free.map(|(slot, id)| Action::Land(region, *slot, *id)));
            actions.extend(store.floors_flying.keys().map(|(k, writer)| Action::LandCut(region, *k, *writer)));
            let deletable = check::deletable(store);
            if store.is_prunable() && !matches!(self.0.deletions, Deletions::None) {
                actions.push(Action::Prune(region));
            }
            match self.0.deletions {
                Deletions::Together if !deletable.is_empty() => actions.push(Action::Delete(region, None)),
                Deletions::Each => {
                    actions.extend(deletable.into_iter().map(|slot| Action::Delete(region, Some(slot))));
                }
                _ => {}
            }
        }
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let scenario = &self.0;
        if state.flaw.is_some() {
            return;
        }
        self.stores(state, actions);
        for (at, node) in state.nodes.iter().enumerate() {
            match node.as_ref() {
                Node::Standing(standing) => {
                    actions.extend(scenario.regions().map(|region| Action::Advance(at, region)));
                    if scenario.patient && standing.decide(scenario).is_some() {
                        actions.push(Action::Lead(at));
                    }
                }
                Node::Leading(leading) => {
                    actions.extend(leading.rest.keys().map(|region| Action::Advance(at, *region)));
                    self.leader(state, at, leading, actions);
                }
                Node::Gone => {}
            }
        }
        if state.nodes.len() < scenario.attempts {
            actions.push(Action::Stand);
        }
        if let Some(reader) = &state.reader {
            match &reader.fold {
                Some(_) => actions.push(Action::Read),
                None => actions.push(Action::Start),
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = step(&self.0, state, &action)?;
        if self.0.wedge && next.flaw.is_none() {
            next.flaw = wedge::flaw(&self.0, &next);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |_, state: &State| state.flaw.is_none()),
            Property::sometimes(PROGRESS, |model: &Self, state: &State| {
                let first: Option<&u64> = state.ghost.served.first();
                state.ghost.served.len() > 1
                    && state.ghost.log(state.ghost.newest()).first().map(|c| u64::from(*c)) == first.copied()
                    && model.0.attempts > 1
            }),
        ]
    }

    fn format_action(&self, action: &Action) -> String {
        format!("{action:?}")
    }
}
