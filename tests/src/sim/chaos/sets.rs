//! The set of regions changes under load, and regions lose what they held.

use std::time::Duration;

use brigade_index::shard::ShardStatus;
use object_store::memory::InMemory;
use rand::{RngExt, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::{
    super::{lock, region::SimRegion, sets::change_to, world::World},
    pause, pick,
};

/// How long one change is asked for. It may go on afterwards.
const CHANGE: Duration = Duration::from_secs(12);

/// How long is waited for a moment at which a region may be ruined.
const RIPE: Duration = Duration::from_secs(10);

/// Pause between two looks at the leader.
const LOOK: Duration = Duration::from_millis(10);

/// So many entries are committed between two moments at which all regions are in sync, before one of them is ruined: enough
/// for a mark that says how far it had come.
const ENTRIES: u64 = 140;

pub(super) async fn run(world: &World, mut random: StdRng) {
    // Many worlds keep their regions.
    if random.random_bool(0.4) {
        return;
    }
    loop {
        pause(&mut random, 500..8_000).await;
        let ruined = lock(&world.ruined).clone();
        match ruined {
            Some(region) if random.random_bool(0.5) => replace(world, &region, &mut random).await,
            Some(_) => {}
            None if random.random_bool(0.3) => ruin(world, &mut random).await,
            None => change(world, &mut random).await,
        }
    }
}

/// F15: two regions are added, one is replaced, or two are removed.
async fn change(world: &World, random: &mut StdRng) {
    let _held = world.regions_held.lock().await;
    let mut wanted = world.wanted();
    let grow = wanted.len() < 5 && random.random_bool(0.5);
    if grow {
        wanted.extend([world.add_region(random), world.add_region(random)]);
    } else if wanted.len() == 5 {
        for _ in 0..2 {
            wanted.remove(random.random_range(0..wanted.len()));
        }
    } else {
        let at = random.random_range(0..wanted.len());
        wanted[at] = world.add_region(random);
    }
    attempt(world, wanted, random).await;
}

/// Asks for a change for a while. What operators tell nodes of the regions is changed before or after it.
async fn attempt(world: &World, wanted: Vec<SimRegion>, random: &mut StdRng) {
    let names: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    world.say(format_args!("the regions are to be {}", names.join(", ")));
    world.set_wanted(wanted.clone());
    // A node that is told of new regions only founds another cluster.
    let known = |region: &&SimRegion| world.told().iter().any(|told| told.name() == region.name());
    if wanted.iter().any(|region| known(&region)) && random.random_bool(0.5) {
        world.tell(wanted.clone());
    }
    let done = timeout(CHANGE, change_to(world, &wanted)).await.is_ok();
    world.say(if done { "the regions are changed" } else { "the regions are not changed yet" });
    if done || wanted.iter().any(|region| known(&region)) {
        world.tell(wanted);
    }
}

/// A region that lost what it held is replaced by a new one.
async fn replace(world: &World, ruined: &SimRegion, random: &mut StdRng) {
    let _held = world.regions_held.lock().await;
    let mut wanted = world.wanted();
    wanted.retain(|region| region.name() != ruined.name());
    wanted.push(world.add_region(random));
    // Even before the change is done: the region is not wanted any more.
    *lock(&world.ruined) = None;
    attempt(world, wanted, random).await;
}

/// A region is wiped, or an old copy is put in its place.
pub(super) async fn ruin(world: &World, random: &mut StdRng) {
    let _held = world.regions_held.lock().await;
    if world.wanted().len() < 3 || lock(&world.ruined).is_some() {
        return;
    }
    let waiting = async {
        loop {
            match in_sync(world).filter(|status| status.voters.len() >= 3) {
                Some(status) => break status,
                None => sleep(LOOK).await,
            }
        }
    };
    let Ok(status) = timeout(RIPE, waiting).await else { return };
    let Some(region) = pick(random, &status.regions).and_then(|region| world.region(region.name.as_str())) else {
        return;
    };
    let copy = random.random_bool(0.6).then(|| region.copy());
    world.say(format_args!("region {region} may be ruined soon, old copy: {}", copy.is_some()));
    if timeout(RIPE, ripen(world, &status)).await.is_err() {
        return;
    }
    // A region that forgets whom it promised something is beyond what the journal can bear: see "Going backwards" in its
    // specification.
    let Some((_, _, status)) = world.leader() else { return };
    if region.has_promised_beyond(status.ballot).await {
        return;
    }
    world
        .say(format_args!("region {region} is {}", if copy.is_some() { "restored from an old copy" } else { "wiped" }));
    region.restore(copy.unwrap_or_else(InMemory::new));
    *lock(&world.ruined) = Some(region);
}

/// The leader's status, if all regions vote and have everything.
fn in_sync(world: &World) -> Option<ShardStatus> {
    let (_, _, status) = world.leader()?;
    let whole = |region: &brigade_index::shard::RegionStatus| {
        region.votes && region.state == "in_sync" && region.behind_entries == 0
    };
    let settled = status.change.is_none() && lock(&world.ruined).is_none();
    (settled && status.regions.iter().all(whole)).then_some(status)
}

/// Waits until enough was committed since, and all regions have it.
async fn ripen(world: &World, since: &ShardStatus) {
    let mut first: Option<ShardStatus> = None;
    loop {
        sleep(LOOK).await;
        let Some(status) = in_sync(world) else { continue };
        let same = |first: &&ShardStatus| first.ballot == status.ballot && first.voters == status.voters;
        if let Some(first) = first.as_ref().filter(same) {
            if status.committed.0 >= first.committed.0 + ENTRIES {
                return;
            }
        } else if status.committed > since.committed {
            first = Some(status);
        }
    }
}
