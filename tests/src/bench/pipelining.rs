//! Scenario `pipelining`: what one shard acknowledges at a slow store, over what it acknowledges at a fast one.
//!
//! Many publishers with one request in flight each, straight into the publish path, so that the shard and not the
//! parsing of requests is what limits. Every slice has a node and regions of its own, since regions in memory fill up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use brigade_index::{
    batch::{Attributes, MessageRef, ValueKind},
    names::TopicName,
};
use brigade_ingest::{Ingest, IngestError};
use clap::Args;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Report,
    cluster::{BenchNode, TOPIC, Trouble, latency},
    figures::{largest, median, rounded},
};
use crate::{dataset::log_lines, load::Stop};

/// Part of the fast store's throughput that the slow one must reach.
const TARGET: f64 = 0.6;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct PipeliningArgs {
    /// Latency of the fast store, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1.0)]
    fast_ms: f64,
    /// Latency of the slow store, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    slow_ms: f64,
    /// Regions: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 1)]
    regions: usize,
    /// Publishers and messages of each request; several pairs may be given
    #[arg(long, value_name = "N:N", value_delimiter = ',', default_value = "600:100,12288:1")]
    loads: Vec<String>,
    /// Bytes of each message
    #[arg(long, value_name = "N", default_value_t = 1024)]
    message_bytes: usize,
    /// Measured seconds of one slice
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    slice_seconds: f64,
    /// Slices of each store
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
}

/// Runs the scenario.
pub(super) async fn run(args: &PipeliningArgs) -> Report {
    let mut report = Report { json: json!([]), lines: Vec::new(), met: true };
    let mut loads = Vec::new();
    for given in &args.loads {
        let numbers = given.split_once(':').and_then(|(many, each)| Some((many.parse().ok()?, each.parse().ok()?)));
        let (publishers, messages) = numbers.unwrap_or_else(|| panic!("{given:?} is not PUBLISHERS:MESSAGES"));
        loads.push(load(args, publishers, messages, &mut report).await);
    }
    report.json = json!({"scenario": "pipelining", "regions": args.regions, "loads": loads});
    report
}

async fn load(args: &PipeliningArgs, publishers: usize, messages: usize, report: &mut Report) -> serde_json::Value {
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        fast.push(slice(args, args.fast_ms, publishers, messages, u64::from(round)).await);
        slow.push(slice(args, args.slow_ms, publishers, messages, u64::from(round)).await);
    }
    let ratios: Vec<_> = slow.iter().zip(&fast).map(|(slow, fast)| slow / fast).collect();
    let met = median(&ratios) >= TARGET;
    report.met &= met;
    report.lines.push(format!(
        "{publishers} publishers of {messages} messages, {} region(s): {:.0} messages/s at {} ms, {:.0} at {} ms; \
         ratio median {:.2}, best {:.2}{}",
        args.regions,
        median(&fast),
        args.fast_ms,
        median(&slow),
        args.slow_ms,
        median(&ratios),
        largest(&ratios),
        if met { "" } else { "  <- misses its target" },
    ));
    json!({
        "publishers": publishers, "messages": messages, "fast_per_second": fast.iter().map(|n| n.round()).collect::<Vec<_>>(),
        "slow_per_second": slow.iter().map(|n| n.round()).collect::<Vec<_>>(), "ratio_median": rounded(median(&ratios)),
        "ratio_best": rounded(largest(&ratios)), "met": met,
    })
}

/// Messages acknowledged a second at a store of this latency.
async fn slice(args: &PipeliningArgs, latency_ms: f64, publishers: usize, messages: usize, seed: u64) -> f64 {
    let node = BenchNode::start(args.regions, 4, seed).await;
    let ingest = node.node.seat.lead().map(|leading| leading.ingest.clone());
    let ingest = ingest.unwrap_or_else(|absent| panic!("the node does not lead: {}", absent.problem));
    // As good as constant: what is asked is whether waiting can be hidden, not what a tail costs.
    node.set(latency(latency_ms, latency_ms * 1.02), Trouble::None);
    let width = args.message_bytes;
    let values: Vec<_> = log_lines(seed).take(20_000).map(|line| format!("{line:<width$}").into_bytes()).collect();
    let (values, stop, stored) = (Arc::new(values), Stop::default(), Arc::new(AtomicU64::new(0)));
    let mut running = JoinSet::new();
    for number in 0..publishers {
        let (ingest, values, stop, stored) = (ingest.clone(), values.clone(), stop.clone(), stored.clone());
        running.spawn(async move {
            let mut place = number * messages;
            while !stop.is_set() {
                publish(&ingest, &values, place, messages).await;
                place += messages * publishers;
                stored.fetch_add(messages as u64, Relaxed);
            }
        });
    }
    sleep(Duration::from_millis(700)).await;
    let (before, started) = (stored.load(Relaxed), Instant::now());
    sleep(Duration::from_secs_f64(args.slice_seconds)).await;
    let (after, took) = (stored.load(Relaxed), started.elapsed());
    stop.set();
    while let Some(done) = running.join_next().await {
        done.expect("a publisher does not panic");
    }
    drop(ingest);
    node.stop().await;
    (after - before) as f64 / took.as_secs_f64()
}

/// Publishes, again and again while there is no room.
async fn publish(ingest: &Ingest, values: &[Vec<u8>], place: usize, messages: usize) {
    let topic = TopicName::new(TOPIC).expect("a valid name");
    let values: Vec<_> = (place..place + messages).map(|at| &values[at % values.len()]).collect();
    loop {
        let published = async {
            let admission = ingest.admit(values.iter().map(|value| value.len()).sum())?;
            let mut draft = ingest.draft(&topic, None)?;
            for value in &values {
                let message = MessageRef {
                    timestamp_ms: draft.now_ms(),
                    key: None,
                    value: Some(value),
                    kind: ValueKind::Text,
                    headers: &[],
                    attributes: Attributes::default(),
                };
                draft.push(&message, None).unwrap_or_else(|error| panic!("a message is refused: {error}"));
            }
            ingest.publish(draft, admission).await
        };
        match published.await {
            Ok(_) => return,
            Err(IngestError::Busy { .. }) => sleep(Duration::from_millis(2)).await,
            Err(error) => panic!("a publish fails: {error}"),
        }
    }
}
