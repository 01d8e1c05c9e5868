//! A cluster on stores in memory, for tests of scrubbing and restoring.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use brigade_index::{
    archive::{FileHead, FileWriter, WriterSettings},
    batch::{self, Attributes, Columns, MessageRef, ValueKind},
    command::{Archived, BatchRef, Claim, ClaimPart, Command, Outcome, Publish, Replace, TopicSettings},
    env::Env,
    format::checksum,
    founding::{self, Opener},
    ids::{FileId, Offset, Partition, RegionNo, ShardId, TopicId},
    keys::Key,
    limits::DEFAULT_WINDOW,
    names::{RegionName, TopicName},
    shard::{Committed, Proposal, Shard, ShardConfig},
    store::{Component, RegionStore, StoreMetrics, StoreTiming},
};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::scrub::Target;

pub(crate) const SHARD: ShardId = ShardId(0);

/// Stores by region.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) stores: BTreeMap<String, Arc<InMemory>>,
    pub(crate) env: Env,
}

impl Bed {
    pub(crate) fn new(names: &[&str]) -> Self {
        let stores = names.iter().map(|name| ((*name).to_owned(), Arc::default())).collect();
        // Another one with every bed: no two clusters have an identity in common.
        static SEED: AtomicU64 = AtomicU64::new(7);
        Self { stores, env: Env::simulated(SEED.fetch_add(1, Ordering::Relaxed), 1_700_000_000_000) }
    }

    pub(crate) fn region(&self, name: &str) -> RegionStore {
        let store: Arc<dyn ObjectStore> = self.stores[name].clone();
        let name = RegionName::new(name).unwrap();
        RegionStore::new(name, store, StoreMetrics::new(), StoreTiming::default(), self.env.clone())
    }

    fn opener(&self) -> Opener {
        let bed = self.clone();
        Arc::new(move |name, _| Ok(bed.region(name.as_str())))
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |name: &String| Target {
            name: RegionName::new(name).unwrap(),
            url: format!("memory://{name}"),
            store: Ok(self.region(name)),
        };
        self.stores.keys().map(target).collect()
    }

    /// Leads the shard on these regions, of all that there are.
    pub(crate) async fn lead(&self, regions: &[&str]) -> Lead {
        let named: Vec<_> =
            regions.iter().map(|name| (RegionName::new(name).unwrap(), format!("memory://{name}"))).collect();
        let cluster = founding::join(&named, self.opener(), &self.env).await.unwrap();
        let config = ShardConfig {
            shard: SHARD,
            node: "node".to_owned(),
            address: "http://node".to_owned(),
            window: DEFAULT_WINDOW,
        };
        let shard = Shard::start(config, cluster, self.env.clone(), &TaskTracker::new()).await.unwrap();
        Lead { bed: self.clone(), shard }
    }

    pub(crate) async fn get(&self, region: &str, key: &Key) -> Option<Vec<u8>> {
        let found = self.stores[region].get(key).await.ok()?;
        Some(found.bytes().await.unwrap().to_vec())
    }

    pub(crate) async fn put(&self, region: &str, key: &Key, bytes: Vec<u8>) {
        self.stores[region].put(key, bytes.into()).await.unwrap();
    }

    pub(crate) async fn delete(&self, region: &str, key: &Key) {
        self.stores[region].delete(key).await.unwrap();
    }

    /// Flips one bit of an object.
    pub(crate) async fn flip(&self, region: &str, key: &Key, at: usize) {
        let mut bytes = self.get(region, key).await.unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 4;
        self.put(region, key, bytes).await;
    }

    /// Keys that begin like this, in order.
    pub(crate) async fn keys(&self, region: &str, prefix: &str) -> Vec<Key> {
        let found = self.region(region).list(Component::Repair, &Key::from(prefix)).await.unwrap();
        found.into_iter().collect()
    }
}

/// A leader.
pub(crate) struct Lead {
    pub(crate) bed: Bed,
    pub(crate) shard: Shard,
}

