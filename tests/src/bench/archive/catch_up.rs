//! Scenario `catch-up`: one reader of old messages, page by page, beside bare GETs of the same ranges one after the other,
//! and beside bare GETs of the whole objects one after the other. Once on a store behind a network, once on the local directory.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use brigade::{
    peers::HttpPeers,
    serve::{Node, start_node_on},
    settings::{RegionSettings, Settings},
};
use brigade_index::{
    env::Env,
    founding::Opener,
    names::RegionName,
    store::{self, RegionStore, StoreMetrics, StoreOptions, StoreTiming, fault::Latency},
};
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::BodyExt;
use object_store::{GetOptions, GetRange, ObjectStore};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt;

use super::{
    super::{
        Report,
        figures::{median, rounded},
    },
    load::{self, MIB, TOPIC},
    slow::{Read, SlowStore},
};
use crate::{http::ARROW, metrics};

/// Least part of the bytes a second of bare GETs that the reader has, on the store behind a network.
const TARGET: f64 = 0.7;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct CatchUpArgs {
    /// Messages in the archive, in one partition
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of a message; they are JSON log lines
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Bytes of a page that is read, in MiB
    #[arg(long, default_value_t = 8)]
    page_mib: u64,
    /// Time to the first byte of the store behind a network, at the median
    #[arg(long, value_name = "MS", default_value_t = 30)]
    first_byte_ms: u64,
    /// That time in one of a hundred requests
    #[arg(long, value_name = "MS", default_value_t = 100)]
    first_byte_p99_ms: u64,
    /// Bandwidth of one stream from it, in MiB a second
    #[arg(long, default_value_t = 100)]
    stream_mib: u64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// One round on one store.
#[derive(Clone, Copy, Debug)]
struct Round {
    requests: usize,
    fetched: f64,
    /// Bytes of the objects, each once.
    needed: f64,
    reader: f64,
    cpu: f64,
    same_ranges: f64,
    whole: f64,
}

/// Runs the scenario.
pub(super) async fn run(args: &CatchUpArgs) -> Report {
    let mut server = load::server("bandwidth_mib = 0");
    server.restart().await;
    server.http().create_topic(TOPIC, 1).await;
    let payload = load::publish(&server.http(), args.messages, args.message_bytes).await as f64;
    load::compact_now(&server).await;
    server.terminate().await;
    let url = format!("file://{}", server.data().display());
    let milliseconds = Duration::from_millis;
    let latency = Latency { median: milliseconds(args.first_byte_ms), p99: milliseconds(args.first_byte_p99_ms) };
    let network = (Some(latency), args.stream_mib << 20);
    let (mut report, mut rows) = (Report { json: json!([]), lines: Vec::new(), met: true }, Vec::new());
    for (name, (latency, bandwidth)) in [("network", network), ("directory", (None, 0))] {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(round(args, &url, latency, bandwidth).await);
        }
        let of = |pick: fn(&Round) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
        let over = of(|round| round.same_ranges / round.reader);
        let over_whole = of(|round| round.whole / round.reader);
        let met = name != "network" || over.min(over_whole) >= TARGET;
        report.met &= met;
        let (fetched, requests) = (of(|round| round.fetched), of(|round| round.requests as f64));
        let (reader, cpu) = (of(|round| round.reader), of(|round| round.cpu));
        report.lines.push(format!(
            "{name}: {:.0} MiB of messages in {reader:.2} s ({:.0} MiB/s, {cpu:.2} s of processor time): {:.0} MiB fetched with \
             {requests:.0} requests; bare GETs of the same ranges {:.1} MiB/s, ratio {over:.2}; whole \
             objects {:.1} MiB/s, ratio {over_whole:.2}{}",
            payload / MIB,
            payload / MIB / reader,
            fetched / MIB,
            fetched / MIB / of(|round| round.same_ranges),
            of(|round| round.needed) / MIB / of(|round| round.whole),
            if met { "" } else { "  <- misses its target" },
        ));
        let all = |pick: fn(&Round) -> f64| rounds.iter().map(|round| rounded(pick(round))).collect::<Vec<_>>();
        rows.push(json!({
            "store": name, "fetched_bytes": fetched, "needed_bytes": of(|round| round.needed), "requests": requests, "reader_seconds": all(|round| round.reader),
            "cpu_seconds": all(|round| round.cpu), "same_ranges_seconds": all(|round| round.same_ranges),
            "whole_objects_seconds": all(|round| round.whole), "ratio": rounded(over),
            "ratio_to_whole_objects": rounded(over_whole), "met": met,
        }));
    }
    report.json = json!({
        "scenario": "catch-up", "messages": args.messages, "payload_bytes": payload, "stores": rows,
    });
    report
}

