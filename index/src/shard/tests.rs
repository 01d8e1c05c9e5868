//! The driver against a store in memory: recovery, fencing, outages.

mod change;
mod regions;
mod takeover;
mod truncate;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{ObjectStore, memory::InMemory};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    batch::{self, Columns, MessageRef, ValueKind},
    command::{BatchRef, IdempotentRequest, Identity, Outcome, OwnedRows, Publish, RequestOutcome, TopicSettings},
    format::checksum,
    founding,
    limits::DEFAULT_WINDOW,
    names::{ProducerId, RegionName, TopicName},
    store::{RegionStore, StoreMetrics, StoreTiming},
};

type Store = Arc<dyn ObjectStore>;

/// Opens regions by name out of these stores.
fn opener(stores: &[(&str, Store)], env: &Env) -> Opener {
    let stores: BTreeMap<String, Store> =
        stores.iter().map(|(name, store)| ((*name).to_owned(), store.clone())).collect();
    let (env, metrics) = (env.clone(), StoreMetrics::new());
    Arc::new(move |name, _| {
        let store = stores[name.as_str()].clone();
        Ok(RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), env.clone()))
    })
}

fn named(names: &[&str]) -> Vec<(RegionName, String)> {
    names.iter().map(|name| (RegionName::new(name).unwrap(), format!("memory://{name}"))).collect()
}

fn config(node: &str) -> ShardConfig {
    ShardConfig { shard: ShardId(0), node: node.to_owned(), address: format!("http://{node}"), window: DEFAULT_WINDOW }
}

async fn try_start(stores: &[(&str, Store)], node: &str) -> Result<Shard, StartError> {
    let env = Env::system();
    let names: Vec<_> = stores.iter().map(|(name, _)| *name).collect();
    let cluster = founding::join(&named(&names), opener(stores, &env), &env).await.unwrap();
    Shard::start(config(node), cluster, env, &TaskTracker::new()).await
}

async fn start(store: &Store, node: &str) -> Shard {
    try_start(&[("local", store.clone())], node).await.unwrap()
}

async fn create_topic(shard: &Shard, name: &str) -> TopicId {
    let command = Command::CreateTopic { name: TopicName::new(name).unwrap(), settings: TopicSettings::default() };
    match shard.propose(vec![command]).await.unwrap().outcomes.as_slice() {
        [Ok(Outcome::TopicCreated(id))] => *id,
        other => panic!("{other:?}"),
    }
}

fn publish_of(topic: TopicId, text: &str, sequence: Option<u64>) -> (Command, Bytes) {
    let mut columns = Columns::default();
    let value = Some(text.as_bytes());
    columns.push(&MessageRef {
        key: None,
        value,
        kind: ValueKind::Text,
        headers: &[],
        timestamp_ms: 1,
        attributes: batch::Attributes::default(),
    });
    let bytes = batch::encode(&columns.into_record_batch(), batch::Compression::Lz4).unwrap();
    let identity = sequence.map(|sequence| Identity::Producer(ProducerId::new("p").unwrap(), sequence));
    let owned = identity.iter().map(|_| OwnedRows { first: 0, rows: 1, request: 0 }).collect();
    let batch = BatchRef {
        partition: Partition(0),
        at: 0,
        len: bytes.len() as u32,
        crc: checksum(&bytes),
        rows: 1,
        payload_bytes: text.len() as u64,
        min_timestamp_ms: 1,
        max_timestamp_ms: 1,
        owned,
        attributes: batch::AttributeSet::default(),
        ids: Vec::new(),
    };
    let request = |identity| IdempotentRequest { identity, partition_count: 1, keyless: Partition(0) };
    let requests = identity.into_iter().map(request).collect();
    (Command::Publish(Publish { topic, requests, batches: vec![batch] }), bytes)
}

async fn submit(shard: &Shard, command: Command, body: Bytes) -> Result<Committed, ProposeError> {
    let (answer, answered) = oneshot::channel();
    let done: OnDone = Box::new(move |result| answer.send(result).unwrap());
    shard.submit(Proposal { commands: vec![command], body: vec![body], done }).await;
    answered.await.unwrap()
}

async fn publish(shard: &Shard, topic: TopicId, text: &str, sequence: Option<u64>) -> (u64, bool) {
    let (command, bytes) = publish_of(topic, text, sequence);
    let committed = submit(shard, command, bytes).await.unwrap();
    let Ok(Outcome::Published(published)) = &committed.outcomes[0] else { panic!("{committed:?}") };
    match published.requests.first() {
        Some(RequestOutcome::Duplicate(placement)) => (placement.bases[0].1.0, true),
        _ => (published.batches[0][0].base.0, false),
    }
}

async fn read_all(shard: &Shard, topic: TopicId) -> Vec<String> {
    let runs = shard.state().topic(topic).unwrap().partitions[0].runs().to_vec();
    let mut texts = Vec::new();
    for run in runs {
        let messages = batch::decode(&shard.fetch(&run.batch).await.unwrap()).unwrap();
        let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
        texts.extend(rows.map(|row| String::from_utf8(messages.value(row).unwrap().to_vec()).unwrap()));
    }
    texts
}

