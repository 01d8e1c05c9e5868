//! Other programs read the archive straight from the store: pyarrow, DuckDB, Polars, DataFusion and pyiceberg, with the
//! queries that `docs/archive.md` shows.
//!
//! Needs Python, and the engines from PyPI the first time; without them it is skipped, and with
//! `BRIGADE_REQUIRE_ENGINES=1` it fails.

use std::{
    borrow::Cow,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command as Program,
    sync::Arc,
};

use brigade_compactor::views;
use brigade_index::{
    archive::{FileHead, FileWriter, WriterSettings},
    batch::{self, Attributes, Columns, Compression, MessageRef, Messages, ValueKind},
    command::{Archived, BatchRef, Claim, ClaimPart, Command, Outcome, Publish, Replace, TopicSettings},
    env::Env,
    format::checksum,
    founding::{self, Opener},
    ids::{Offset, Partition, ShardId, TopicId},
    limits::DEFAULT_WINDOW,
    names::{RegionName, TopicName},
    shard::{OnDone, Proposal, Shard, ShardConfig},
    store::{self, Component, RegionStore, StoreMetrics, StoreOptions, StoreTiming},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Exit code of a program that lacks what it needs.
const MISSING: i32 = 77;

/// A day of which every message has a timestamp.
const START_MS: i64 = 1_750_000_000_000;

/// A message with its own strings.
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kind: ValueKind,
    headers: Vec<(String, String)>,
    timestamp_ms: i64,
    group: Option<String>,
    priority: Option<u8>,
    deliver_at_ms: Option<i64>,
    expires_at_ms: Option<i64>,
}

impl Owned {
    /// Message `number` of a partition: of every kind, with and without everything.
    fn new(number: usize) -> Self {
        let (kind, value) = match number % 4 {
            0 => (ValueKind::Text, Some(format!("größe {number}").into_bytes())),
            1 => (ValueKind::Json, Some(format!("{{\"number\":{number},\"price\":{}}}", number % 100).into_bytes())),
            2 => (ValueKind::Binary, Some(vec![0xff, 0, number as u8])),
            _ => (ValueKind::Binary, None),
        };
        let header = |name: &str, value: String| (name.to_owned(), value);
        let headers = match number % 5 {
            0 => Vec::new(),
            1 => vec![header("trace", format!("t{number}"))],
            // Names may repeat.
            _ => vec![header("a", "1".to_owned()), header("b", number.to_string()), header("a", "2".to_owned())],
        };
        let timestamp_ms = START_MS + number as i64 * 10;
        let rare = number.is_multiple_of(7);
        Self {
            key: (!number.is_multiple_of(3)).then(|| format!("customer-{}", number % 50).into_bytes()),
            value,
            kind,
            headers,
            timestamp_ms,
            group: rare.then(|| format!("group-{}", number % 3)),
            priority: rare.then_some((number % 10) as u8),
            deliver_at_ms: rare.then_some(timestamp_ms + 1_000),
            expires_at_ms: rare.then_some(timestamp_ms + 2_000),
        }
    }

    fn push_to(&self, columns: &mut Columns) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
        columns.push(&MessageRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            kind: self.kind,
            headers: &headers,
            timestamp_ms: self.timestamp_ms,
            attributes: Attributes {
                group: self.group.as_deref(),
                priority: self.priority,
                deliver_at_ms: self.deliver_at_ms,
                expires_at_ms: self.expires_at_ms,
            },
        });
    }

    /// As an engine is to see it; bytes in hexadecimal.
    fn expected(&self, partition: u32, offset: usize) -> Value {
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let kind = ["text", "json", "binary"][self.kind as usize];
        json!({
            "partition": partition, "offset": offset, "timestamp": self.timestamp_ms,
            "key": self.key.as_ref().map(hex), "value": self.value.as_ref().map(hex), "kind": kind,
            "headers": self.headers, "group": self.group, "priority": self.priority,
            "deliver_at": self.deliver_at_ms, "expires_at": self.expires_at_ms,
        })
    }
}

async fn shard_in(directory: &Path) -> Shard {
    let env = Env::system();
    let (metrics, of) = (StoreMetrics::new(), env.clone());
    let opener: Opener = Arc::new(move |name, url| {
        let store = store::open(url, &StoreOptions::default())?;
        Ok(RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), of.clone()))
    });
    let region = (RegionName::new("local").unwrap(), format!("file://{}", directory.display()));
    let cluster = founding::join(&[region], opener, &env).await.unwrap();
    let (node, address) = ("n".to_owned(), "http://n".to_owned());
    let config = ShardConfig { shard: ShardId(0), node, address, window: DEFAULT_WINDOW };
    Shard::start(config, cluster, env, &TaskTracker::new()).await.unwrap()
}

async fn propose(shard: &Shard, command: Command) -> Outcome {
    shard.propose(vec![command]).await.unwrap().outcomes.remove(0).unwrap()
}

