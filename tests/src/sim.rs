//! Whole nodes in simulation: the real node and HTTP interface, without sockets, on a simulated store, in one thread and
//! virtual time.
//!
//! Everything is drawn from one seed: latencies and faults of the store, what clients send and when, and when nodes are
//! killed, stopped or overtaken. The same seed gives the same [`Trace`]; a run that fails can be had again, line by line:
//!
//! ```text
//! cargo run -p brigade-tests --bin simulate -- --from 17 --seeds 1 --trace
//! ```
//!
//! [`run`] sets the stage, `sim/chaos.rs` makes the trouble, `sim/clients.rs` sends and reads, `sim/store.rs` keeps
//! objects while nodes die, and [`crate::history`] judges.

mod chaos;
mod clients;
mod node;
mod store;
mod trace;
mod world;

use std::{cell::RefCell, panic, sync::Once, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
pub use trace::Trace;
use world::World;

use crate::{
    history::{Stored, Summary, check},
    load::Stop,
};

/// Partitions of the topic in the simulation.
const PARTITIONS: u64 = 3;

/// How long there is trouble, in virtual time.
const TROUBLE: Duration = Duration::from_secs(15);

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Everything that happened.
    pub trace: Trace,
    /// Figures, or everything that was wrong.
    pub verdict: Result<Summary, Vec<String>>,
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A panic in a task of a node would go unnoticed: the runtime catches it.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(format!("panic: {info}")));
            before(info);
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
}

/// Runs a simulation to its end. It takes this thread, and virtual time only.
pub fn run(seed: u64) -> Report {
    watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output needs nothing");
    let trace = runtime.block_on(async { Trace::start() });
    let verdict = runtime.block_on(play(seed, trace.clone()));
    drop(runtime);
    let panics = PANICS.with_borrow_mut(std::mem::take);
    let verdict = if panics.is_empty() { verdict } else { Err(panics) };
    Report { seed, trace, verdict }
}

async fn play(seed: u64, trace: Trace) -> Result<Summary, Vec<String>> {
    let one = |problem: String| vec![problem];
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(random.random(), trace);
    world.start_node().await.map_err(one)?;
    clients::prepare(&world).await.map_err(one)?;
    let stop = Stop::default();
    let clients = clients::start(&world, &mut random, &stop);
    tokio::time::timeout(TROUBLE, chaos::run(&world, StdRng::seed_from_u64(random.random()))).await.ok();

    world.say("calm");
    world.calm();
    world.start_node().await.map_err(one)?;
    world.kill_all_but_newest();
    stop.set();
    for client in clients {
        client.await.map_err(|error| one(format!("a client: {error}")))?.map_err(one)?;
    }
    let first = world.read_all().await.map_err(one)?;
    // What is read must not depend on what this node has in memory.
    world.kill_newest();
    world.start_node().await.map_err(one)?;
    let second = world.read_all().await.map_err(one)?;
    if first != second {
        return Err(vec![format!("after a restart there is something else: {}", difference(&first, &second))]);
    }
    let summary = check(&world.recorder.history(), &second)?;
    world.say(format!("{summary:?}"));
    Ok(summary)
}

fn difference(first: &[Stored], second: &[Stored]) -> String {
    let at = first.iter().zip(second).position(|(a, b)| a != b).unwrap_or(first.len().min(second.len()));
    format!(
        "{} and {} messages, first difference {:?} / {:?}",
        first.len(),
        second.len(),
        first.get(at),
        second.get(at)
    )
}
