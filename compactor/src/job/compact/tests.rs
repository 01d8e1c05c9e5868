//! Key compaction against a model that keeps every message.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use brigade_index::{
    archive::WriterSettings,
    batch::{AttributeSet, Attributes, Columns, Compression, MessageRef, ValueKind, decode, encode},
    command::{BatchRef, Command, Outcome, Publish, Retention, RetentionPatch, SettingsPatch, TopicSettings, Trim},
    env::Env,
    format::checksum,
    founding,
    ids::{Partition, ShardId, TopicId},
    limits::DEFAULT_WINDOW,
    names::{RegionName, TopicName},
    shard::{OnDone, Proposal, Shard, ShardConfig},
    state::PartitionLog,
    store::{RegionStore, StoreMetrics, StoreTiming},
};
use object_store::memory::InMemory;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    budget::Budget,
    job,
    metrics::CompactorMetrics,
    plan::{Demand, Job, MergeJob, PlanSettings, plan},
};

const TOMBSTONES_MS: i64 = 40;

/// Key, value and timestamp of a message.
type Message = (Option<u8>, Option<Vec<u8>>, i64);

/// A topic that is compacted by hand, and every message that it ever had.
struct Bench {
    context: JobContext,
    env: Env,
    topic: TopicId,
    now: i64,
    model: Vec<Message>,
    /// Whether others work in the breaks of a compaction.
    disturbed: bool,
}

impl Bench {
    async fn new(seed: u64, memory_bytes: usize) -> Self {
        let env = Env::simulated(seed, 1_000);
        let (store, metrics) = (Arc::new(InMemory::new()), StoreMetrics::new());
        let opening = env.clone();
        let opener: founding::Opener = Arc::new(move |name, _| {
            let (timing, env) = (StoreTiming::default(), opening.clone());
            Ok(RegionStore::new(name.clone(), store.clone(), metrics.clone(), timing, env))
        });
        let named = [(RegionName::new("local").unwrap(), "memory://local".to_owned())];
        let cluster = founding::join(&named, opener, &env).await.unwrap();
        let (shard, node) = (ShardId(0), "a".to_owned());
        let config = ShardConfig { shard, node, address: String::new(), window: DEFAULT_WINDOW };
        let shard = Shard::start(config, cluster, env.clone(), &TaskTracker::new()).await.unwrap();
        let retention = Retention { key_compaction: true, tombstones_ms: TOMBSTONES_MS as u64, ..Retention::default() };
        let settings = TopicSettings { retention, ..TopicSettings::default() };
        let create = Command::CreateTopic { name: TopicName::new("t").unwrap(), settings };
        let outcome = shard.propose(vec![create]).await.unwrap().outcomes.pop();
        let Some(Ok(Outcome::TopicCreated(topic))) = outcome else { panic!("{outcome:?}") };
        let writer = WriterSettings { row_group_rows: 16, page_bytes: 64, ..WriterSettings::default() };
        let context = JobContext {
            shard,
            budget: Budget::new(0),
            metrics: CompactorMetrics::default(),
            memory_bytes,
            aside: 0,
            part_bytes: 8 << 20,
            writer,
        };
        Self { context, env, topic, now: 0, model: Vec::new(), disturbed: false }
    }

    fn random(&self, below: u64) -> u64 {
        self.env.entropy.next_u64() % below
    }

