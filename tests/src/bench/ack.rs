//! Scenario `ack`: what a publish waits for with three regions, over what it waits for with one of the same latency.
//!
//! Publishes come at a fixed rate whatever the answers do, and each one's latency counts from when it was due, so that a
//! stall is charged to everything that it delays. The variants take turns in short slices.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Report,
    cluster::{BenchNode, Trouble, latency},
    figures::{Latencies, median, rounded, smallest},
};
use crate::dataset::log_lines;

/// Most that three regions may cost: at the median, and at the 99th percentile.
const TARGETS: (f64, f64) = (1.25, 1.5);

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct AckArgs {
    /// Publishes a second
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    /// Seconds of one slice
    #[arg(long, value_name = "S", default_value_t = 3)]
    slice_seconds: u64,
    /// Slices of each variant
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Bytes of each message
    #[arg(long, value_name = "N", default_value_t = 1024)]
    message_bytes: usize,
    /// Store latencies to try: median and 99th percentile in milliseconds, log-normal
    #[arg(long, value_name = "MS:MS", value_delimiter = ',', default_value = "10:10.5,30:110")]
    latencies: Vec<String>,
}

struct Variant {
    name: &'static str,
    node: BenchNode,
    trouble: Trouble,
    slices: Vec<Latencies>,
    refused: usize,
}

/// Runs the scenario.
pub(super) async fn run(args: &AckArgs) -> Report {
    let mut report = Report { json: json!([]), lines: Vec::new(), met: true };
    let mut profiles = Vec::new();
    for given in &args.latencies {
        let numbers = given.split_once(':').and_then(|(median, p99)| Some((median.parse().ok()?, p99.parse().ok()?)));
        let (median_ms, p99_ms) = numbers.unwrap_or_else(|| panic!("{given:?} is not MEDIAN:P99"));
        profiles.push(profile(args, median_ms, p99_ms, &mut report).await);
    }
    report.json = json!({"scenario": "ack", "rate": args.rate, "rounds": args.rounds, "profiles": profiles});
    report
}

async fn profile(args: &AckArgs, median_ms: f64, p99_ms: f64, report: &mut Report) -> serde_json::Value {
    let mut variants = Vec::new();
    let names = [
        ("one region", 1, Trouble::None),
        ("three", 3, Trouble::None),
        ("three, one refusing connections", 3, Trouble::Refused),
        ("three, one hanging", 3, Trouble::Hanging),
        ("three, one ten times slower", 3, Trouble::Slow),
    ];
    for (seed, (name, regions, trouble)) in (1..).zip(names) {
        let node = BenchNode::start(regions, 4, seed * 100).await;
        node.set(latency(median_ms, p99_ms), trouble);
        variants.push(Variant { name, node, trouble, slices: Vec::new(), refused: 0 });
    }
    let bodies = bodies(args);
    for _ in 0..args.rounds {
        for variant in &mut variants {
            let (latencies, refused) = slice(args, &variant.node, &bodies).await;
            variant.slices.push(latencies);
            variant.refused += refused;
        }
    }
    report.lines.push(format!("store latency {median_ms} ms (p99 {p99_ms} ms), {} publishes a second:", args.rate));
    let mut rows = Vec::new();
    let base = variants[0].slices.clone();
    for variant in variants {
        rows.push(judge(&variant, &base, report));
        variant.node.stop().await;
    }
    json!({"median_ms": median_ms, "p99_ms": p99_ms, "variants": rows})
}

/// Compares a variant with one region, slice by slice and as a whole.
fn judge(variant: &Variant, base: &[Latencies], report: &mut Report) -> serde_json::Value {
    let pooled = |slices: &[Latencies]| {
        let mut all = Latencies::default();
        slices.iter().for_each(|slice| all.add(slice));
        all
    };
    let (own, one) = (pooled(&variant.slices), pooled(base));
    let ratios = |part: f64| {
        let by_slice: Vec<_> =
            variant.slices.iter().zip(base).map(|(own, one)| own.quantile(part) / one.quantile(part)).collect();
        (own.quantile(part) / one.quantile(part), median(&by_slice), smallest(&by_slice))
    };
    let (p50, p99) = (ratios(0.5), ratios(0.99));
    let met = p50.0 <= TARGETS.0 && p99.0 <= TARGETS.1 && variant.refused == 0;
    report.met &= met;
    report.lines.push(format!(
        "  {:<34} p50 {:>7.2} ms, ratio {:.2} (slices: median {:.2}, best {:.2}); p99 {:>7.2} ms, ratio {:.2} \
         (slices: median {:.2}, best {:.2}); {} publishes, {} refused{}",
        variant.name,
        own.quantile(0.5),
        p50.0,
        p50.1,
        p50.2,
        own.quantile(0.99),
        p99.0,
        p99.1,
        p99.2,
        own.count(),
        variant.refused,
        if met { "" } else { "  <- misses its target" },
    ));
    json!({
        "name": variant.name, "trouble": format!("{:?}", variant.trouble), "publishes": own.count(),
        "refused": variant.refused, "p50_ms": rounded(own.quantile(0.5)), "p99_ms": rounded(own.quantile(0.99)),
        "p50_ratio": rounded(p50.0), "p50_ratio_median": rounded(p50.1), "p50_ratio_best": rounded(p50.2),
        "p99_ratio": rounded(p99.0), "p99_ratio_median": rounded(p99.1), "p99_ratio_best": rounded(p99.2), "met": met,
    })
}

fn bodies(args: &AckArgs) -> Vec<Bytes> {
    let body = |line: String| {
        let value = format!("{line:<width$}", width = args.message_bytes);
        Bytes::from(json!({"messages": [{"value": value}]}).to_string())
    };
    log_lines(1).take(1_000).map(body).collect()
}

/// One slice: latencies of what was acknowledged, and how many publishes were not.
async fn slice(args: &AckArgs, node: &BenchNode, bodies: &[Bytes]) -> (Latencies, usize) {
    let count = args.slice_seconds * u64::from(args.rate);
    let gap = Duration::from_secs(1) / args.rate;
    let (started, publisher) = (Instant::now(), Arc::new(node.publisher()));
    let mut running = JoinSet::new();
    for (number, body) in (0..count).zip(bodies.iter().cycle()) {
        let due = started + gap * u32::try_from(number).unwrap_or(u32::MAX);
        sleep_until(due).await;
        let (publisher, body) = (publisher.clone(), body.clone());
        running.spawn(async move { (publisher.publish(body).await, due.elapsed()) });
    }
    let (mut latencies, mut refused) = (Latencies::default(), 0);
    while let Some(done) = running.join_next().await {
        match done.expect("a publish does not panic") {
            (200, latency) => latencies.record(latency),
            _ => refused += 1,
        }
    }
    (latencies, refused)
}
