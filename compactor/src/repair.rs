//! Copying archive files to regions that miss them: they were away while the files were written, a write reached only a
//! quorum, or they have just been added. What is missing, the state knows; what was copied is checked against the checksum
//! of the whole file on the way, and counts only when it is right.

mod copy;

use std::collections::BTreeMap;

use brigade_index::{
    archive::ArchiveFile,
    command::{Command, Located},
    ids::{FileId, Partition, RegionNo, TopicId},
    keys::Key,
    limits::MAX_CLAIM_PARTS,
    shard::{ProposeError, RegionHandle, Shard, Throttle},
    state::ShardState,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use self::copy::{CopyError, Task};

/// Files copied to one region at a time. Each holds a few parts in memory.
const CONCURRENT: usize = 2;

/// Files that are told to the state together, at most: a crash copies no more than these again.
const TOLD_TOGETHER: usize = 64;
const _: () = assert!(TOLD_TOGETHER <= MAX_CLAIM_PARTS, "a command names no more files than others do");

/// What came of a round of repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Files copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that a region misses still: it, or every region that holds them, could not be reached or has them damaged.
    pub missing: u64,
    /// The last problem that was met.
    pub problem: Option<String>,
}

impl Repaired {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.problem = other.problem.or(self.problem.take());
    }
}

/// A file that a region misses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lacking {
    topic: TopicId,
    partition: Partition,
    key: Key,
    file: ArchiveFile,
}

/// Copies to every region of the cluster that can be reached the archive files that it misses, all of them side by side. How
/// it comes on is told by [`Shard::repairs`].
///
/// # Errors
/// When the shard did not take a proposal; what was copied is copied again the next time.
pub async fn run(shard: &Shard, throttle: &Throttle, stop: &CancellationToken) -> Result<Repaired, ProposeError> {
    let lacking = lacking(&shard.state());
    let mut total = Repaired::default();
    if lacking.is_empty() {
        return Ok(total);
    }
    let regions = shard.regions();
    let known = |number: RegionNo| regions.iter().find(|region| region.record.number == number && !region.failing);
    let mut running = Vec::new();
    for (number, files) in lacking {
        match known(number) {
            Some(region) => running.push(repair(shard, region, files, throttle, stop)),
            None => total.missing += files.len() as u64,
        }
    }
    for repaired in futures::future::join_all(running).await {
        total.add(repaired?);
    }
    Ok(total)
}

/// What regions miss, the oldest files first.
fn lacking(state: &ShardState) -> BTreeMap<RegionNo, Vec<Lacking>> {
    let mut lacking: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for topic in state.topics() {
        for (number, log) in (0..).map(Partition).zip(&topic.partitions) {
            for file in log.files() {
                let without = state.regions.iter().filter(|record| !file.regions.contains(&record.number));
                for record in without {
                    let key = file.key(&topic.name, topic.id, number);
                    let one = Lacking { topic: topic.id, partition: number, key, file: file.clone() };
                    lacking.entry(record.number).or_default().push(one);
                }
            }
        }
    }
    lacking.values_mut().for_each(|files| files.sort_by_key(|one| one.file.id));
    lacking
}

/// Repairs one region.
async fn repair(
    shard: &Shard,
    region: &RegionHandle,
    files: Vec<Lacking>,
    throttle: &Throttle,
    stop: &CancellationToken,
) -> Result<Repaired, ProposeError> {
    let number = region.record.number;
    let mut done = Repaired { missing: files.len() as u64, ..Repaired::default() };
    let copies = stream::iter(files).map(async |one| {
        let task = Task { shard, to: region, key: &one.key, file: &one.file, throttle };
        let copied = stop.run_until_cancelled(task.run()).await;
        (one, copied)
    });
    let mut copies = std::pin::pin!(copies.buffer_unordered(CONCURRENT));
    let mut told = Vec::new();
    while let Some((one, copied)) = copies.next().await {
        let lost = match copied {
            None => break,
            Some(Ok(())) => {
                done.files += 1;
                done.bytes += one.file.bytes;
                done.missing -= 1;
                told.push(one);
                None
            }
            Some(Err(error)) => {
                if !matches!(error, CopyError::Gone) {
                    tracing::warn!(region = %region.record.name, key = %one.key, %error, "an archive file is not copied yet");
                    done.problem = Some(format!("{}: {error}", one.key));
                }
                Some(error)
            }
        };
        if told.len() >= TOLD_TOGETHER {
            tell(shard, number, std::mem::take(&mut told), region).await?;
        }
        if matches!(lost, Some(CopyError::Target(_))) {
            // It has gone away: the others would not fare better.
            break;
        }
    }
    tell(shard, number, told, region).await?;
    Ok(done)
}

/// Has the state know where files are. What was given up while it was copied is deleted again: nobody else would look for it.
async fn tell(
    shard: &Shard,
    region: RegionNo,
    copied: Vec<Lacking>,
    handle: &RegionHandle,
) -> Result<(), ProposeError> {
    if copied.is_empty() {
        return Ok(());
    }
    let files: Vec<_> = copied.iter().map(|one| (one.topic, one.partition, one.file.id)).collect();
    shard.propose(vec![Command::Located(Located { region, files })]).await?;
    let gone: Vec<_> = {
        let state = shard.state();
        copied.iter().filter(|one| !is_referenced(&state, one.topic, one.partition, one.file.id)).collect()
    };
    for one in gone {
        if let Err(error) = handle.store.delete(brigade_index::store::Component::Repair, &one.key).await {
            tracing::warn!(%error, "a file that was given up while it was copied is left behind");
        }
    }
    Ok(())
}

fn is_referenced(state: &ShardState, topic: TopicId, partition: Partition, id: FileId) -> bool {
    let log = state.topic(topic).and_then(|topic| topic.partition(partition));
    log.is_some_and(|log| log.files().iter().any(|file| file.id == id))
}

#[cfg(test)]
mod tests;
