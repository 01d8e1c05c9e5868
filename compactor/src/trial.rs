//! A cluster of three regions for tests, whose archive files are random bytes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    command::{
        Archived, BatchRef, Claim, ClaimPart, Command, Outcome, Publish, Replace, Retention, TopicSettings, Trim,
    },
    env::Env,
    founding,
    ids::{FileId, Offset, Partition, RegionNo, ShardId, TopicId},
    keys::Key,
    names::{RegionName, TopicName},
    shard::{Proposal, Shard, ShardConfig, Throttle},
    store::{Component, RegionStore, StoreMetrics, StoreTiming, fault::FaultStore},
};
use bytes::Bytes;
use futures::FutureExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use tokio_util::task::TaskTracker;

#[cfg(test)]
mod content;

pub(crate) use content::text;

pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

pub(crate) struct Trial {
    pub(crate) faults: Vec<FaultStore>,
    pub(crate) env: Env,
    pub(crate) shard: Shard,
}

/// No limit.
pub(crate) fn unlimited() -> Throttle {
    Arc::new(|_| async {}.boxed())
}

pub(crate) fn named(names: &[&str]) -> Vec<(RegionName, String)> {
    names.iter().map(|name| (RegionName::new(name).unwrap(), format!("memory://{name}"))).collect()
}

async fn start(faults: &[FaultStore], env: &Env, node: &str) -> Shard {
    let stores: BTreeMap<_, _> = NAMES.into_iter().zip(faults.iter().cloned()).collect();
    let (metrics, opened) = (StoreMetrics::new(), env.clone());
    let opener: founding::Opener = Arc::new(move |name, _| {
        let store = Arc::new(stores[name.as_str()].clone());
        Ok(RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), opened.clone()))
    });
    let cluster = founding::join(&named(&NAMES[..3]), opener, env).await.unwrap();
    let config = ShardConfig { shard: ShardId(0), node: node.to_owned(), address: format!("http://{node}"), window: 8 };
    Shard::start(config, cluster, env.clone(), &TaskTracker::new()).await.unwrap()
}

impl Trial {
    pub(crate) async fn new(seed: u64) -> Self {
        let env = Env::simulated(seed, 1_700_000_000_000);
        let faults: Vec<_> = NAMES.iter().map(|_| FaultStore::new(Arc::new(InMemory::new()), seed)).collect();
        let shard = start(&faults, &env, "n0").await;
        Self { faults, env, shard }
    }

    /// Another node takes over; the old one does not get to do anything more.
    pub(crate) async fn restart(&mut self, node: &str) {
        self.shard = start(&self.faults, &self.env, node).await;
    }

    pub(crate) async fn propose(&self, command: Command) -> Outcome {
        self.shard.propose(vec![command]).await.unwrap().outcomes.remove(0).unwrap()
    }

    pub(crate) async fn topic(&self, name: &str) -> TopicId {
        let (name, settings) = (TopicName::new(name).unwrap(), TopicSettings { partitions: 1, ..Default::default() });
        let Outcome::TopicCreated(id) = self.propose(Command::CreateTopic { name, settings }).await else { panic!() };
        id
    }

