//! The trouble: nodes die, stop, are overtaken and cut off, and stores fail, at moments drawn from the seed.

use std::time::Duration;

use brigade_index::store::{
    Operation,
    fault::{Answer, Fault, Rule},
};
use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use super::world::World;

/// Makes trouble for ever.
pub(super) async fn run(world: &World, mut random: StdRng) {
    loop {
        pause(&mut random, 50..1_500).await;
        world.inspect();
        match random.random_range(0..100) {
            0..30 => crash(world, &mut random).await,
            30..50 => overtake(world, &mut random).await,
            50..62 => cut_off_and_overtake(world, &mut random).await,
            62..72 => stop(world).await,
            72..80 => outage(world, &mut random).await,
            80..88 => storm(world, &mut random).await,
            88..92 => full(world, &mut random).await,
            _ => snapshot(world),
        }
    }
}

async fn pause(random: &mut StdRng, ms: std::ops::Range<u64>) {
    sleep(Duration::from_millis(random.random_range(ms))).await;
}

/// F1: the leader dies at any moment; another starts, at once or later.
async fn crash(world: &World, random: &mut StdRng) {
    world.kill_newest();
    if random.random_bool(0.5) {
        pause(random, 0..1_000).await;
    }
    let _ = world.start_node().await;
}

/// A second node takes over while the first goes on for a while.
async fn overtake(world: &World, random: &mut StdRng) {
    let Some(old) = world.newest() else { return };
    world.say(format_args!("{} is overtaken", old.name));
    let _ = world.start_node().await;
    pause(random, 0..3_000).await;
    world.kill(&old);
}

/// F2, F4: the leader is cut off from its store with writes in flight, is overtaken, and comes back.
async fn cut_off_and_overtake(world: &World, random: &mut StdRng) {
    let Some(old) = world.newest() else { return };
    world.say(format_args!("{} is cut off", old.name));
    old.faults.set_unreachable(true);
    pause(random, 0..2_000).await;
    let _ = world.start_node().await;
    pause(random, 0..2_000).await;
    world.say(format_args!("{} is back", old.name));
    old.faults.set_unreachable(false);
    pause(random, 0..4_000).await;
    world.kill(&old);
}

/// An orderly end and a new start.
async fn stop(world: &World) {
    let Some(old) = world.newest() else { return };
    world.say(format_args!("{} is told to stop", old.name));
    let orderly = old.stop().await;
    world.say(format_args!("{} has stopped{}", old.name, if orderly { "" } else { ", not in time" }));
    world.forget(&old);
    let _ = world.start_node().await;
}

/// The store cannot be reached.
async fn outage(world: &World, random: &mut StdRng) {
    let Some(node) = world.newest() else { return };
    world.say(format_args!("the store of {} is away", node.name));
    node.faults.set_unreachable(true);
    pause(random, 100..6_000).await;
    node.faults.set_unreachable(false);
    world.say("the store is back");
}

/// F8, F20: most writes fail, having been applied or not.
async fn storm(world: &World, random: &mut StdRng) {
    let Some(node) = world.newest() else { return };
    world.say(format_args!("storm over {}", node.name));
    for (answer, chance) in [(503, 0.3), (429, 0.2), (500, 0.2)] {
        let fault = Fault::Fail { applied: random.random_bool(0.5), answer: Answer::Status(answer) };
        node.faults.add(Rule::always(Operation::Put, fault).with_chance(chance));
    }
    pause(random, 200..4_000).await;
    world.usual_weather(&node.faults);
    world.say("the storm is over");
}

/// The disk is full.
async fn full(world: &World, random: &mut StdRng) {
    let Some(node) = world.newest() else { return };
    world.say(format_args!("the store of {} is full", node.name));
    node.faults.set_full(true);
    pause(random, 200..3_000).await;
    node.faults.set_full(false);
    world.say("the store has room again");
}

/// A snapshot at any moment, under whatever comes next.
fn snapshot(world: &World) {
    let Some(node) = world.newest() else { return };
    let world = world.clone();
    tokio::spawn(async move {
        let Ok(leading) = node.node.seat.lead() else { return };
        let written = leading.shard.snapshot().await;
        let outcome = written.map_or_else(|error| error.to_string(), |sequence| format!("up to {sequence}"));
        world.say(format_args!("snapshot of {}: {outcome}", node.name));
    });
}
