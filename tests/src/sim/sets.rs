//! Asking for a set of regions, as an operator does, and waiting until all of them have everything.

use std::time::Duration;

use brigade_index::store::{
    Operation,
    fault::{Fault, Rule},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    lock,
    region::SimRegion,
    world::{World, regions_body, request},
};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(300);

/// How long the regions may take to become whole once all trouble has ended, in questions.
const PATIENCE: u32 = 600;

/// How long a region that lost what it held may go unnoticed after a takeover, in questions.
const NOTICE: u32 = 200;

/// Asks any node for these regions, until they are what the cluster has.
pub(super) async fn change_to(world: &World, wanted: &[SimRegion]) -> String {
    let mut random = StdRng::seed_from_u64(wanted.len() as u64);
    let mut before = String::new();
    loop {
        let Some(node) = world.any_node(&mut random) else {
            sleep(PAUSE).await;
            continue;
        };
        let answer = node.request(request("PUT", "/v1/regions", &regions_body(wanted))).await;
        let says = match &answer {
            Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(body)),
            Err(_) => "no answer".to_owned(),
        };
        if says != before {
            world.trace("operator", format_args!("{node}: {says}"));
            before.clone_from(&says);
        }
        match answer {
            Ok((200, _)) => return says,
            Ok((202 | 400 | 409 | 503, _)) | Err(_) => {}
            Ok(_) => world.problem(format_args!("a change of the regions: {says}")),
        }
        sleep(PAUSE).await;
    }
}

/// After all trouble: a ruined region is noticed and replaced, and the regions are those that are wanted.
pub(super) async fn as_wanted(world: &World, random: &mut StdRng) -> Result<(), String> {
    let ruined = lock(&world.ruined).take();
    if let Some(ruined) = ruined {
        is_refused(world, &ruined).await?;
        let mut wanted = world.wanted();
        wanted.retain(|region| region.name() != ruined.name());
        wanted.push(world.add_region(random));
        wanted.iter().for_each(SimRegion::calm);
        world.set_wanted(wanted);
        damage_reads(world);
    }
    let wanted = world.wanted();
    let changed = tokio::time::timeout(PAUSE * PATIENCE, change_to(world, &wanted)).await;
    // Not before: a node that is told of new regions only founds another cluster.
    world.tell(wanted.clone());
    // A node that was told of none of them cannot find them.
    for node in world.nodes() {
        let told = lock(&node.told).clone();
        if !told.iter().any(|told| wanted.iter().any(|region| region.name() == told.name())) {
            world.kill(&node);
            world.start(node.machine.clone(), false);
        }
    }
    changed.map_err(|_| {
        let names: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        format!("the regions do not become {}: {}", names.join(", "), regions(world))
    })?;
    Ok(())
}

/// Archive files are read damaged now and then for a while: what the new region is given must be checked on the way.
fn damage_reads(world: &World) {
    let wanted = world.wanted();
    if wanted.len() < 3 {
        return;
    }
    world.say("archive files are read damaged");
    for region in wanted {
        let flip = Rule::always(Operation::Get, Fault::Flip).with_chance(0.1).under("archive".into());
        region.set_besides(vec![flip]);
        world.refresh(&region);
    }
}

/// Waits until every region has everything, when nothing is published any more.
pub(super) async fn whole(world: &World) -> Result<(), String> {
    for _ in 0..PATIENCE {
        let list = world.insist("GET", "/v1/regions", &Value::Null).await?;
        let all = list["regions"].as_array().cloned().unwrap_or_default();
        let whole = |region: &Value| {
            let behind = &region["shards"][0]["behind_entries"];
            region["state"] == "in_sync" && region["votes"] == true && *behind == 0
        };
        if list["change"].is_null() && all.len() == world.wanted().len() && all.iter().all(whole) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Err(format!("the regions do not become whole: {}", regions(world)))
}

/// The next leader refuses a region that lost what it held.
async fn is_refused(world: &World, ruined: &SimRegion) -> Result<(), String> {
    if let Some((leader, ..)) = world.leader() {
        world.kill(&leader);
        world.start(leader.machine.clone(), false);
    }
    for _ in 0..NOTICE {
        sleep(PAUSE).await;
        let Some((_, _, status)) = world.leader() else { continue };
        let known = status.regions.iter().find(|region| region.name == *ruined.name());
        match known {
            Some(known) if known.state == "refused" => {
                let problem = known.problem.clone().unwrap_or_default();
                world.say(format_args!("region {ruined} is refused: {problem}"));
                return Ok(());
            }
            // A change that was asked for before has removed it.
            None => return Ok(()),
            Some(_) => {}
        }
    }
    Err(format!("region {ruined} lost what it held, and is not refused: {}", regions(world)))
}

fn regions(world: &World) -> String {
    world
        .leader()
        .map_or_else(|| "nobody leads".to_owned(), |(node, _, status)| format!("{node}: {:?}", status.regions))
}
