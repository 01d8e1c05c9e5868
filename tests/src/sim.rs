//! Whole clusters in simulation: the real nodes with their HTTP interfaces, without sockets, over simulated regional stores
//! and a simulated network, in one thread and virtual time.
//!
//! Everything is drawn from one seed: how many regions there are, latencies and faults of stores and network, what clients
//! send and when, which nodes are killed, stopped, paused or overtaken, which regions are away, added, replaced, wiped or
//! restored from an old copy. The same seed gives the same [`Trace`]; a run that fails can be had again, line by line:
//!
//! ```text
//! cargo run -p brigade-tests --bin simulate -- --from 17 --seeds 1 --trace
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `sim/world.rs`, `sim/weather.rs` | regions, nodes and network, and what they are usually like |
//! | `sim/region.rs`, `sim/link.rs` | a region's objects; a node's connection to them |
//! | `sim/node.rs`, `sim/gate.rs`, `sim/clock.rs` | nodes: dying, pausing, and being wrong about the time |
//! | `sim/network.rs` | requests between nodes |
//! | `sim/chaos.rs`, `sim/chaos/` | the trouble |
//! | `sim/clients.rs` | clients, which send and read at any node |
//! | `sim/queue.rs` | consumers of queue subscriptions |
//! | `sim/transactions.rs` | a client of transactions |
//! | `sim/kept.rs` | topics that do not keep everything, and their clients |
//! | `sim/traps.rs` | striking a node at a certain step |
//! | `sim/watch.rs` | what a region must have when something of it is deleted |
//! | `sim/sets.rs`, `sim/verify.rs` | the end: everything becomes whole, and every region alone tells the same |
//! | `sim/rest.rs` | what works in the background comes to rest and leaves nothing behind |
//!
//! [`crate::history`] judges what clients saw. What cannot be simulated honestly in one runtime: a paused node sends and
//! hears nothing, but its timers go on.

mod chaos;
mod clients;
mod clock;
mod gate;
mod kept;
mod link;
mod log;
mod network;
mod node;
mod queue;
mod region;
mod rest;
mod sets;
mod trace;
mod transactions;
mod traps;
mod verify;
mod watch;
mod weather;
mod world;

use std::{
    cell::RefCell,
    panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

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
const TROUBLE: Duration = Duration::from_secs(20);

/// How long the cluster is watched when nothing is to happen any more; one seed in eight is watched for long.
const IDLE: Duration = Duration::from_secs(60);
/// See [`IDLE`].
const IDLE_LONG: Duration = Duration::from_secs(600);

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
            // What Parquet asserts of damaged bytes is caught where it is called.
            if info.location().is_some_and(|at| at.file().contains("/parquet-")) {
                return;
            }
            PANICS.with_borrow_mut(|panics| panics.push(format!("panic: {info}")));
            before(info);
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a simulation to its end. It takes this thread, and virtual time only.
pub fn run(seed: u64) -> Report {
    run_at_pace(seed, false)
}

/// Does the same as [`run`], with pauses in real time, on which nothing may depend: the trace must be the same.
pub fn run_slowly(seed: u64) -> Report {
    run_at_pace(seed, true)
}

fn run_at_pace(seed: u64, slow: bool) -> Report {
    watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output needs nothing");
    let trace = runtime.block_on(async { Trace::start(slow) });
    let verdict = tracing::subscriber::with_default(log::Log(trace.clone()), || {
        let verdict = runtime.block_on(play(seed, trace.clone()));
        drop(runtime);
        verdict
    });
    let panics = PANICS.with_borrow_mut(std::mem::take);
    let verdict = if panics.is_empty() { verdict } else { Err(panics) };
    Report { seed, trace, verdict }
}

async fn play(seed: u64, trace: Trace) -> Result<Summary, Vec<String>> {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(random.random(), trace);
    let played = act(seed, &world, &mut random).await;
    world.end();
    let problems = world.problems();
    if problems.is_empty() {
        played
    } else {
        Err(problems.into_iter().chain(played.err().into_iter().flatten()).collect())
    }
}

async fn act(seed: u64, world: &World, random: &mut StdRng) -> Result<Summary, Vec<String>> {
    let one = |problem: String| vec![problem];
    (0..3).for_each(|_| _ = world.start_fresh(false));
    let kept = kept::topics(random);
    clients::prepare(world, &kept).await.map_err(one)?;
    world.network.set_loss(world.weather.loss);
    let founding = verify::founding(world).await.map_err(one)?;
    let stop = Stop::default();
    let queues = queue::queues(&world.recorder);
    let ledger = transactions::Ledger::default();
    let clients = clients::start(world, &queues, &kept, &ledger, random, &stop);
    tokio::time::timeout(TROUBLE, chaos::run(world, random)).await.ok();

    world.say("calm");
    world.calm();
    sets::as_wanted(world, random).await.map_err(one)?;
    verify::held(world).await.map_err(one)?;
    if random.random_bool(0.3) {
        chaos::ruin(world, random).await;
        world.calm();
        sets::as_wanted(world, random).await.map_err(one)?;
        verify::held(world).await.map_err(one)?;
    }
    stop.set();
    for client in clients {
        client.await.map_err(|error| one(format!("a client: {error}")))?.map_err(one)?;
    }
    sets::whole(world).await.map_err(one)?;
    world.calm();
    let first = world.read_all().await.map_err(one)?;
    // What is read must not depend on what these nodes have in memory.
    world.nodes().iter().for_each(|node| world.kill(node));
    (0..2).for_each(|_| _ = world.start_fresh(false));
    let second = world.read_all().await.map_err(one)?;
    if first != second {
        return Err(vec![format!("after a restart there is something else: {}", difference(&first, &second))]);
    }
    let summary = check(&world.recorder.history(), &second)?;
    kept::check_all(world, &kept).await?;
    transactions::finish(world, &queues[0], &ledger, &second).await?;
    queue::finish(world, &queues).await?;
    kept::finish(world, &kept).await?;
    let cut = rest::demand(world, random).await.map_err(one)?;
    sets::whole(world).await.map_err(one)?;
    let third = world.read_all().await.map_err(one)?;
    if second != third {
        return Err(vec![format!("once archived there is something else: {}", difference(&second, &third))]);
    }
    rest::quiet(world).await.map_err(one)?;
    verify::idle(world, if seed.is_multiple_of(8) { IDLE_LONG } else { IDLE }).await.map_err(one)?;
    verify::every_region_alone(world, &founding).await.map_err(one)?;
    rest::nothing_left(world, cut).await?;
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
