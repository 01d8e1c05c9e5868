//! What must hold at the end, when nothing is wrong any more: every region alone tells the same, and nobody does anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use brigade_index::{
    archive::ArchiveFile,
    format::{Floor, Record, RegionIdentity, Section, Value, checksum, decode_snapshot},
    ids::{Partition, RegionNo, Sequence, ShardId},
    journal::{Dead, Fold, Place},
    keys,
    names::RegionName,
    region::RegionRecord,
    state::{Regions, ShardState},
};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use tokio::time::sleep;

use super::{region::SimRegion, world::World};

const SHARD: ShardId = ShardId(0);

/// An entry by its content.
type Contents = BTreeMap<Sequence, u32>;

/// The regions that the cluster was founded with, as the first of them tells.
pub(super) async fn founding(world: &World) -> Result<Vec<RegionRecord>, String> {
    let objects = world.regions()[0].objects();
    let bytes = get(&objects, &keys::identity()).await?.ok_or("the cluster was not founded")?;
    let identity = RegionIdentity::decode(&bytes).map_err(|error| error.to_string())?;
    let records = identity.voters.into_iter().map(|voter| {
        let name = RegionName::new(&voter.region).map_err(|error| error.to_string())?;
        Ok(RegionRecord { number: RegionNo(voter.number), name, url: voter.url, region_id: voter.region_id })
    });
    records.collect()
}

/// I1, I10, I13: each region alone has every entry that recovery or a reader may ask for, with one content, every batch and
/// every archive file; and they add up to the leader's state.
pub(super) async fn every_region_alone(world: &World, founding: &[RegionRecord]) -> Result<(), String> {
    let (_, shard, status) = world.leader().ok_or("nobody leads")?;
    let expected = shard.state().clone();
    let mut first: Option<(SimRegion, Contents)> = None;
    for record in status.regions {
        let region = world.region(record.name.as_str()).ok_or("a region that never was")?;
        let told = tell(&region, status.committed, founding).await;
        let (state, contents) = told.map_err(|problem| format!("region {region} alone: {problem}"))?;
        if state != expected {
            return Err(format!(
                "region {region} adds up to another state than the leader's:\n{state:?}\n{expected:?}"
            ));
        }
        if let Some((other, theirs)) = &first {
            for (sequence, content) in &contents {
                if theirs.get(sequence).is_some_and(|their| their != content) {
                    return Err(format!("I1: entry {sequence} differs between regions {region} and {other}"));
                }
            }
        }
        world.say(format_args!("region {region} alone: {} entries up to {}", contents.len(), status.committed));
        first.get_or_insert((region, contents));
    }
    Ok(())
}

/// What a region's path says.
async fn tell(
    region: &SimRegion,
    committed: Sequence,
    founding: &[RegionRecord],
) -> Result<(ShardState, Contents), String> {
    let objects = region.objects();
    let fold = fold(&objects).await?;
    let mut state = match &fold.snapshot {
        None => ShardState::founded(Regions::founded(founding.iter().cloned())),
        Some(snapshot) => {
            let key = keys::snapshot(SHARD, snapshot.sequence, snapshot.id);
            let bytes = get(&objects, &key).await?.ok_or_else(|| format!("{key} is missing"))?;
            decode_snapshot(&bytes).map_err(|error| format!("{key}: {error}"))?
        }
    };
    for (sequence, accepted) in fold.log.iter().filter(|(sequence, _)| **sequence <= committed) {
        let value = Value::decode(&accepted.section).map_err(|error| format!("entry {sequence}: {error}"))?;
        state.apply(&value, *sequence, accepted.body_at);
    }
    let mut contents = Contents::new();
    let mut bodies = BTreeMap::new();
    let path = fold.log.keys().copied().filter(|sequence| *sequence <= committed);
    let referenced: BTreeSet<_> = state.bodies().chain(path).collect();
    for sequence in referenced {
        let Some(bytes) = object_of(&objects, &fold, sequence).await? else { continue };
        let record = Record::decode(&bytes).map_err(|error| format!("entry {sequence}: {error}"))?;
        if record.head.sequence != sequence || !matches!(record.section, Section::Commit(_)) {
            return Err(format!("entry {sequence} is not where it should be, but {:?}", record.head));
        }
        let body = bytes.slice(usize::try_from(record.head.body_at()).unwrap_or(usize::MAX)..);
        contents.insert(sequence, checksum(&[record.raw.as_ref(), body.as_ref()].concat()));
        bodies.insert(sequence, bytes);
    }
    for run in state.topics().flat_map(|topic| &topic.partitions).flat_map(|log| log.runs()) {
        let batch = &run.batch;
        let bytes = bodies.get(&batch.sequence).ok_or_else(|| format!("I10: entry {} is missing", batch.sequence))?;
        let at = usize::try_from(batch.at).unwrap_or(usize::MAX);
        let bytes = bytes.get(at..at.saturating_add(batch.len as usize));
        if bytes.is_none_or(|bytes| checksum(bytes) != batch.crc) {
            return Err(format!("I10: the batch at {batch:?} is not whole"));
        }
    }
    archive(&objects, &state, |_| true).await?;
    Ok((state, contents))
}

