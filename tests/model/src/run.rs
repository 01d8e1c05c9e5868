//! Running a scenario: exhaustively, or by walking at random.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    model::{Exploration, PROGRESS, SAFE},
    scenario::Scenario,
    state::{Action, State},
    wedge,
};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// States met; in a walk, steps taken.
    pub states: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether there are no more states.
    pub exhausted: bool,
    /// The way to a state in which an invariant does not hold, and what is wrong there.
    pub flaw: Option<(Vec<(Action, State)>, String)>,
    /// Whether a second leader was seen to serve; in a walk, how many walks ended so.
    pub progress: usize,
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Shortest counterexamples; holds the whole frontier in memory.
    Breadth,
    /// Little memory.
    Depth,
}

/// Explores a scenario for at most this long.
pub fn check(scenario: &Scenario, order: Order, limit: Duration, threads: usize) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "this measures the checker, not what it checks")]
    let begun = Instant::now();
    let model = Exploration(scenario.clone());
    // With one thread the checker does not look at the time.
    let builder = model.checker().threads(threads.max(2)).timeout(limit).finish_when(HasDiscoveries::AnyFailures);
    match order {
        Order::Breadth => outcome(builder.spawn_bfs().join(), begun, limit),
        Order::Depth => outcome(builder.spawn_dfs().join(), begun, limit),
    }
}

fn outcome(checker: impl Checker<Exploration>, begun: Instant, limit: Duration) -> Outcome {
    let took = begun.elapsed();
    let states = checker.unique_state_count();
    let mut discoveries = checker.discoveries();
    let flaw = discoveries.remove(SAFE).map(|path| {
        let flaw = path.last_state().flaw.clone().unwrap_or_default();
        let steps = path.into_vec();
        let states = steps.iter().skip(1).map(|(state, _)| state.clone());
        let actions = steps.iter().filter_map(|(_, action)| action.clone());
        (actions.zip(states).collect(), flaw)
    });
    let exhausted = flaw.is_none() && took < limit;
    Outcome { states, took, exhausted, flaw, progress: discoveries.contains_key(PROGRESS).into() }
}

/// Steps of one walk.
const WALK: usize = 160;

/// Walks at random from the first state again and again. Equal seeds walk the same ways.
pub fn walk(scenario: &Scenario, limit: Duration, seed: u64) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "this measures the checker, not what it checks")]
    let begun = Instant::now();
    let model = Exploration(Scenario { wedge: false, ..scenario.clone() });
    let first = model.init_states().remove(0);
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut states, mut progress) = (0, 0);
    while begun.elapsed() < limit {
        let mut way = Vec::new();
        let mut state = first.clone();
        // Some walks begin attempts early, others late.
        let eagerness = [1.0, 0.2, 0.05, 0.02][rng.random_range(0..4)];
        for _ in 0..WALK {
            let Some((action, next)) = random_step(&model, &state, eagerness, &mut rng) else { break };
            states += 1;
            way.push((action, next.clone()));
            state = next;
            if state.flaw.is_some() {
                break;
            }
        }
        let flaw = state.flaw.clone().or_else(|| wedge::flaw(scenario, &state).filter(|_| scenario.wedge));
        progress += usize::from(state.ghost.served.len() > 1);
        if let Some(flaw) = flaw {
            return Outcome { states, took: begun.elapsed(), exhausted: false, flaw: Some((way, flaw)), progress };
        }
    }
    Outcome { states, took: begun.elapsed(), exhausted: false, flaw: None, progress }
}

fn random_step(model: &Exploration, state: &State, eagerness: f64, rng: &mut StdRng) -> Option<(Action, State)> {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    while !actions.is_empty() {
        let action = actions.swap_remove(rng.random_range(0..actions.len()));
        let late = matches!(action, Action::Stand) && !actions.is_empty() && !rng.random_bool(eagerness);
        if late {
            continue;
        }
        if let Some(next) = model.next_state(state, action.clone()) {
            return Some((action, next));
        }
    }
    None
}

/// A counterexample for people.
pub fn print(way: &[(Action, State)], flaw: &str) {
    for (number, (action, state)) in way.iter().enumerate() {
        println!("{:3}. {action:?}\n{state:?}", number + 1);
    }
    println!("{} steps: {flaw}", way.len());
}
