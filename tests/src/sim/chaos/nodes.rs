//! Nodes die, stop, start, take over, are paused, and lose their sense of time.

use std::sync::Arc;

use rand::{RngExt, rngs::StdRng};

use super::{
    super::{
        node::SimNode,
        world::{SKEW_MS, World},
    },
    pause, pick,
};

/// Nodes that there are when nothing happens to them, at least and at most.
const NODES: std::ops::RangeInclusive<usize> = 2..=4;

pub(super) async fn run(world: &World, mut random: StdRng) {
    loop {
        pause(&mut random, 200..3_000).await;
        world.inspect();
        match random.random_range(0..100) {
            0..22 => crash(world, &mut random, true).await,
            22..30 => crash(world, &mut random, false).await,
            30..38 => stop(world, &mut random).await,
            38..50 => usurp(world, &mut random).await,
            50..54 => five_challengers(world, &mut random).await,
            54..70 => freeze(world, &mut random).await,
            70..78 => clock_jumps(world, &mut random),
            78..84 => _ = world.start_fresh(false),
            _ => snapshot(world),
        }
        keep(world, &mut random);
    }
}

/// Starts nodes when there are too few, kills some when there are too many.
fn keep(world: &World, random: &mut StdRng) {
    while world.nodes().len() < *NODES.start() {
        world.start_fresh(false);
    }
    while world.nodes().len() > *NODES.end() {
        let Some(node) = pick(random, &world.nodes()).cloned() else { return };
        world.kill(&node);
    }
}

fn leader_or_any(world: &World, random: &mut StdRng) -> Option<Arc<SimNode>> {
    world.leader().map(|(node, ..)| node).or_else(|| pick(random, &world.nodes()).cloned())
}

/// F1: a node dies at any moment. Its machine starts it again, at once or later, or never.
async fn crash(world: &World, random: &mut StdRng, leader: bool) {
    let node = if leader { leader_or_any(world, random) } else { pick(random, &world.nodes()).cloned() };
    let Some(node) = node else { return };
    world.kill(&node);
    match random.random_range(0..3) {
        0 => {}
        1 => {
            pause(random, 0..3_000).await;
            world.start(node.machine.clone(), false);
        }
        _ => _ = world.start(node.machine.clone(), false),
    }
}

/// An orderly end and a new start. Clients go elsewhere from its beginning on.
async fn stop(world: &World, random: &mut StdRng) {
    let Some(node) = leader_or_any(world, random) else { return };
    world.say(format_args!("{node} is told to stop"));
    world.forget(&node);
    let stopping = tokio::spawn({
        let (world, node) = (world.clone(), node.clone());
        async move {
            let orderly = node.stop().await;
            world.say(format_args!("{node} has stopped{}", if orderly { "" } else { ", not in time" }));
        }
    });
    // A failure to stop is a panic, which is seen elsewhere.
    let _ = stopping.await;
    world.start(node.machine.clone(), false);
}

/// A node takes over from a leader that lives.
async fn usurp(world: &World, random: &mut StdRng) {
    world.start_fresh(true);
    pause(random, 0..2_000).await;
}

/// F6.
async fn five_challengers(world: &World, random: &mut StdRng) {
    world.say("five challengers at once");
    for _ in 0..5 {
        world.start_fresh(true);
    }
    pause(random, 500..5_000).await;
}

/// F2: a node does not run for a while, with writes in flight.
async fn freeze(world: &World, random: &mut StdRng) {
    let Some(node) = leader_or_any(world, random) else { return };
    world.say(format_args!("{node} is paused"));
    node.gate.pause(true);
    let most = if random.random_bool(0.2) { 30_000 } else { 6_000 };
    pause(random, 100..most).await;
    world.say(format_args!("{node} goes on"));
    node.gate.pause(false);
}

/// F10.
fn clock_jumps(world: &World, random: &mut StdRng) {
    let Some(node) = leader_or_any(world, random) else { return };
    let by = random.random_range(-SKEW_MS..SKEW_MS);
    world.jump(&node, by);
}

/// A snapshot at any moment, under whatever comes next.
fn snapshot(world: &World) {
    let Some((node, shard, _)) = world.leader() else { return };
    let world = world.clone();
    world.say(format_args!("{node} is to write a snapshot"));
    tokio::spawn(async move {
        let written = shard.snapshot().await;
        let outcome = written.map_or_else(|error| error.to_string(), |sequence| format!("up to {sequence}"));
        world.say(format_args!("snapshot of {node}: {outcome}"));
    });
}
