//! Scenario `recovery`: how long a node takes to lead on a long journal of which there is no snapshot.

use std::{fs, path::Path, sync::Arc};

use brigade_index::{
    batch::{AttributeSet, Attributes, Columns, Compression, MessageRef, ValueKind, encode},
    command::{BatchRef, Command, Publish, TopicSettings},
    env::Env,
    format::checksum,
    founding::{self, Opener},
    ids::{Partition, ShardId, TopicId},
    limits::DEFAULT_WINDOW,
    names::{RegionName, TopicName},
    shard::{Proposal, Shard, ShardConfig},
    store::{RegionStore, StoreMetrics, StoreTiming},
};
use bytes::Bytes;
use clap::Args;
use object_store::local::LocalFileSystem;
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    Report,
    figures::{largest, median, rounded, smallest},
};
use crate::{
    dataset::log_lines,
    process::{Options, Process},
};

/// Seconds from the start of the process until it leads.
const TARGET: f64 = 5.0;

const TOPIC: &str = "bench";

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct RecoveryArgs {
    /// Messages in the journal
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    messages: u64,
    /// Messages of each entry; several may be given
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,100,10")]
    batches: Vec<u64>,
    /// Regions: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    regions: u32,
    /// Starts of each, by SIGKILL in between
    #[arg(long, value_name = "N", default_value_t = 3)]
    starts: u32,
}

/// Runs the scenario.
pub(super) async fn run(args: &RecoveryArgs) -> Report {
    let mut report = Report { json: json!([]), lines: Vec::new(), met: true };
    let mut rows = Vec::new();
    for batch in &args.batches {
        rows.push(journal(args, *batch, &mut report).await);
    }
    report.json = json!({"scenario": "recovery", "messages": args.messages, "regions": args.regions, "journals": rows});
    report
}

async fn journal(args: &RecoveryArgs, batch: u64, report: &mut Report) -> serde_json::Value {
    let options = Options { args: vec!["--dev-regions".to_owned(), args.regions.to_string()], ..Options::default() };
    let mut node = Process::prepare(options);
    let entries = fill(args, batch, node.data()).await;
    let (mut starts, mut takeovers) = (Vec::new(), Vec::new());
    for _ in 0..args.starts {
        let started = Instant::now();
        node.restart().await;
        starts.push(started.elapsed().as_secs_f64());
        let shards = node.http().get("/v1/shards").await.expect(200).json();
        takeovers.push(shards["shards"][0]["takeover_ms"].as_f64().unwrap_or(f64::NAN) / 1_000.0);
        let last = node.http().read(TOPIC, &format!("partition=0&offset={}", args.messages - 1)).await;
        assert_eq!(last["messages"].as_array().map(Vec::len), Some(1), "the last message is there: {last}");
        node.kill_9();
        forget_snapshots(node.data());
    }
    let met = median(&starts) < TARGET;
    report.met &= met;
    report.lines.push(format!(
        "{} messages in {entries} entries, {} regions: leads {:.2} s after its start (median; best {:.2}, worst {:.2}); \
         the takeover itself {:.2} s{}",
        args.messages,
        args.regions,
        median(&starts),
        smallest(&starts),
        largest(&starts),
        median(&takeovers),
        if met { "" } else { "  <- misses its target" },
    ));
    json!({
        "batch": batch, "entries": entries, "start_seconds": starts.iter().map(|s| rounded(*s)).collect::<Vec<_>>(),
        "takeover_seconds": takeovers.iter().map(|s| rounded(*s)).collect::<Vec<_>>(), "met": met,
    })
}

/// Writes the journal as a leader does that writes no snapshots, but without fsync, to be quick. Gives its entries.
async fn fill(args: &RecoveryArgs, batch: u64, data: &Path) -> u64 {
    let (metrics, env) = (StoreMetrics::new(), Env::system());
    let named: Vec<_> = (1..=args.regions)
        .map(|number| {
            let (name, directory) = (format!("region-{number}"), data.join(format!("region-{number}")));
            fs::create_dir_all(&directory).expect("a directory can be made");
            (RegionName::new(&name).expect("a valid name"), format!("file://{}", directory.display()))
        })
        .collect();
    let around = env.clone();
    let opener: Opener = Arc::new(move |name: &RegionName, url: &str| {
        let directory = url.trim_start_matches("file://");
        let files = LocalFileSystem::new_with_prefix(directory).expect("the directory exists");
        let (files, timing) = (Arc::new(files), StoreTiming::default());
        Ok(RegionStore::new(name.clone(), files, metrics.clone(), timing, around.clone()))
    });
    let cluster = founding::join(&named, opener, &env).await.expect("new directories make a cluster");
    let (node, tasks) = ("writer".to_owned(), TaskTracker::new());
    let config = ShardConfig { shard: ShardId(0), node, address: String::new(), window: DEFAULT_WINDOW };
    let shard = Shard::start(config, cluster, env, &tasks).await.expect("nobody else leads");
    let name = TopicName::new(TOPIC).expect("a valid name");
    shard
        .propose(vec![Command::CreateTopic { name: name.clone(), settings: TopicSettings::default() }])
        .await
        .expect("a commit");
    let topic = shard.state().topic_named(&name).map(|topic| topic.id).expect("the topic is there");
    let mut lines = log_lines(1);
    let mut left = args.messages;
    while left > 0 {
        let values: Vec<_> = lines.by_ref().take(batch.min(left) as usize).collect();
        left -= values.len() as u64;
        append(&shard, topic, &values).await;
    }
    let entries = shard.status().committed.0;
    shard.shutdown().await;
    drop(shard);
    tasks.close();
    tasks.wait().await;
    entries
}

/// One entry.
async fn append(shard: &Shard, topic: TopicId, values: &[String]) {
    let (now_ms, mut columns) = (1_760_000_000_000, Columns::default());
    for value in values {
        let value = Some(value.as_bytes());
        columns.push(&MessageRef {
            key: None,
            value,
            kind: ValueKind::Text,
            headers: &[],
            timestamp_ms: now_ms,
            attributes: Attributes::default(),
        });
    }
    let (rows, payload_bytes) = (columns.rows() as u32, columns.bytes() as u64);
    let bytes: Bytes = encode(&columns.into_record_batch(), Compression::default()).expect("a batch can be encoded");
    let batch = BatchRef {
        partition: Partition(0),
        at: 0,
        len: bytes.len() as u32,
        crc: checksum(&bytes),
        rows,
        payload_bytes,
        min_timestamp_ms: now_ms,
        max_timestamp_ms: now_ms,
        owned: Vec::new(),
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    };
    let (answer, answered) = oneshot::channel();
    let done = Box::new(move |result| {
        // The writer waits for it.
        let _ = answer.send(result);
    });
    let commands = vec![Command::Publish(Publish { topic, requests: Vec::new(), batches: vec![batch] })];
    shard.submit(Proposal { commands, body: vec![bytes], done }).await;
    answered.await.expect("an answer").expect("a commit");
}

/// Removes every snapshot and truncation mark, so that the next start reads the whole journal.
fn forget_snapshots(data: &Path) {
    for region in fs::read_dir(data).expect("the data directory").flatten() {
        for kind in ["floor", "snapshot"] {
            let directory = region.path().join("journal/00000000").join(kind);
            if directory.exists() {
                fs::remove_dir_all(directory).expect("it can be removed");
            }
        }
    }
}