/// Behind its mark a region has no entry that nobody needs, once the journals were cut off.
pub(super) async fn cut_off(region: &SimRegion) -> Result<(), String> {
    let objects = region.objects();
    let Some(floor) = newest_floor(&objects).await? else { return Ok(()) };
    let key = keys::snapshot(SHARD, floor.snapshot.sequence, floor.snapshot.id);
    let bytes = get(&objects, &key).await?.ok_or_else(|| format!("{key} is missing"))?;
    let state = decode_snapshot(&bytes).map_err(|error| format!("{key}: {error}"))?;
    let mut bodies: Vec<_> = state.bodies().collect();
    bodies.sort_unstable();
    let dead = Dead::new(&floor, &bodies);
    for sequence in (1..=dead.end().0).map(Sequence).filter(|sequence| dead.entry(*sequence)) {
        let key = match dead.place(sequence) {
            None => continue,
            Some(Place::Copy) => keys::copy(SHARD, sequence),
            Some(Place::Journal(slot)) => keys::journal(SHARD, slot),
        };
        if get(&objects, &key).await?.is_some() && !region.is_doubtful(&key) {
            return Err(format!("region {region}: {key}, entry {sequence}, is dead, and still there"));
        }
    }
    Ok(())
}

/// What is published for other programs lists what the region has, and nothing else.
pub(super) async fn views(region: &SimRegion, number: RegionNo, state: &ShardState) -> Result<(), String> {
    let objects = region.objects();
    for topic in state.topics().filter(|topic| topic.archive_version > 0) {
        let key = keys::latest(&topic.name);
        let bytes = get(&objects, &key).await?.ok_or_else(|| format!("region {region}: {key} is missing"))?;
        let latest: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let files = latest["files"].as_array().into_iter().flatten();
        let listed: BTreeSet<_> = files.filter_map(|file| file["key"].as_str()).map(str::to_owned).collect();
        let partitions = (0..).map(Partition).zip(&topic.partitions);
        let files = partitions.flat_map(|(partition, log)| log.files().iter().map(move |file| (partition, file)));
        let held = files.filter(|(_, file)| file.regions.contains(&number));
        let expected: BTreeSet<_> =
            held.map(|(partition, file)| file.key(&topic.name, topic.id, partition).to_string()).collect();
        if listed != expected {
            let (version, now) = (&latest["archive_version"], topic.archive_version);
            return Err(format!("region {region}: {key} of version {version} is not the archive of version {now}"));
        }
    }
    Ok(())
}