    /// So many messages, whose bytes nobody reads.
    pub(crate) async fn publish(&self, topic: TopicId, rows: u32) {
        let batch = BatchRef {
            partition: Partition(0),
            at: 0,
            len: 4,
            crc: crc32c::crc32c(b"body"),
            rows,
            payload_bytes: rows.into(),
            min_timestamp_ms: 1,
            max_timestamp_ms: 1,
            owned: Vec::new(),
            attributes: AttributeSet::default(),
            ids: Vec::new(),
        };
        let command = Command::Publish(Publish { topic, requests: Vec::new(), batches: vec![batch] });
        let (answer, answered) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| _ = answer.send(result));
        self.shard.submit(Proposal { commands: vec![command], body: vec![Bytes::from_static(b"body")], done }).await;
        answered.await.unwrap().unwrap();
    }

    pub(crate) async fn claim(&self, topic: TopicId, first: u64, end: u64) -> Option<FileId> {
        let part = ClaimPart { topic, partition: Partition(0), first: Offset(first), end: Offset(end) };
        let claim = Command::Claim(Claim { owner: self.shard.ballot(), parts: vec![part] });
        match self.shard.propose(vec![claim]).await.unwrap().outcomes.remove(0) {
            Ok(Outcome::Claimed(ids)) => Some(ids[0]),
            _ => None,
        }
    }

    /// Writes a file of so many bytes for a claim to the regions that take it, and puts it in the place of what was there.
    pub(crate) async fn archive(&self, topic: TopicId, first: u64, end: u64, bytes: usize) -> Option<ArchiveFile> {
        let id = self.claim(topic, first, end).await?;
        let seed = self.env.entropy.next_u64();
        let content: Vec<u8> = (0..bytes as u64).map(|at| (at.wrapping_mul(seed | 1) >> 7) as u8).collect();
        let mut file = ArchiveFile {
            id,
            first: Offset(first),
            end: Offset(end),
            rows: end - first,
            bytes: bytes as u64,
            payload_bytes: bytes as u64,
            crc: crc32c::crc32c(&content),
            set_hash: SetHash(0),
            min_timestamp_ms: 1,
            max_timestamp_ms: 1,
            attributes: AttributeSet::default(),
            oldest_tombstone_ms: None,
            merges: 0,
            compacted: false,
            regions: Vec::new(),
        };
        let key = self.key(topic, &file)?;
        for region in self.shard.regions().into_iter().filter(|region| !region.failing) {
            let written = region.store.overwrite(Component::Compactor, &key, content.clone().into()).await;
            if written.is_ok() {
                file.regions.push(region.record.number);
            }
        }
        file.regions.sort_unstable();
        let part = Archived { id, file: Some(file.clone()), compacted: None };
        let replaced = self.shard.propose(vec![Command::Replace(Replace { parts: vec![part] })]).await.unwrap();
        replaced.outcomes[0].is_ok().then_some(file)
    }

    pub(crate) async fn trim(&self, topic: TopicId, to: u64) {
        let retention = Retention::default();
        let trim = Trim { topic, partition: Partition(0), to: Offset(to), acknowledged: false, retention };
        self.propose(Command::Trim(trim)).await;
    }

    pub(crate) fn key(&self, topic: TopicId, file: &ArchiveFile) -> Option<Key> {
        Some(file.key(&self.shard.state().topic(topic)?.name, topic, Partition(0)))
    }

    /// Files that the state refers to, by key.
    pub(crate) fn referenced(&self) -> BTreeMap<Key, ArchiveFile> {
        let state = self.shard.state();
        let of = |topic: &brigade_index::state::Topic| {
            let files = topic.partitions[0].files().iter();
            files.map(|file| (file.key(&topic.name, topic.id, Partition(0)), file.clone())).collect::<Vec<_>>()
        };
        state.topics().flat_map(of).collect()
    }

    /// What is really under a key of a region.
    pub(crate) async fn read(&self, region: usize, key: &Path) -> Option<Bytes> {
        match self.faults[region].inner().get(key).await {
            Ok(found) => Some(found.bytes().await.unwrap()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// I10: what the state says is in a region is there, whole.
    pub(crate) async fn check(&self) {
        for (key, file) in self.referenced() {
            for region in &file.regions {
                let there = self.read(region.0.into(), &key).await;
                let crc = there.map(|bytes| crc32c::crc32c(&bytes));
                assert_eq!(crc, Some(file.crc), "I10: {key} in region {region}");
            }
        }
    }

    /// Archive files that are in a region, referenced or not.
    pub(crate) async fn files_in(&self, region: usize) -> Vec<Key> {
        use futures::TryStreamExt;
        let all: Vec<_> = self.faults[region].inner().list(Some(&Path::from("archive"))).try_collect().await.unwrap();
        let keys = all.into_iter().map(|meta| meta.location);
        let mut keys: Vec<_> = keys.filter(|key| brigade_index::keys::parse_archive_file(key).is_some()).collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) async fn settle(&self, what: &str, mut condition: impl FnMut(&Shard) -> bool) {
        for _ in 0..3_000 {
            if condition(&self.shard) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to be: {what}: {:?}", self.shard.status());
    }

    /// Whether a region takes part and has everything.
    pub(crate) fn state_of(shard: &Shard, region: usize) -> (&'static str, u64) {
        let status = shard.status();
        let region = status.regions.iter().find(|status| status.number == RegionNo(region as u16)).unwrap();
        (region.state, region.files_missing)
    }
}
