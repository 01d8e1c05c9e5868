//! Stores and the network fail, for one node or for all.

use std::time::Duration;

use brigade_index::store::{
    Operation,
    fault::{Fault, Rule},
};
use rand::{RngExt, rngs::StdRng};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    super::{
        PARTITIONS,
        region::SimRegion,
        weather::{own_conflicts, storm},
        world::{World, request},
    },
    pause, pick,
};

pub(super) async fn run(world: &World, mut random: StdRng) {
    loop {
        pause(&mut random, 100..2_000).await;
        match random.random_range(0..100) {
            0..20 => away(world, &mut random).await,
            20..28 => slow(world, &mut random).await,
            28..34 => slow_in_turn(world, &mut random).await,
            34..44 => storms(world, &mut random).await,
            44..48 => full(world, &mut random).await,
            48..54 => hangs(world, &mut random).await,
            54..58 => conflicts(world, &mut random).await,
            58..74 => cut_off(world, &mut random).await,
            74..84 => partition(world, &mut random).await,
            84..88 => lossy(world, &mut random).await,
            _ => dark(world, &mut random).await,
        }
    }
}

fn any(world: &World, random: &mut StdRng) -> SimRegion {
    let wanted = world.wanted();
    wanted[random.random_range(0..wanted.len())].clone()
}

/// Nobody reaches a region.
async fn away(world: &World, random: &mut StdRng) {
    let region = any(world, random);
    world.say(format_args!("region {region} is away"));
    world.change_mood(&region, |mood| mood.away = true);
    pause(random, 100..8_000).await;
    world.say(format_args!("region {region} is back"));
    world.usual_mood(&region);
}

/// A region is ten times slower.
async fn slow(world: &World, random: &mut StdRng) {
    let region = any(world, random);
    world.say(format_args!("region {region} is slow"));
    make_slow(world, &region);
    pause(random, 500..8_000).await;
    world.say(format_args!("region {region} is as usual"));
    world.usual_mood(&region);
}

fn make_slow(world: &World, region: &SimRegion) {
    world.change_mood(region, |mood| {
        mood.latency.median *= 10;
        mood.latency.p99 *= 10;
    });
}

/// F3.
async fn slow_in_turn(world: &World, random: &mut StdRng) {
    world.say("regions are slow in turn");
    for region in world.wanted() {
        make_slow(world, &region);
        pause(random, 200..2_000).await;
        world.usual_mood(&region);
    }
}

/// F8, F20: most operations in a region fail, having been applied or not.
async fn storms(world: &World, random: &mut StdRng) {
    let region = any(world, random);
    world.say(format_args!("storm over region {region}"));
    let rules = storm(random);
    world.change_mood(&region, |mood| mood.rules = rules);
    pause(random, 200..6_000).await;
    world.say(format_args!("the storm over region {region} is over"));
    world.usual_mood(&region);
}

/// A store has no room.
async fn full(world: &World, random: &mut StdRng) {
    let region = any(world, random);
    world.say(format_args!("region {region} is full"));
    world.change_mood(&region, |mood| mood.full = true);
    pause(random, 200..5_000).await;
    world.say(format_args!("region {region} has room again"));
    world.usual_mood(&region);
}

/// A store takes requests and never answers.
async fn hangs(world: &World, random: &mut StdRng) {
    let region = any(world, random);
    let applied = random.random_bool(0.5);
    world.say(format_args!("region {region} hangs, having applied writes: {applied}"));
    let hang = |operation| Rule::always(operation, Fault::Hang { applied });
    let rules = [Operation::Put, Operation::Get, Operation::List].map(hang);
    world.change_mood(&region, |mood| mood.rules = rules.into());
    pause(random, 200..6_000).await;
    world.say(format_args!("region {region} hangs no more"));
    world.usual_mood(&region);
}

/// F8: a storm of conflicts with own writes, everywhere.
async fn conflicts(world: &World, random: &mut StdRng) {
    world.say("own writes conflict everywhere");
    for region in world.wanted() {
        world.change_mood(&region, |mood| mood.rules = own_conflicts(0.7));
    }
    pause(random, 200..4_000).await;
    world.say("own writes conflict no more");
    world.wanted().iter().for_each(|region| world.usual_mood(region));
}