/// I10: every region has the archive files that the state says it has, whatever else is under way.
pub(super) async fn held(world: &World) -> Result<(), String> {
    let Some((_, shard, status)) = world.leader() else { return Ok(()) };
    let state = shard.state().clone();
    for record in status.regions {
        let region = world.region(record.name.as_str()).ok_or("a region that never was")?;
        if !region.is_restored() {
            let held = archive(&region.objects(), &state, |file| file.regions.contains(&record.number)).await;
            held.map_err(|problem| format!("region {region}: {problem}"))?;
        }
    }
    Ok(())
}

/// Every archive file, of these, is there as it was written.
async fn archive(objects: &InMemory, state: &ShardState, which: impl Fn(&ArchiveFile) -> bool) -> Result<(), String> {
    for topic in state.topics() {
        for (partition, log) in (0..).map(Partition).zip(&topic.partitions) {
            for file in log.files().iter().filter(|file| which(file)) {
                let key = file.key(&topic.name, topic.id, partition);
                let bytes = get(objects, &key).await?.ok_or_else(|| format!("I10: {key} is missing"))?;
                if bytes.len() as u64 != file.bytes || checksum(&bytes) != file.crc {
                    return Err(format!("I10: {key} is not what was written"));
                }
            }
        }
    }
    Ok(())
}

async fn object_of(objects: &InMemory, fold: &Fold, sequence: Sequence) -> Result<Option<Bytes>, String> {
    match fold.extents.find(sequence) {
        // Those whose batches are needed are looked for below.
        None if sequence <= fold.truncated => Ok(None),
        None => Err(format!("it is not known where entry {sequence} is")),
        Some(Place::Copy) => get(objects, &keys::copy(SHARD, sequence)).await,
        Some(Place::Journal(slot)) => {
            let key = keys::journal(SHARD, slot);
            match get(objects, &key).await? {
                None if sequence > fold.truncated => Err(format!("{key}, entry {sequence}, is missing")),
                found => Ok(found),
            }
        }
    }
}

/// Folds a region's path from its newest floor to its end.
async fn fold(objects: &InMemory) -> Result<Fold, String> {
    let floor = newest_floor(objects).await?;
    let mut fold = Fold::start(floor.as_ref());
    while let Some(bytes) = get(objects, &keys::journal(SHARD, fold.at)).await? {
        let record = Record::decode(&bytes).map_err(|error| format!("{}: {error}", fold.at))?;
        fold.accept(&record).map_err(|error| error.to_string())?;
    }
    Ok(fold)
}

async fn newest_floor(objects: &InMemory) -> Result<Option<Floor>, String> {
    let listed = objects.list_with_delimiter(Some(&keys::floors(SHARD))).await.map_err(|error| error.to_string())?;
    let newest = listed.objects.iter().filter_map(|object| keys::parse_floor(SHARD, &object.location)).max();
    let Some(newest) = newest else { return Ok(None) };
    let bytes = get(objects, &keys::floor(SHARD, newest)).await?.unwrap_or_default();
    Floor::decode(&bytes).map(Some).map_err(|error| error.to_string())
}

async fn get(objects: &InMemory, key: &Path) -> Result<Option<Bytes>, String> {
    match objects.get(key).await {
        Ok(answer) => answer.bytes().await.map(Some).map_err(|error| error.to_string()),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// I21: nobody asks a store for anything, and the leader stays.
pub(super) async fn idle(world: &World, time: Duration) -> Result<(), String> {
    let look = || {
        let nodes = world.nodes();
        let requests: Vec<_> = nodes.iter().map(|node| (node.name.clone(), node.gate.requests())).collect();
        let changes: Vec<_> = nodes.iter().filter_map(|node| Some(node.node()?.seat.changes())).collect();
        let ballot = world.leader().map(|(node, _, status)| (node.name.clone(), status.ballot));
        (requests, changes, ballot)
    };
    let before = look();
    sleep(time).await;
    let after = look();
    world.say(format_args!("idle for {time:?}: {after:?}"));
    if before == after && before.2.is_some() {
        return Ok(());
    }
    Err(format!("an idle cluster did something in {time:?}:\n{before:?}\n{after:?}"))
}