    async fn publish(&mut self, messages: Vec<Message>) {
        let mut columns = Columns::default();
        for (key, value, timestamp_ms) in &messages {
            columns.push(&MessageRef {
                key: key.as_ref().map(std::slice::from_ref),
                value: value.as_deref(),
                kind: ValueKind::Binary,
                headers: &[],
                timestamp_ms: *timestamp_ms,
                attributes: Attributes::default(),
            });
        }
        let bytes = encode(&columns.into_record_batch(), Compression::Lz4).unwrap();
        let times = || messages.iter().map(|(.., time)| *time);
        let batch = BatchRef {
            partition: Partition(0),
            at: 0,
            len: bytes.len() as u32,
            crc: checksum(&bytes),
            rows: messages.len() as u32,
            payload_bytes: 1,
            min_timestamp_ms: times().min().unwrap(),
            max_timestamp_ms: times().max().unwrap(),
            owned: Vec::new(),
            attributes: AttributeSet::default(),
            ids: Vec::new(),
        };
        let publish = Publish { topic: self.topic, requests: Vec::new(), batches: vec![batch] };
        let (answer, answered) = oneshot::channel();
        let done: OnDone = Box::new(move |result| drop(answer.send(result)));
        let proposal = Proposal { commands: vec![Command::Publish(publish)], body: vec![bytes], done };
        self.context.shard.submit(proposal).await;
        answered.await.unwrap().unwrap();
        self.model.extend(messages);
    }

    /// Some messages with few keys, tombstones and messages without a key among them.
    async fn publish_some(&mut self) {
        let count = 1 + self.random(30);
        let message = |now| {
            let value = (self.random(5) > 0).then(|| self.random(1_000).to_le_bytes().to_vec());
            let key = (self.random(10) > 0).then(|| self.random(20) as u8);
            // Without a key a tombstone is a message like any other.
            (key, value, now)
        };
        let messages = (self.now..).take(count as usize).map(message).collect();
        self.now += count as i64;
        self.publish(messages).await;
    }

    fn log(&self) -> PartitionLog {
        self.context.shard.state().topic(self.topic).unwrap().partitions[0].clone()
    }

    async fn archive(&self) {
        let plan = plan(&self.context.shard.state(), 0, &PlanSettings::default(), Demand::All);
        for job in plan.jobs {
            if let Job::Archive(job) = job {
                job::archive::run(&self.context, &job).await.unwrap();
            }
        }
    }

    /// Merges some neighbours of one kind.
    async fn merge(&self) {
        let files = self.log().files().to_vec();
        let at = self.random(files.len().max(1) as u64) as usize;
        let alike = files[at..].iter().take_while(|file| file.compacted == files[at].compacted);
        let files: Vec<_> = alike.take(2 + self.random(3) as usize).cloned().collect();
        if let ([first, .., last], topic) = (&files[..], self.topic) {
            let part = ClaimPart { topic, partition: Partition(0), first: first.first, end: last.end };
            job::merge::run(&self.context, &MergeJob { part, files }).await.unwrap();
        }
    }

    fn job(&self, dirty: usize) -> Option<CompactJob> {
        let files = self.log().files().to_vec();
        let clean = files.iter().take_while(|file| file.compacted).count();
        let files = files[..files.len().min(clean.saturating_add(dirty))].to_vec();
        let dirty_from = files.get(clean)?.first;
        let until = files.last()?.end;
        let retention = self.context.shard.state().topic(self.topic)?.settings.retention;
        Some(CompactJob { topic: self.topic, partition: Partition(0), dirty_from, until, files, retention })
    }

    /// Compacts so many dirty files; in its breaks others may publish and archive.
    async fn compact(&mut self, dirty: usize) -> bool {
        let Some(job) = self.job(dirty) else { return false };
        let (breaks, mut asked) = Breaks::new(Duration::ZERO);
        let (context, now, seed) = (self.context.clone(), self.now, self.random(u64::MAX));
        let mut compacting = pin!(run(&context, &job, now, seed, &breaks));
        loop {
            tokio::select! {
                biased;
                result = &mut compacting => {
                    result.unwrap();
                    return true;
                }
                Some(rest) = asked.recv() => {
                    match if self.disturbed { self.random(8) } else { 8 } {
                        0 => self.publish_some().await,
                        1 => self.archive().await,
                        _ => {}
                    }
                    rest.end();
                }
            }
        }
    }