/// F4: a node, mostly the leader, does not reach some regions, while others and clients do.
async fn cut_off(world: &World, random: &mut StdRng) {
    let leader = world.leader().map(|(node, ..)| node).filter(|_| random.random_bool(0.7));
    let Some(node) = leader.or_else(|| pick(random, &world.nodes()).cloned()) else { return };
    let mut regions = world.wanted();
    let keep = match random.random_range(0..3) {
        0 => 0,
        1 => 1.min(regions.len() - 1),
        _ => regions.len() - 1,
    };
    while regions.len() > regions.len().min(world.wanted().len() - keep) {
        regions.remove(random.random_range(0..regions.len()));
    }
    let links: Vec<_> = regions.iter().filter_map(|region| node.link(region.name().as_str())).collect();
    let names: Vec<_> = links.iter().map(ToString::to_string).collect();
    world.say(format_args!("cut off: {}", names.join(", ")));
    links.iter().for_each(|link| link.set_cut(true));
    pause(random, 200..6_000).await;
    world.say(format_args!("{node} is cut off no more"));
    links.iter().for_each(|link| link.set_cut(false));
}

/// F5: nodes do not reach each other, in one direction or both, while they reach the stores.
async fn partition(world: &World, random: &mut StdRng) {
    let (nodes, leader) = (world.nodes(), world.leader().map(|(node, ..)| node.machine.clone()));
    let machines: Vec<_> = nodes.iter().map(|node| node.machine.clone()).collect();
    let leader = leader.unwrap_or_default();
    let kind = random.random_range(0..3);
    let (says, cut): (_, fn(bool, bool) -> bool) = match kind {
        0 => ("nodes do not reach each other", |_, _| true),
        1 => ("nothing of the leader arrives at others", |from_leader, _| from_leader),
        _ => ("nothing of others arrives at the leader", |_, to_leader| to_leader),
    };
    world.say(says);
    for from in &machines {
        for to in machines.iter().filter(|to| *to != from && cut(*from == leader, **to == leader)) {
            world.network.cut(from, to);
        }
    }
    pause(random, 500..8_000).await;
    world.say("nodes reach each other");
    world.network.heal();
    world.network.set_loss(world.weather.loss);
}

async fn lossy(world: &World, random: &mut StdRng) {
    world.say("the network loses a third of all messages");
    world.network.set_loss(0.33);
    pause(random, 500..6_000).await;
    world.say("the network is as usual");
    world.network.set_loss(world.weather.loss);
}

/// All regions but one are away: nothing can be acknowledged, and what is committed can be read.
async fn dark(world: &World, random: &mut StdRng) {
    let Ok(_held) = world.regions_held.try_lock() else { return };
    let Some((leader, _, status)) = world.leader() else { return };
    let settled = status.change.is_none() && status.regions.iter().all(|region| region.votes);
    if status.voters.len() < 3 || !settled {
        return;
    }
    let Some(left) = pick(random, &status.regions).cloned() else { return };
    world.say(format_args!("it is dark: only region {} is there", left.name));
    let others: Vec<_> = world.regions().into_iter().filter(|region| *region.name() != left.name).collect();
    others.iter().for_each(|region| world.change_mood(region, |mood| mood.away = true));
    world.set_dark(true);
    sleep(Duration::from_millis(2_500)).await;
    if left.accepted >= status.committed && left.copies_missing == 0 && lock_ruined(world) {
        read_in_the_dark(world, &leader, left.name.as_str()).await;
    }
    pause(random, 0..4_000).await;
    world.set_dark(false);
    world.say("it is no longer dark");
    others.iter().for_each(|region| world.usual_mood(region));
}

fn lock_ruined(world: &World) -> bool {
    super::super::lock(&world.ruined).is_none()
}

/// What was committed before, the leader tells from the one region that is left.
async fn read_in_the_dark(world: &World, leader: &super::super::node::SimNode, left: &str) {
    let ballot = leader.leading().map(|(_, status)| status.ballot);
    let reaches = || leader.link(left).is_some_and(|link| !link.is_cut()) && !leader.gate.is_paused();
    if ballot.is_none() || !reaches() {
        return;
    }
    for partition in 0..PARTITIONS {
        let path = format!("/v1/topics/t/messages?partition={partition}&offset=0&max_messages=10");
        let answer = leader.request(request("GET", &path, &Value::Null)).await;
        let still = leader.leading().map(|(_, status)| status.ballot) == ballot && leader.is_up() && reaches();
        if let (Ok((status, body)), true) = (answer, still) {
            world.say(format_args!("{leader} reads partition {partition} in the dark: {status}"));
            if status != 200 {
                let body = String::from_utf8_lossy(&body);
                world.problem(format_args!("{leader} leads and does not read in the dark: {status} {body}"));
            }
        }
    }
}