async fn round(args: &CatchUpArgs, url: &str, latency: Option<Latency>, bandwidth: u64) -> Round {
    let local = store::open(url, &StoreOptions::default()).expect("the directory is there");
    let slow = SlowStore::new(local, latency, bandwidth);
    let (node, router) = start(url, slow.clone()).await;
    slow.take_reads();
    let before = cpu_seconds(&router).await;
    let started = Instant::now();
    let read = read_all(&router, args).await;
    let reader = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(&router).await - before;
    assert_eq!(read, args.messages, "every message is read once");
    let reads = slow.take_reads();
    node.shut_down().await;
    let same_ranges = bare(&slow, &reads).await;
    let mut objects: Vec<Read> = Vec::new();
    for (key, range) in &reads {
        match objects.iter_mut().find(|(known, _)| known == key) {
            Some((_, whole)) => *whole = whole.start.min(range.start)..whole.end.max(range.end),
            None => objects.push((key.clone(), range.clone())),
        }
    }
    let fetched = reads.iter().map(|(_, range)| (range.end - range.start) as f64).sum();
    let needed = objects.iter().map(|(_, range)| (range.end - range.start) as f64).sum();
    let whole = bare(&slow, &objects).await;
    Round { requests: reads.len(), fetched, needed, reader, cpu, same_ranges, whole }
}

/// Seconds that these GETs take, one after the other.
async fn bare(store: &SlowStore, reads: &[Read]) -> f64 {
    let started = Instant::now();
    for (key, range) in reads {
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let answer = store.get_opts(key, options).await.expect("the object is there");
        let bytes = answer.bytes().await.expect("the object is whole");
        assert_eq!(bytes.len() as u64, range.end - range.start);
    }
    started.elapsed().as_secs_f64()
}

/// A node with default settings on a store that is there, which compacts nothing.
async fn start(url: &str, store: SlowStore) -> (Node, Router) {
    let name = Settings::default().regions().remove(0).name;
    let region = RegionSettings { name, url: url.to_owned(), store: StoreOptions::default() };
    let mut settings = Settings { regions: vec![region], ..Settings::default() };
    settings.compact.enabled = false;
    let (metrics, env) = (StoreMetrics::new(), Env::system());
    let (counted, around) = (metrics.clone(), env.clone());
    let opener: Opener = Arc::new(move |name: &RegionName, _: &str| {
        let (store, timing) = (Arc::new(store.clone()), StoreTiming::default());
        Ok(RegionStore::new(name.clone(), store, counted.clone(), timing, around.clone()))
    });
    let node = start_node_on(settings, opener, metrics, env, Arc::new(HttpPeers::default()));
    let node = node.await.expect("the store works");
    let router = brigade::http::router(node.clone());
    (node, router)
}

/// Reads the partition from its beginning to its end, as Arrow streams; gives how many messages there were.
async fn read_all(router: &Router, args: &CatchUpArgs) -> u64 {
    let (mut messages, mut offset) = (0, 0);
    while messages < args.messages {
        let path = format!(
            "/v1/topics/{TOPIC}/messages?partition=0&offset={offset}&max_messages=100000&max_bytes={}",
            args.page_mib << 20
        );
        let (next, body) = get(router, &path).await;
        let reader = arrow::ipc::reader::StreamReader::try_new(&body[..], None).expect("an Arrow stream");
        let rows: usize = reader.map(|batch| batch.expect("a record batch").num_rows()).sum();
        assert!(rows > 0, "there is more behind offset {offset}");
        messages += rows as u64;
        offset = next.expect("the answer says where to go on");
    }
    messages
}

/// The body of an answer, and where to go on behind it.
async fn get(router: &Router, path: &str) -> (Option<u64>, Bytes) {
    let request = Request::builder().uri(path).header("accept", ARROW).body(Body::empty());
    let Ok(answer) = router.clone().oneshot(request.expect("a well-formed request")).await;
    assert_eq!(answer.status(), 200);
    let next = answer.headers().get("brigade-next-offset").and_then(|next| next.to_str().ok()?.parse().ok());
    (next, answer.into_body().collect().await.expect("the router does not break off").to_bytes())
}

/// Processor time of this process.
async fn cpu_seconds(router: &Router) -> f64 {
    let text = get(router, "/metrics").await.1;
    metrics::sum(&String::from_utf8_lossy(&text), "process_cpu_seconds_total", &[]).unwrap_or(f64::NAN)
}
