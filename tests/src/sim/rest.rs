//! The end of what works in the background: it comes to rest, and leaves nothing behind that should not be there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use brigade_compactor::scrub::{Code, Done, Finding, Progress, Scrub, ScrubSettings, Target};
use brigade_index::{
    env::Env,
    ids::ShardId,
    keys::{self, Object},
    store::{RegionStore, StoreMetrics, StoreTiming},
};
use object_store::path::Path;
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng};
use serde_json::Value;
use tokio::time::sleep;

use super::{verify, world::World};

/// How long nobody asks a store for anything before that is called rest.
const QUIET: Duration = Duration::from_secs(40);

/// How often that is waited for.
const PATIENCE: u32 = 40;

/// Runs that are asked for until one has nothing left to do.
const RUNS: u32 = 60;

/// Asks for runs until one leaves nothing; sometimes nobody asks, and it comes to that by itself.
pub(super) async fn demand(world: &World, random: &mut StdRng) -> Result<bool, String> {
    if random.random_bool(0.4) {
        return Ok(false);
    }
    let (mut report, mut under_way) = (Value::Null, None);
    for _ in 0..RUNS {
        let path = match under_way.take() {
            None => "/v1/compactor/run?wait=5000".to_owned(),
            Some(run) => format!("/v1/compactor/run?run={run}&wait=5000"),
        };
        report = world.insist("POST", &path, &Value::Null).await?;
        under_way = (report["done"] == false).then(|| report["run"].clone());
        let nothing = ["archived", "merged", "compacted", "trimmed", "deleted_files", "deleted_objects"];
        let idle = nothing.iter().all(|what| report[what] == 0);
        world.trace("operator", format_args!("a run at the end: {report}"));
        if report["done"] == true && idle && report["problems"].as_array().is_some_and(Vec::is_empty) {
            return Ok(true);
        }
    }
    Err(format!("the compactor does not come to an end: {report}"))
}

/// Waits until nobody asks a store for anything.
pub(super) async fn quiet(world: &World) -> Result<(), String> {
    let requests = || world.nodes().iter().map(|node| node.gate.requests()).sum::<u64>();
    for _ in 0..PATIENCE {
        let before = requests();
        sleep(QUIET).await;
        if requests() == before {
            return Ok(());
        }
    }
    Err("the cluster does not come to rest".to_owned())
}

/// No claim and no garbage is left, every archive file is in every region, and nothing is in a region that should not be.
/// `cut` says that the journals were just cut off.
pub(super) async fn nothing_left(world: &World, cut: bool) -> Result<(), Vec<String>> {
    let (_, shard, status) = world.leader().ok_or_else(|| vec!["nobody leads".to_owned()])?;
    let mut problems = Vec::new();
    let all: BTreeSet<_> = status.regions.iter().map(|region| region.number).collect();
    {
        let state = shard.state();
        if !state.archive.claims().is_empty() || !state.archive.garbage().is_empty() {
            let (claims, garbage) = (state.archive.claims(), state.archive.garbage());
            problems.push(format!("claims {claims:?} and garbage {garbage:?} are left"));
        }
        for log in state.topics().flat_map(|topic| &topic.partitions) {
            for file in log.files() {
                if all.iter().any(|region| !file.regions.contains(region)) {
                    problems.push(format!("I10: {file:?} is not in all regions"));
                }
            }
        }
        let (topics, files) = (state.topics(), state.topics().flat_map(|topic| &topic.partitions));
        let archived: u64 = topics.map(|topic| topic.archive_version).sum();
        let files: usize = files.map(|log| log.files().len()).sum();
        world.say(format_args!("{files} archive files, {archived} versions, last {:?}", state.archive.last()));
    }
    for region in &status.regions {
        let of = world.region(region.name.as_str()).ok_or_else(|| vec![format!("no region {}", region.name)])?;
        let state = shard.state().clone();
        problems.extend(verify::views(&of, region.number, &state).await.err());
        if cut {
            problems.extend(verify::cut_off(&of).await.err());
        }
    }
    world.say(format_args!("scrubbing, cut off: {cut}"));
    problems.extend(scrub(world, cut).await?);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What scrubbing all regions finds that must not be.
async fn scrub(world: &World, cut: bool) -> Result<Vec<String>, Vec<String>> {
    let targets = world.wanted().into_iter().map(|region| {
        let (name, timing) = (region.name().clone(), StoreTiming::default());
        let store =
            RegionStore::new(name.clone(), Arc::new(region.clone()), StoreMetrics::new(), timing, Env::simulated(1, 0));
        Target { name, url: region.url().to_owned(), store: Ok(store) }
    });
    let (progress, done) = (Arc::new(Progress::default()), Arc::new(Mutex::new(Done::default())));
    let scrub = Scrub::new(ShardId(0), targets.collect(), ScrubSettings::default(), progress, done);
    let report = scrub.run().await.map_err(|error| vec![error.to_string()])?;
    for finding in &report.findings {
        world.say(format_args!("scrub: {finding:?}"));
    }
    for partition in &report.partitions {
        world.say(format_args!("scrub: {partition:?}"));
    }
    let wrong = |finding: &&Finding| !may_be(world, finding, cut);
    let mut problems: Vec<_> =
        report.findings.iter().filter(wrong).map(|finding| format!("scrub: {finding:?}")).collect();
    for partition in &report.partitions {
        let first = partition.regions.first();
        let same = |of: &brigade_compactor::scrub::PartitionContent| {
            of.complete && first.is_some_and(|first| (first.messages, &first.set_hash) == (of.messages, &of.set_hash))
        };
        if partition.regions.len() != report.regions.len() || !partition.regions.iter().all(same) {
            problems.push(format!("scrub: regions differ: {partition:?}"));
        }
    }
    Ok(problems)
}

/// What may be found in a cluster that is well.
fn may_be(world: &World, finding: &Finding, cut: bool) -> bool {
    let object = keys::parse(ShardId(0), &Path::from(finding.key.as_str()));
    match (finding.code, object) {
        // Uploads that arrived when nobody waited for them any more.
        (Code::ExtraObject, Object::File(_)) => {
            let region = world.region(&finding.region);
            region.is_some_and(|region| region.doubtful() as u64 >= finding.objects)
        }
        // What is small of former reigns costs less to keep than to look at; the rest is cut off with the next snapshot.
        (Code::ExtraObject, Object::Journal(_)) => true,
        (Code::ExtraObject, _) => !cut,
        (Code::UnsettledObject, Object::Journal(_) | Object::Copy(_) | Object::Snapshot(..)) => !cut,
        _ => false,
    }
}
