//! Scenario `beside`: publishing while the compactor works off a backlog, over publishing while it is switched off, in turn.
//! Client and server share the machine.

use clap::Args;
use serde_json::json;

use super::{
    super::{
        Report,
        figures::{median, rounded},
    },
    load::{self, MIB, TOPIC, moved, number},
};

/// Least part of the messages a second, and most times the latency, that publishing has beside the compactor at the median.
const TARGETS: (f64, f64) = (0.75, 1.5);

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct BesideArgs {
    /// Rounds of each
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Measured seconds of each
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Backlog of the compactor in MiB of messages
    #[arg(long, default_value_t = 1_024)]
    backlog_mib: u64,
    /// MiB a second that are published where latency is measured
    #[arg(long, default_value_t = 8)]
    rate_mib: u32,
    /// What the compactor may read and write together, in MiB a second
    #[arg(long, default_value_t = 64)]
    bandwidth_mib: u32,
}

/// What was measured with the compactor on or off.
#[derive(Clone, Debug, Default)]
struct Measured {
    mib_per_second: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// MiB a second that the compactor read and wrote meanwhile.
    compacted: Vec<f64>,
}

/// Runs the scenario.
pub(super) async fn run(args: &BesideArgs) -> Report {
    let mut both = [Measured::default(), Measured::default()];
    for round in 0..args.rounds {
        for turn in 0..2 {
            let on = (round + turn) % 2 == 0;
            let paced = format!("--rate {} --messages-per-request 10", args.rate_mib * 1_024);
            let measured = &mut both[usize::from(on)];
            let (report, compacted) = publish(args, on, &paced).await;
            measured.p50_ms.push(number(&report["latency_ms"]["p50"]));
            measured.p99_ms.push(number(&report["latency_ms"]["p99"]));
            measured.compacted.push(compacted);
            let (report, compacted) = publish(args, on, "--messages-per-request 1000 --connections 8").await;
            measured.mib_per_second.push(number(&report["value_mib_per_second"]));
            measured.compacted.push(compacted);
        }
    }
    let [off, on] = both;
    let ratio = |pick: fn(&Measured) -> &Vec<f64>| median(pick(&on)) / median(pick(&off));
    let (speed, p99) = (ratio(|measured| &measured.mib_per_second), ratio(|measured| &measured.p99_ms));
    let met = speed >= TARGETS.0 && p99 <= TARGETS.1;
    let lines = vec![
        format!(
            "as fast as it goes: {:.0} MiB/s beside the compactor, {:.0} without; ratio {speed:.2}",
            median(&on.mib_per_second),
            median(&off.mib_per_second)
        ),
        format!(
            "at {} MiB/s: acknowledged after {:.1} ms (99 %: {:.1} ms) beside the compactor, {:.1} ms ({:.1} ms) without; \
             ratio of the 99 % {p99:.2}",
            args.rate_mib,
            median(&on.p50_ms),
            median(&on.p99_ms),
            median(&off.p50_ms),
            median(&off.p99_ms)
        ),
        format!("the compactor moved {:.1?} MiB/s meanwhile", on.compacted),
    ];
    let of = |measured: &Measured| {
        json!({
            "mib_per_second": measured.mib_per_second, "p50_ms": measured.p50_ms, "p99_ms": measured.p99_ms,
            "compactor_mib_per_second": measured.compacted,
        })
    };
    let json = json!({
        "scenario": "beside", "on": of(&on), "off": of(&off), "speed_ratio": rounded(speed), "p99_ratio": rounded(p99),
        "met": met,
    });
    Report { json, lines, met }
}

/// Publishes to a server that has a backlog. Gives the report, and MiB a second that the compactor moved meanwhile.
async fn publish(args: &BesideArgs, on: bool, load: &str) -> (serde_json::Value, f64) {
    let mut server = load::server("enabled = false");
    server.restart().await;
    server.http().create_topic(TOPIC, 4).await;
    load::publish(&server.http(), args.backlog_mib << 10, 1_024).await;
    server.terminate().await;
    server.reconfigure(load::options(&format!("enabled = {on}\nbandwidth_mib = {}", args.bandwidth_mib)));
    server.restart().await;
    let http = server.http();
    let sum = |status: &serde_json::Value| {
        let (archive, merge) = (moved(status, "archive"), moved(status, "merge"));
        archive.0 + archive.1 + merge.0 + merge.1
    };
    let before = sum(&load::compactor(&http).await);
    let arguments = format!("publish --topic {TOPIC} --seconds {} --warmup-seconds 1 {load}", args.seconds);
    let report = load::bench(&server, &arguments).await;
    let compacted = sum(&load::compactor(&http).await) - before;
    (report, compacted / MIB / f64::from(args.seconds + 1))
}