async fn publish(shard: &Shard, topic: TopicId, partition: Partition, messages: &[Owned]) {
    let mut columns = Columns::default();
    messages.iter().for_each(|message| message.push_to(&mut columns));
    let record = columns.into_record_batch();
    let rows = Messages::new(record.clone()).unwrap();
    let used = (0..messages.len()).map(|row| rows.attributes(row).set());
    let bytes = batch::encode(&record, Compression::Lz4).unwrap();
    let batch = BatchRef {
        partition,
        at: 0,
        len: bytes.len() as u32,
        crc: checksum(&bytes),
        rows: messages.len() as u32,
        payload_bytes: 1,
        min_timestamp_ms: messages[0].timestamp_ms,
        max_timestamp_ms: messages[messages.len() - 1].timestamp_ms,
        owned: Vec::new(),
        attributes: used.reduce(|one, other| one.union(other)).unwrap(),
        ids: Vec::new(),
    };
    let publish = Command::Publish(Publish { topic, requests: Vec::new(), batches: vec![batch] });
    let (sent, answered) = oneshot::channel();
    let done: OnDone = Box::new(move |result| sent.send(result).unwrap());
    shard.submit(Proposal { commands: vec![publish], body: vec![bytes], done }).await;
    answered.await.unwrap().unwrap();
}

/// Archives everything in a partition that is not archived yet, in one file.
async fn archive(shard: &Shard, name: &TopicName, topic: TopicId, partition: Partition) {
    let log = shard.state().topic(topic).unwrap().partition(partition).unwrap().clone();
    let part = ClaimPart { topic, partition, first: log.archived_end(), end: log.high_watermark };
    let claimed = propose(shard, Command::Claim(Claim { owner: shard.ballot(), parts: vec![part] })).await;
    let Outcome::Claimed(ids) = claimed else { panic!("{claimed:?}") };
    let head = FileHead {
        cluster: shard.cluster_id().to_owned(),
        topic: name.clone(),
        topic_id: topic,
        partition,
        id: ids[0],
        first: part.first,
        end: part.end,
    };
    // Small row groups and pages: several of them in every file.
    let settings = WriterSettings { row_group_rows: 700, page_bytes: 1024, ..WriterSettings::default() };
    let mut writer = FileWriter::new(head.clone(), &settings).unwrap();
    for run in log.runs() {
        let messages = batch::decode(&shard.fetch(&run.batch).await.unwrap()).unwrap();
        let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
        writer.push(&messages, rows, run.base).unwrap();
    }
    let (bytes, written) = writer.finish().unwrap();
    let regions = shard.regions();
    let file = written.file(&head, 0, false, regions.iter().map(|region| region.record.number).collect());
    let key = file.key(name, topic, partition);
    for region in &regions {
        region.store.overwrite(Component::Compactor, &key, Bytes::clone(&bytes).into()).await.unwrap();
    }
    let archived = Archived { id: ids[0], file: Some(file), compacted: None };
    assert_eq!(propose(shard, Command::Replace(Replace { parts: vec![archived] })).await, Outcome::Done);
}

/// Runs the engines on the archive; says so if there are none.
fn run_engines(scratch: &Path, store: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/run.sh");
    let url = format!("file://{}", store.display());
    let output = Program::new(script).arg(scratch).arg(url).output().expect("bash");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(MISSING) {
        assert_ne!(env::var("BRIGADE_REQUIRE_ENGINES").as_deref(), Ok("1"), "no engines: {said}");
        // Not through print!, which a passing test does not show.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: no engines to read the archive with: {said}\n");
        return;
    }
    println!("{said}");
    assert!(output.status.success(), "{}: {said}", output.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_read_a_topic_straight_from_the_store() {
    let scratch = tempfile::TempDir::with_prefix("brigade-engines-").unwrap();
    let store: PathBuf = scratch.path().join("data");
    let shard = shard_in(&store).await;
    let name = TopicName::new("orders").unwrap();
    let settings = TopicSettings { partitions: 3, ..TopicSettings::default() };
    let created = propose(&shard, Command::CreateTopic { name: name.clone(), settings }).await;
    let Outcome::TopicCreated(topic) = created else { panic!("{created:?}") };
    let mut expected = Vec::new();
    // Two files in the first partition, one in the second, none in the third.
    for (partition, archived) in [(0, &[1_000, 900][..]), (1, &[500])] {
        let mut next = 0;
        for rows in archived {
            let messages: Vec<_> = (next..next + rows).map(Owned::new).collect();
            expected.extend((next..).zip(&messages).map(|(offset, message)| message.expected(partition, offset)));
            for some in messages.chunks(300) {
                publish(&shard, topic, Partition(partition), some).await;
            }
            archive(&shard, &name, topic, Partition(partition)).await;
            next += rows;
        }
    }
    // Not archived: no engine sees it.
    publish(&shard, topic, Partition(2), &[Owned::new(1)]).await;
    views::publish(&shard, topic).await.unwrap();
    assert_eq!(shard.state().topic(topic).unwrap().partitions[0].archived_end(), Offset(1_900));
    fs::write(scratch.path().join("expected.json"), Value::Array(expected).to_string()).unwrap();
    run_engines(scratch.path(), &store);
    shard.shutdown().await;
}