    /// Drops the tombstones whose time is over from some of the clean files.
    async fn drop_tombstones(&self) {
        let files = self.log().files().to_vec();
        let clean: Vec<_> = files.into_iter().take_while(|file| file.compacted).collect();
        let files = clean[self.random(1 + clean.len() as u64) as usize..].to_vec();
        let Some(until) = files.last().map(|file| file.end) else { return };
        let before_ms = self.now - TOMBSTONES_MS;
        let Some(retention) = self.context.shard.state().topic(self.topic).map(|topic| topic.settings.retention) else {
            return;
        };
        let (topic, partition) = (self.topic, Partition(0));
        let job = CompactJob { topic, partition, dirty_from: until, until, files, retention };
        let breaks = Breaks::new(Duration::MAX).0;
        run(&self.context, &job, self.now, self.random(u64::MAX), &breaks).await.unwrap();
        let log = self.log();
        let done = log.files().iter().filter(|file| job.files[0].first <= file.first && file.end <= until);
        assert!(done.filter_map(|file| file.oldest_tombstone_ms).all(|oldest| oldest >= before_ms));
    }

    /// Every message that is there: those of files, and those of runs. Files must hold what they say.
    async fn read(&self) -> BTreeMap<u64, Message> {
        let log = self.log();
        let place = FilePlace { name: TopicName::new("t").unwrap(), topic: self.topic, partition: Partition(0) };
        let (context, retention, breaks) = (&self.context, Retention::default(), Breaks::new(Duration::MAX).0);
        let compaction = Compaction { context, place, retention, tombstones_before_ms: 0, seed: 0, breaks: &breaks };
        let mut there = BTreeMap::new();
        let mut take = |messages: &brigade_index::batch::Messages, row: usize, offset: u64| {
            let key = messages.key(row).map(|key| key[0]);
            let message = (key, messages.value(row).map(<[u8]>::to_vec), messages.timestamps()[row]);
            assert!(there.insert(offset, message).is_none(), "offset {offset} is there twice");
        };
        for file in log.files() {
            let source = compaction.open(file).await.unwrap();
            let mut rows_read = 0;
            for block in 0..source.footer.blocks().len() {
                let rows = compaction.rows(&source, block).await.unwrap();
                (0..rows.messages.rows()).for_each(|row| take(&rows.messages, row, rows.offsets[row]));
                rows_read += rows.messages.rows() as u64;
                let keys = compaction.keys(&source, block).await.unwrap();
                assert_eq!(keys.offsets, rows.offsets);
                assert!(keys.keys.iter().eq((0..rows.messages.rows()).map(|row| rows.messages.key(row))));
            }
            assert_eq!(rows_read, file.rows);
        }
        for run in log.runs() {
            let messages = decode(&self.context.shard.fetch(&run.batch).await.unwrap()).unwrap();
            (0..run.rows as usize)
                .for_each(|row| take(&messages, run.first_row as usize + row, run.base.0 + row as u64));
        }
        there
    }

