//! The trouble, at moments drawn from the seed: one loop for nodes, one for stores and the network, one for the set of
//! regions, one for what works in the background. They know nothing of each other, so that everything meets everything.

mod archive;
mod nodes;
mod sets;
mod stores;

use std::{ops::Range, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::world::World;

/// How long nodes are in trouble after a region lost what it held.
const AFTERMATH: Duration = Duration::from_secs(6);

/// Makes trouble for ever.
pub(super) async fn run(world: &World, random: &mut StdRng) {
    let mut draw = || StdRng::seed_from_u64(random.random());
    let (of_nodes, of_stores, of_sets, of_archive) = (draw(), draw(), draw(), draw());
    tokio::join!(
        biased;
        nodes::run(world, of_nodes),
        stores::run(world, of_stores),
        sets::run(world, of_sets),
        archive::run(world, of_archive),
    );
}

/// A region loses what it held in a cluster that is well otherwise; then nodes die, stop and take over for a while.
pub(super) async fn ruin(world: &World, random: &mut StdRng) {
    sets::ruin(world, random).await;
    let of_nodes = StdRng::seed_from_u64(random.random());
    // It goes on for ever by itself.
    let _ = timeout(AFTERMATH, nodes::run(world, of_nodes)).await;
}

async fn pause(random: &mut StdRng, ms: Range<u64>) {
    sleep(Duration::from_millis(random.random_range(ms))).await;
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(random.random_range(0..from.len())) }
}