impl Lead {
    pub(crate) async fn topic(&self, name: &str) -> TopicId {
        let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
        let command = Command::CreateTopic { name: TopicName::new(name).unwrap(), settings };
        let outcomes = self.shard.propose(vec![command]).await.unwrap().outcomes;
        let [Ok(Outcome::TopicCreated(id))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        *id
    }

    pub(crate) async fn submit(&self, commands: Vec<Command>, body: Vec<Bytes>) -> Committed {
        let (answer, answered) = oneshot::channel();
        let done = Box::new(move |result| _ = answer.send(result));
        self.shard.submit(Proposal { commands, body, done }).await;
        let committed = answered.await.unwrap().unwrap();
        assert!(committed.outcomes.iter().all(Result::is_ok), "{committed:?}");
        committed
    }

    pub(crate) async fn publish(&self, topic: TopicId, partition: u32, texts: &[String]) {
        let (batch, bytes) = batch_of(partition, texts);
        let publish = Publish { topic, requests: Vec::new(), batches: vec![batch] };
        self.submit(vec![Command::Publish(publish)], vec![bytes]).await;
    }

    pub(crate) async fn publish_many(&self, topic: TopicId, partition: u32, entries: usize) {
        for number in 0..entries {
            let texts: Vec<_> = (0..5).map(|row| format!("{partition}-{number}-{row} {}", "x".repeat(200))).collect();
            self.publish(topic, partition, &texts).await;
        }
    }

    /// Claims all runs of a partition but the last `left`.
    pub(crate) async fn claim(&self, topic: TopicId, partition: u32, left: usize) -> (FileId, ClaimPart) {
        let part = {
            let state = self.shard.state();
            let log = state.topic(topic).unwrap().partition(Partition(partition)).unwrap();
            let runs = &log.runs()[..log.runs().len() - left];
            let (first, end) = (runs[0].base, runs[runs.len() - 1].end());
            ClaimPart { topic, partition: Partition(partition), first, end }
        };
        let claim = Claim { owner: self.shard.ballot(), parts: vec![part] };
        let committed = self.submit(vec![Command::Claim(claim)], Vec::new()).await;
        let Ok(Outcome::Claimed(ids)) = &committed.outcomes[0] else { panic!("{committed:?}") };
        (ids[0], part)
    }

    /// Moves all runs of a partition but the last `left` into an archive file, which these regions get.
    pub(crate) async fn archive(&self, topic: TopicId, partition: u32, left: usize, regions: &[&str]) -> Key {
        let (id, part) = self.claim(topic, partition, left).await;
        let (name, runs) = {
            let state = self.shard.state();
            let topic = state.topic(topic).unwrap();
            (topic.name.clone(), topic.partitions[partition as usize].runs().to_vec())
        };
        let head = FileHead {
            cluster: self.shard.cluster_id().to_owned(),
            topic: name.clone(),
            topic_id: topic,
            partition: part.partition,
            id,
            first: part.first,
            end: part.end,
        };
        let mut writer = FileWriter::new(head.clone(), &WriterSettings::default()).unwrap();
        for run in runs.iter().filter(|run| run.end() <= part.end) {
            let messages = batch::decode(&self.shard.fetch(&run.batch).await.unwrap()).unwrap();
            let first = run.first_row as usize;
            writer.push(&messages, first..first + run.rows as usize, run.base).unwrap();
        }
        let (bytes, written) = writer.finish().unwrap();
        let number = |name: &&str| {
            let state = self.shard.state();
            state.regions.iter().find(|record| record.name.as_str() == *name).map(|record| record.number)
        };
        let mut numbers: Vec<RegionNo> = regions.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let file = written.file(&head, 0, false, numbers);
        let key = file.key(&name, topic, part.partition);
        for region in regions {
            self.bed.put(region, &key, bytes.to_vec()).await;
        }
        let parts = vec![Archived { id, file: Some(file), compacted: None }];
        self.submit(vec![Command::Replace(Replace { parts })], Vec::new()).await;
        key
    }

    /// Commits an empty entry, so that every region's path says that what came before is committed.
    pub(crate) async fn mark(&self) {
        self.submit(Vec::new(), Vec::new()).await;
    }

    /// Waits until every region has everything that is committed.
    pub(crate) async fn settle(&self) {
        self.mark().await;
        loop {
            let status = self.shard.status();
            if status.regions.iter().all(|region| region.accepted >= status.committed) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// A batch of messages for one partition.
pub(crate) fn batch_of(partition: u32, texts: &[String]) -> (BatchRef, Bytes) {
    let mut columns = Columns::default();
    for text in texts {
        columns.push(&MessageRef {
            key: Some(b"key"),
            value: Some(text.as_bytes()),
            kind: ValueKind::Text,
            headers: &[("h".into(), "v".into())],
            timestamp_ms: 1_700_000_000_000,
            attributes: Attributes::default(),
        });
    }
    let payload_bytes = columns.payload_bytes() as u64;
    let bytes = batch::encode(&columns.into_record_batch(), batch::Compression::Lz4).unwrap();
    let batch = BatchRef {
        partition: Partition(partition),
        at: 0,
        len: bytes.len() as u32,
        crc: checksum(&bytes),
        rows: texts.len() as u32,
        payload_bytes,
        min_timestamp_ms: 1_700_000_000_000,
        max_timestamp_ms: 1_700_000_000_000,
        owned: Vec::new(),
        attributes: batch::AttributeSet::default(),
        ids: Vec::new(),
    };
    (batch, bytes)
}

/// The messages of a partition, as a reader would get them: offset and value.
pub(crate) async fn read(bed: &Bed, region: &str, shard: &Shard, topic: TopicId, partition: u32) -> Vec<(u64, String)> {
    let (name, files, runs) = {
        let state = shard.state();
        let topic = state.topic(topic).unwrap();
        let log = &topic.partitions[partition as usize];
        (topic.name.clone(), log.files().to_vec(), log.runs().to_vec())
    };
    let mut found = Vec::new();
    let mut take = |messages: &batch::Messages, row: usize, offset: Offset| {
        found.push((offset.0, String::from_utf8(messages.value(row).unwrap().to_vec()).unwrap()));
    };
    for file in files {
        let key = file.key(&name, topic, Partition(partition));
        let bytes = Bytes::from(bed.get(region, &key).await.unwrap());
        let brigade_index::archive::FooterStep::Ready(footer) =
            brigade_index::archive::Footer::decode(file.bytes, 0, bytes.clone()).unwrap()
        else {
            panic!("the whole file is there")
        };
        for block in 0..footer.blocks().len() {
            let rows = footer.decode_block(block, &[(0..file.bytes, bytes.clone())]).unwrap();
            (0..rows.offsets.len()).for_each(|row| take(&rows.messages, row, Offset(rows.offsets[row])));
        }
    }
    for run in runs {
        let messages = batch::decode(&shard.fetch(&run.batch).await.unwrap()).unwrap();
        for row in 0..run.rows {
            take(&messages, (run.first_row + row) as usize, run.base.plus(row.into()));
        }
    }
    found
}
