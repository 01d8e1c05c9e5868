//! Trouble for what works in the background: nodes are struck in the middle of it, its writes and deletions come late, and
//! runs of it are asked for.

use std::time::Duration;

use brigade_index::store::{
    Operation,
    fault::{Answer, Fault, Rule},
};
use rand::{RngExt, rngs::StdRng};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    super::{
        region::SimRegion,
        traps::{STEPS, Trap},
        world::{World, request},
    },
    pause, pick,
};

/// How long a trap stays when nobody steps into it.
const TRAP: Duration = Duration::from_secs(6);

/// Prefixes of what is written in the background.
const PREFIXES: [&str; 2] = ["archive", "journal"];

pub(super) async fn run(world: &World, mut random: StdRng) {
    loop {
        pause(&mut random, 100..2_500).await;
        match random.random_range(0..100) {
            0..45 => trap(world, &mut random).await,
            45..60 => late(world, &mut random).await,
            60..70 => deletions_fail(world, &mut random).await,
            _ => demand(world, &mut random).await,
        }
    }
}

/// F14: a node is struck at a step of snapshot, compaction, deletion or repair.
async fn trap(world: &World, random: &mut StdRng) {
    let Some(step) = pick(random, &STEPS) else { return };
    let then = if random.random_bool(0.5) { 0 } else { random.random_range(1..12) };
    let trap = Trap { step: *step, then, after: random.random_bool(0.5), kills: random.random_bool(0.7) };
    world.say(format_args!("a trap: {trap}"));
    world.traps.set(trap);
    let struck = timeout(TRAP, world.traps.sprung()).await;
    world.traps.clear();
    let Ok(struck) = struck else { return };
    let Some(node) = world.nodes().into_iter().find(|node| node.name == *struck) else { return };
    if trap.kills {
        world.kill(&node);
        if random.random_bool(0.8) {
            world.start(node.machine.clone(), false);
        }
    } else {
        world.say(format_args!("{node} is paused"));
        let most = if random.random_bool(0.2) { 20_000 } else { 4_000 };
        pause(random, 100..most).await;
        world.say(format_args!("{node} goes on"));
        node.gate.pause(false);
    }
}

/// F9: writes and deletions in a region arrive late, even after who sent them has given them up or is dead.
async fn late(world: &World, random: &mut StdRng) {
    let wanted = world.wanted();
    let Some(region) = pick(random, &wanted) else { return };
    let prefix = PREFIXES[random.random_range(0..PREFIXES.len())];
    world.say(format_args!("writes of {prefix} arrive late in region {region}"));
    let delay = Duration::from_millis(random.random_range(500..30_000));
    let rule = |operation| Rule::always(operation, Fault::Delay(delay)).under(prefix.into()).with_chance(0.3);
    besides(world, region, [Operation::Put, Operation::Delete].map(rule).into());
    pause(random, 500..5_000).await;
    world.say(format_args!("writes arrive in time in region {region}"));
    besides(world, region, Vec::new());
}

/// Deletions fail, whether they are carried out or not.
async fn deletions_fail(world: &World, random: &mut StdRng) {
    let wanted = world.wanted();
    let Some(region) = pick(random, &wanted) else { return };
    world.say(format_args!("deletions fail in region {region}"));
    let fail = |applied| Rule::always(Operation::Delete, Fault::Fail { applied, answer: Answer::Status(500) });
    let hang = Rule::always(Operation::Delete, Fault::Hang { applied: true }).with_chance(0.2);
    besides(world, region, vec![hang, fail(true).with_chance(0.5), fail(false)]);
    pause(random, 500..5_000).await;
    world.say(format_args!("deletions succeed in region {region}"));
    besides(world, region, Vec::new());
}

fn besides(world: &World, region: &SimRegion, rules: Vec<Rule>) {
    region.set_besides(rules);
    world.refresh(region);
}

/// A run is asked for at any node.
async fn demand(world: &World, random: &mut StdRng) {
    let Some(node) = world.any_node(random) else { return };
    let wait = random.random_range(0..3_000);
    let answer = node.request(request("POST", &format!("/v1/compactor/run?wait={wait}"), &Value::Null)).await;
    if let Ok((status, body)) = answer {
        let body = String::from_utf8_lossy(&body);
        world.trace("operator", format_args!("a run at {node}: {status} {body}"));
        if !matches!(status, 200 | 202 | 404 | 429 | 503) {
            world.problem(format_args!("a run of the compactor at {node}: {status} {body}"));
        }
    }
}