    /// What is left is a part of what was published, and means the same.
    async fn check(&self) {
        let there = self.read().await;
        for (offset, message) in &there {
            assert_eq!(*message, self.model[*offset as usize], "offset {offset}");
        }
        let log = self.log();
        assert!(log.runs().iter().all(|run| there.contains_key(&run.base.0)), "what is in the journal stays");
        let mut last = BTreeMap::new();
        let mut fold = BTreeMap::new();
        for (offset, (key, value, _)) in (0..).zip(&self.model) {
            match key {
                None => assert!(there.contains_key(&offset), "offset {offset} has no key"),
                Some(key) => {
                    last.insert(*key, offset);
                    fold.insert(*key, value.clone());
                }
            }
        }
        let mut left = BTreeMap::new();
        for (key, value, _) in there.values() {
            if let Some(key) = key {
                left.insert(*key, value.clone());
            }
        }
        let living = |fold: &BTreeMap<u8, Option<Vec<u8>>>| {
            fold.iter().filter_map(|(key, value)| Some((*key, value.clone()?))).collect::<Vec<_>>()
        };
        assert_eq!(living(&left), living(&fold), "the last values of all keys");
        for (key, offset) in last {
            let (_, value, time) = &self.model[offset as usize];
            let old_tombstone = value.is_none() && *time < self.now - TOMBSTONES_MS;
            assert!(old_tombstone || there.contains_key(&offset), "the newest message of key {key}");
        }
        let clean = log.files().iter().take_while(|file| file.compacted);
        let clean_end = clean.last().map_or(0, |file| file.end.0);
        assert!(log.files_from(Offset(clean_end)).iter().all(|file| !file.compacted));
        let mut keys: Vec<_> = there.range(..clean_end).filter_map(|(_, (key, ..))| *key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key is there twice in what is compacted");
    }
}

async fn random_steps(seed: u64, memory_bytes: usize) -> (usize, usize) {
    let mut bench = Bench::new(seed, memory_bytes).await;
    let mut compactions = 0;
    bench.disturbed = true;
    for _ in 0..40 {
        match bench.random(7) {
            0..=2 => bench.publish_some().await,
            3 => bench.archive().await,
            4 => bench.merge().await,
            5 => bench.drop_tombstones().await,
            _ => {
                let dirty = 1 + bench.random(3) as usize;
                compactions += usize::from(bench.compact(dirty).await);
            }
        }
        bench.check().await;
    }
    bench.disturbed = false;
    bench.archive().await;
    // With little memory each compaction may take only some of the dirty files, but at least one.
    for _ in 0..bench.log().files().len() {
        compactions += usize::from(bench.compact(usize::MAX).await);
        bench.check().await;
    }
    assert!(bench.log().files().iter().all(|file| file.compacted) && bench.log().runs().is_empty());
    (compactions, bench.model.len() - bench.read().await.len())
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_the_last_message_of_each_key() {
    let (mut compactions, mut dropped) = (0, 0);
    for seed in 0..5 {
        let (more, lost) = random_steps(seed, 64 << 20).await;
        (compactions, dropped) = (compactions + more, dropped + lost);
    }
    assert!(compactions >= 10 && dropped >= 300, "{compactions} compactions dropped {dropped} messages");
}

/// Room for six keys: every file takes several passes, and dirty parts end early.
#[tokio::test(start_paused = true)]
async fn compaction_does_with_little_memory() {
    let (mut compactions, mut dropped) = (0, 0);
    for seed in 100..103 {
        let (more, lost) = random_steps(seed, KEYS_SHARE * 8 * 24).await;
        (compactions, dropped) = (compactions + more, dropped + lost);
    }
    assert!(compactions >= 6 && dropped >= 150, "{compactions} compactions dropped {dropped} messages");
}

#[tokio::test(start_paused = true)]
async fn files_that_lose_nothing_stay_and_those_that_lose_everything_go() {
    let mut bench = Bench::new(1, 64 << 20).await;
    let value = |number: u8| Some(vec![number]);
    bench.publish(vec![(Some(1), value(1), 1), (Some(2), value(1), 1)]).await;
    bench.archive().await;
    bench.publish(vec![(Some(3), value(1), 1)]).await;
    bench.archive().await;
    assert!(bench.compact(2).await);
    let before: Vec<_> = bench.log().files().iter().map(|file| file.id).collect();
    bench.publish(vec![(Some(3), value(2), 2), (Some(4), None, 2)]).await;
    bench.archive().await;
    bench.now = 2 + TOMBSTONES_MS;
    assert!(bench.compact(1).await);
    let files = bench.log().files().to_vec();
    assert_eq!((files.len(), files[0].id), (2, before[0]), "the first is as it was, the second has nothing left");
    assert_eq!(bench.read().await.keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4], "the tombstone is not old yet");
    bench.publish(vec![(Some(3), value(3), 3)]).await;
    bench.archive().await;
    bench.now += 1;
    assert!(bench.compact(1).await);
    assert_eq!(bench.read().await.keys().copied().collect::<Vec<_>>(), [0, 1, 5], "now it is");
    assert!(!bench.compact(1).await, "nothing is dirty");
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_whose_time_is_over_goes_with_nothing_dirty() {
    let mut bench = Bench::new(3, 64 << 20).await;
    let value = |number: u8| Some(vec![number]);
    for messages in [vec![(Some(1), value(1), 1)], vec![(Some(2), None, 2), (Some(3), value(1), 2), (None, None, 2)]] {
        bench.publish(messages).await;
        bench.archive().await;
    }
    bench.publish(vec![(Some(4), None, 60)]).await;
    bench.archive().await;
    assert!(bench.compact(3).await);
    let before = bench.log().files().to_vec();
    assert_eq!(before.iter().map(|file| file.oldest_tombstone_ms).collect::<Vec<_>>(), [None, Some(2), Some(60)]);
    bench.now = 2 + TOMBSTONES_MS + 1;
    let settings = PlanSettings::default();
    let mut planned = plan(&bench.context.shard.state(), bench.now, &settings, Demand::All);
    let Some(Job::Compact(job)) = planned.jobs.pop() else { panic!("{planned:?}") };
    run(&bench.context, &job, bench.now, 1, &Breaks::new(Duration::MAX).0).await.unwrap();
    assert_eq!(bench.read().await.keys().copied().collect::<Vec<_>>(), [0, 2, 3, 4], "that of key 2");
    let files = bench.log().files().to_vec();
    assert_eq!((files[0].id, files[2].id), (before[0].id, before[2].id), "the others are as they were");
    assert_eq!((files[1].rows, files[1].oldest_tombstone_ms), (2, None), "without a key it is none");
    assert!(plan(&bench.context.shard.state(), bench.now, &settings, Demand::All).is_empty());
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_compaction_goes_around_what_retention_drops_and_stops_at_what_was_replaced() {
    let mut bench = Bench::new(2, 64 << 20).await;
    for _ in 0..3 {
        bench.publish(vec![(Some(1), Some(vec![1]), 1)]).await;
        bench.archive().await;
    }
    let job = bench.job(3).unwrap();
    let retention = job.retention;
    let trim = Trim { topic: bench.topic, partition: Partition(0), to: Offset(1), acknowledged: false, retention };
    bench.context.shard.propose(vec![Command::Trim(trim)]).await.unwrap();
    run(&bench.context, &job, bench.now, 1, &Breaks::new(Duration::MAX).0).await.unwrap();
    assert_eq!(bench.read().await.keys().copied().collect::<Vec<_>>(), [2]);
    let error = run(&bench.context, &job, bench.now, 1, &Breaks::new(Duration::MAX).0).await.unwrap_err();
    assert!(error.is_superseded(), "{error}");
    assert!(bench.context.shard.state().archive.claims().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_compaction_leaves_everything_once_its_topic_keeps_more() {
    let mut bench = Bench::new(7, 64 << 20).await;
    for _ in 0..3 {
        bench.publish(vec![(Some(1), Some(vec![1]), 1)]).await;
        bench.archive().await;
    }
    let job = bench.job(3).unwrap();
    let retention = RetentionPatch { compaction_lag_ms: Some(60_000), ..RetentionPatch::default() };
    let patch = SettingsPatch { retention, ..SettingsPatch::default() };
    bench.context.shard.propose(vec![Command::AlterTopic { topic: bench.topic, patch }]).await.unwrap();
    let error = run(&bench.context, &job, bench.now, 1, &Breaks::new(Duration::MAX).0).await.unwrap_err();
    assert!(error.is_superseded(), "{error}");
    assert_eq!(bench.read().await.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(bench.context.shard.state().archive.claims().is_empty());
}