fn memory() -> Store {
    Arc::new(InMemory::new())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_restarts_with_and_without_snapshots() {
    let store = memory();
    let mut expected = Vec::new();
    let mut topic = None;
    for round in 0..6 {
        let shard = start(&store, "a").await;
        let id = match topic {
            None => *topic.insert(create_topic(&shard, "t").await),
            Some(id) => id,
        };
        assert_eq!(read_all(&shard, id).await, expected, "round {round}");
        for message in 0..20 {
            let text = format!("{round}-{message}");
            assert_eq!(publish(&shard, id, &text, None).await, (expected.len() as u64, false));
            expected.push(text);
            if round % 2 == 1 && message == 10 {
                assert_eq!(shard.snapshot().await.unwrap(), shard.status().committed);
            }
        }
        // Dropped without a word, as a crash would.
    }
}

#[tokio::test]
async fn a_second_leader_fences_the_first() {
    let store = memory();
    let first = start(&store, "first").await;
    let topic = create_topic(&first, "t").await;
    publish(&first, topic, "before", None).await;
    let second = start(&store, "second").await;
    let (command, bytes) = publish_of(topic, "zombie", None);
    let error = submit(&first, command, bytes).await.unwrap_err();
    assert!(matches!(&error, ProposeError::NotLeader { leader: Some(leader) } if leader.node == "second"), "{error}");
    assert_eq!(first.status().state, "deposed");
    assert!(first.ready().is_err());
    publish(&second, topic, "after", None).await;
    assert_eq!(read_all(&second, topic).await, ["before", "after"]);
    drop(second);
    let third = start(&store, "third").await;
    assert_eq!(read_all(&third, topic).await, ["before", "after"]);
}

/// What a leader that was overtaken misses may have been deleted by its successor.
#[tokio::test]
async fn only_who_leads_says_that_an_object_is_damaged() {
    let store = memory();
    let first = start(&store, "first").await;
    let (key, regions) = (object_store::path::Path::from("archive/gone"), [RegionNo(0)]);
    let read = || first.fetch_file(crate::store::Component::Read, &key, &regions, 0..4);
    assert!(matches!(read().await, Err(FetchError::Damaged { .. })));
    let _second = start(&store, "second").await;
    let error = read().await.unwrap_err();
    assert!(matches!(&error, FetchError::Unavailable(problem) if problem.contains("second")), "{error}");
}

#[tokio::test]
async fn a_retry_after_a_restart_is_stored_once() {
    let store = memory();
    let shard = start(&store, "a").await;
    let topic = create_topic(&shard, "t").await;
    assert_eq!(publish(&shard, topic, "one", Some(1)).await, (0, false));
    assert_eq!(publish(&shard, topic, "two", Some(2)).await, (1, false));
    assert_eq!(publish(&shard, topic, "one", Some(1)).await, (0, true));
    shard.snapshot().await.unwrap();
    drop(shard);
    let shard = start(&store, "b").await;
    assert_eq!(publish(&shard, topic, "two", Some(2)).await, (1, true));
    assert_eq!(publish(&shard, topic, "three", Some(3)).await, (2, false));
    assert_eq!(read_all(&shard, topic).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn snapshot_and_journal_give_the_live_state() {
    let store = memory();
    let shard = start(&store, "a").await;
    let topic = create_topic(&shard, "t").await;
    for message in 0..30 {
        publish(&shard, topic, &message.to_string(), Some(message)).await;
        if message == 17 {
            shard.snapshot().await.unwrap();
        }
    }
    let live = shard.state().clone();
    let id = crate::ids::WriteId(7);
    let copy = crate::format::decode_snapshot(&crate::format::encode_snapshot(&live, id)).unwrap();
    assert_eq!(copy, live, "I13");
    shard.shutdown().await;
    let again = start(&store, "b").await;
    let recovered = again.state().topic(topic).unwrap().clone();
    let live = live.topic(topic).unwrap();
    assert_eq!(recovered.dedup, live.dedup, "I13");
    let offsets = |topic: &crate::state::Topic| {
        let runs = topic.partitions[0].runs().iter();
        runs.map(|run| (run.base, run.rows, run.batch.sequence, run.batch.crc)).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&recovered), offsets(live), "I13");
}

#[tokio::test]
async fn who_waits_wakes_when_a_partition_grows_when_one_is_added_and_when_the_topic_goes() {
    let store = memory();
    let shard = start(&store, "a").await;
    let topic = create_topic(&shard, "t").await;
    let waiting = tokio::spawn(shard.grown_past(topic, Partition(0), Offset(0)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    publish(&shard, topic, "x", None).await;
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    let partitions = shard.state().topic(topic).unwrap().settings.partitions;
    let waiting = tokio::spawn(shard.has_partition(topic, Partition(partitions)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    let patch = crate::command::SettingsPatch { partitions: Some(partitions + 2), ..Default::default() };
    shard.propose(vec![Command::AlterTopic { topic, patch }]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    let waiting = tokio::spawn(shard.grown_past(topic, Partition(0), Offset(1)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    shard.propose(vec![Command::DeleteTopic { topic }]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_mark_that_a_former_leader_wrote_last_does_not_stop_snapshots() {
    let store = memory();
    let first = start(&store, "first").await;
    let topic = create_topic(&first, "t").await;
    publish(&first, topic, "one", None).await;
    let second = start(&store, "second").await;
    publish(&second, topic, "two", None).await;
    // The first does not know yet that it was deposed; its mark is good for everything before the takeover.
    let before = first.snapshot().await.unwrap();
    assert_eq!(second.snapshot().await.unwrap(), before, "the second learns of the mark");
    assert_eq!(second.snapshot().await.unwrap(), second.status().committed);
    publish(&second, topic, "three", None).await;
    second.snapshot().await.unwrap();
    drop(second);
    let third = start(&store, "third").await;
    assert_eq!(read_all(&third, topic).await, ["one", "two", "three"]);
}
