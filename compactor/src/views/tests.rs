//! Views of a shard whose archive files are only claimed to exist: no view reads them.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field};
use brigade_index::{
    archive::{ArchiveFile, SetHash, archive_schema},
    batch::AttributeSet,
    command::{Archived, BatchRef, Claim, ClaimPart, Command, Located, Outcome, Publish, Replace, TopicSettings},
    env::Env,
    founding::{self, Opener},
    ids::{FileId, Offset, Partition, RegionNo, ShardId},
    limits::DEFAULT_WINDOW,
    names::RegionName,
    shard::{Proposal, ShardConfig},
    store::{StoreMetrics, StoreTiming, fault::FaultStore},
};
use object_store::memory::InMemory;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::*;

const PARTITION: Partition = Partition(1);

/// A shard in regions `a`, `b` and `c`, and the stores of the first two.
async fn start() -> (Shard, [FaultStore; 2]) {
    let env = Env::simulated(7, 1_700_000_000_000);
    let stores = [(); 3].map(|()| FaultStore::new(Arc::new(InMemory::new()), 7));
    let (metrics, opened, of) = (StoreMetrics::new(), stores.clone(), env.clone());
    let opener: Opener = Arc::new(move |name, _| {
        let store = Arc::new(opened[usize::from(name.as_str().as_bytes()[0] - b'a')].clone());
        Ok(RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), of.clone()))
    });
    let named = ["a", "b", "c"].map(|name| (RegionName::new(name).unwrap(), format!("s3://bucket-{name}/data/")));
    let cluster = founding::join(&named, opener, &env).await.unwrap();
    let config =
        ShardConfig { shard: ShardId(0), node: "n".to_owned(), address: "http://n".to_owned(), window: DEFAULT_WINDOW };
    let shard = Shard::start(config, cluster, env, &TaskTracker::new()).await.unwrap();
    let [a, b, _] = stores;
    (shard, [a, b])
}

async fn propose(shard: &Shard, command: Command) -> Outcome {
    shard.propose(vec![command]).await.unwrap().outcomes.remove(0).unwrap()
}

/// A topic with ten messages in its second partition.
async fn topic(shard: &Shard) -> (TopicName, TopicId) {
    let name = TopicName::new("orders").unwrap();
    let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
    let created = propose(shard, Command::CreateTopic { name: name.clone(), settings }).await;
    let Outcome::TopicCreated(topic) = created else { panic!("{created:?}") };
    let batch = BatchRef {
        partition: PARTITION,
        at: 0,
        len: 3,
        crc: 0,
        rows: 10,
        payload_bytes: 10,
        min_timestamp_ms: 1,
        max_timestamp_ms: 2,
        owned: Vec::new(),
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    };
    let publish = Command::Publish(Publish { topic, requests: Vec::new(), batches: vec![batch] });
    let (sent, answered) = tokio::sync::oneshot::channel();
    let done: brigade_index::shard::OnDone = Box::new(move |result| sent.send(result).unwrap());
    let body = vec![Bytes::from_static(b"abc")];
    shard.submit(Proposal { commands: vec![publish], body, done }).await;
    answered.await.unwrap().unwrap();
    (name, topic)
}

/// Puts one file, in these regions, in the place of all messages.
async fn archive(shard: &Shard, topic: TopicId, regions: &[u16]) -> FileId {
    let part = ClaimPart { topic, partition: PARTITION, first: Offset(0), end: Offset(10) };
    let claimed = propose(shard, Command::Claim(Claim { owner: shard.ballot(), parts: vec![part] })).await;
    let Outcome::Claimed(ids) = claimed else { panic!("{claimed:?}") };
    let file = ArchiveFile {
        id: ids[0],
        first: Offset(0),
        end: Offset(10),
        rows: 10,
        bytes: 4_711,
        payload_bytes: 10,
        crc: 0xabc,
        set_hash: SetHash(0xdef),
        min_timestamp_ms: 1,
        max_timestamp_ms: 2,
        attributes: AttributeSet::default(),
        oldest_tombstone_ms: None,
        merges: 0,
        compacted: false,
        regions: regions.iter().copied().map(RegionNo).collect(),
    };
    let archived = Archived { id: ids[0], file: Some(file), compacted: None };
    propose(shard, Command::Replace(Replace { parts: vec![archived] })).await;
    ids[0]
}

/// Numbers of the first two regions.
fn numbers(shard: &Shard) -> [u16; 2] {
    let number = |name: &str| {
        let regions = shard.regions();
        regions.iter().find(|region| region.record.name.as_str() == name).unwrap().record.number.0
    };
    [number("a"), number("b")]
}

/// All objects of the archive in a store.
async fn objects(store: &FaultStore) -> BTreeMap<String, Bytes> {
    use futures::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt};
    let listed: Vec<_> = store.inner().list(Some(&keys::archives())).try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for object in listed {
        let bytes = store.inner().get(&object.location).await.unwrap().bytes().await.unwrap();
        objects.insert(object.location.to_string(), bytes);
    }
    objects
}

async fn latest(store: &FaultStore, name: &TopicName) -> Value {
    serde_json::from_slice(&objects(store).await[keys::latest(name).as_ref()]).unwrap()
}

#[tokio::test]
async fn a_region_lists_what_it_holds_and_says_what_it_misses() {
    let (shard, [a, b]) = start().await;
    let (name, topic) = topic(&shard).await;
    assert_eq!(publish(&shard, topic).await.unwrap(), 0);
    assert!(objects(&a).await.is_empty(), "nothing was archived");
    let [one, other] = numbers(&shard);
    // The third region has it, too: fewer than a quorum are refused.
    let file = archive(&shard, topic, &[one, 2]).await;
    assert_eq!(publish(&shard, topic).await.unwrap(), 1);
    let key = format!("archive/orders/{topic}/00001/00000000000000000000-{:012}.parquet", file.0);
    let (in_a, in_b) = (latest(&a, &name).await, latest(&b, &name).await);
    assert_eq!((in_a["complete"].as_bool(), in_b["complete"].as_bool()), (Some(true), Some(false)));
    assert_eq!(in_a["files"][0]["url"], format!("s3://bucket-a/data/{key}"));
    assert_eq!(in_a["files"][0]["crc32c"], "00000abc");
    assert_eq!(in_a["partitions"][1]["archived_end"], 10);
    assert_eq!((in_b["files"].as_array().unwrap().len(), &in_b["missing"][0]["key"]), (0, &key.clone().into()));
    let located = Located { region: RegionNo(other), files: vec![(topic, PARTITION, file)] };
    propose(&shard, Command::Located(located)).await;
    assert_eq!(publish(&shard, topic).await.unwrap(), 2);
    let in_b = latest(&b, &name).await;
    assert_eq!((in_b["complete"].as_bool(), &in_b["archive_version"]), (Some(true), &2.into()));
    assert_eq!(in_b["files"][0]["url"], format!("s3://bucket-b/data/{key}"));
    assert_eq!(in_b["iceberg"], format!("s3://bucket-b/data/archive/orders/{topic}/metadata/v2.metadata.json"));
}

#[tokio::test]
async fn a_version_is_the_same_bytes_and_ten_versions_stay() {
    let (shard, [a, _]) = start().await;
    let (name, topic) = topic(&shard).await;
    for _ in 0..13 {
        archive(&shard, topic, &numbers(&shard)).await;
        publish(&shard, topic).await.unwrap();
    }
    let before = objects(&a).await;
    publish(&shard, topic).await.unwrap();
    assert_eq!(objects(&a).await, before);
    let kept: BTreeSet<_> =
        before.keys().filter_map(|key| keys::parse_table_version(&name, topic, &key.as_str().into())).collect();
    assert_eq!(kept, (4..=13).collect());
    assert_eq!(before[keys::version_hint(&name, topic).as_ref()], "13");
    // Table, list of manifests, and manifest of each; the hint; latest.json.
    assert_eq!(before.len(), 3 * 10 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_away_is_named_and_the_other_one_is_served() {
    let (shard, [a, b]) = start().await;
    let (name, topic) = topic(&shard).await;
    archive(&shard, topic, &numbers(&shard)).await;
    b.set_unreachable(true);
    let error = publish(&shard, topic).await.unwrap_err();
    assert_eq!(error.failed.len(), 1);
    assert!(error.to_string().contains("in region b"), "{error}");
    assert_eq!(latest(&a, &name).await["archive_version"], 1);
    assert!(objects(&b).await.is_empty());
    b.set_unreachable(false);
    publish(&shard, topic).await.unwrap();
    assert_eq!(latest(&b, &name).await["archive_version"], 1);
}

#[tokio::test]
async fn views_of_a_deleted_topic_go_but_not_those_of_its_successor() {
    let (shard, [a, _]) = start().await;
    let (name, first) = topic(&shard).await;
    archive(&shard, first, &numbers(&shard)).await;
    publish(&shard, first).await.unwrap();
    propose(&shard, Command::DeleteTopic { topic: first }).await;
    let (_, second) = topic(&shard).await;
    archive(&shard, second, &numbers(&shard)).await;
    publish(&shard, second).await.unwrap();
    remove(&shard, &name, first).await.unwrap();
    assert_eq!(latest(&a, &name).await["topic_id"], second.0);
    let keys: Vec<_> = objects(&a).await.into_keys().collect();
    assert!(keys.iter().all(|key| !key.starts_with(keys::archive_of(&name, first).as_ref())), "{keys:?}");
    propose(&shard, Command::DeleteTopic { topic: second }).await;
    remove(&shard, &name, second).await.unwrap();
    assert!(objects(&a).await.is_empty());
}

#[test]
fn the_table_has_the_columns_of_the_files() {
    let schema = archive_schema();
    let id = |field: &Field| -> i64 { field.metadata()["PARQUET:field_id"].parse().unwrap() };
    let kind = |field: &Field| match field.data_type() {
        DataType::Int32 => "int".into(),
        DataType::Int64 => "long".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Binary => "binary".into(),
        DataType::Utf8 => "string".into(),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
            json!({
                "type": "map", "key": "string", "key-id": id(&pair[0]),
                "value": "string", "value-id": id(&pair[1]), "value-required": !pair[1].is_nullable(),
            })
        }
        other => panic!("{other}"),
    };
    let columns = schema.fields().iter().map(
        |field| json!({"id": id(field), "name": field.name(), "required": !field.is_nullable(), "type": kind(field)}),
    );
    assert_eq!(schemas::table()["fields"], Value::Array(columns.collect()));
    let text = schemas::table().to_string();
    let ids = text.split("id\":").skip(1).map(|rest| rest.split([',', '}']).next().unwrap().parse().unwrap());
    assert_eq!(ids.max(), Some(schemas::LAST_COLUMN));
}
