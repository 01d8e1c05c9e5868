//! Scenario `compare`: `brigade bench` of this binary over that of another, each on a server of its own, in turn.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Report,
    figures::{largest, median, rounded},
};
use crate::process::{Options, Process};

/// Least part of the other binary's figure that this one must have, at the median: what two runs of the same binary
/// differ by on a shared machine is left out.
const TARGET: f64 = 0.95;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// The other binary
    #[arg(long, value_name = "FILE")]
    with: PathBuf,
    /// This binary [default: that of the workspace]
    #[arg(long, value_name = "FILE")]
    this: Option<PathBuf>,
    /// Measured seconds of each throughput scenario
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u32,
    /// Rounds of each
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
}

const BATCHES: &str = "publish --messages-per-request 1000 --connections 8";
const SINGLES: &str = "publish --messages-per-request 1 --connections 256";
const ACKS: &str = "ack-latency --rounds 1500";

/// What is compared: name, arguments, and a figure of the output of which more is better. Messages for a second of the
/// server's processor time suffer least from what else a machine does.
const SCENARIOS: [(&str, &str, Figure); 5] = [
    ("1,000 messages a request, a second", BATCHES, speed),
    ("1,000 messages a request, a processor second", BATCHES, efficiency),
    ("one message a request, a second", SINGLES, speed),
    ("one message a request, a processor second", SINGLES, efficiency),
    ("publishes one after the other, a second", ACKS, pace),
];

type Figure = fn(&Value) -> Option<f64>;

fn speed(json: &Value) -> Option<f64> {
    json["scenarios"][0]["messages_per_second"].as_f64()
}

fn efficiency(json: &Value) -> Option<f64> {
    let scenario = &json["scenarios"][0];
    Some(scenario["messages"].as_f64()? / scenario["server"]["cpu_seconds"].as_f64()?)
}

fn pace(json: &Value) -> Option<f64> {
    Some(1_000.0 / json["ack_latency"]["ack_ms"]["p50"].as_f64()?)
}

/// Runs the scenario.
pub(super) async fn run(args: &CompareArgs) -> Report {
    let mut ratios: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0..args.rounds {
        // Who is first changes, since the first after a pause may find a warmer or colder machine.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                ours = figures(args, args.this.clone()).await;
            } else {
                theirs = figures(args, Some(args.with.clone())).await;
            }
        }
        for (number, pair) in ours.into_iter().zip(theirs).enumerate() {
            ratios.entry(number).or_default().push(pair);
        }
    }
    let mut report = Report { json: json!([]), lines: Vec::new(), met: true };
    let mut rows = Vec::new();
    for (number, pairs) in ratios {
        let (name, ..) = SCENARIOS[number];
        let speeds: Vec<_> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let met = median(&speeds) >= TARGET;
        report.met &= met;
        let of = |pick: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
        report.lines.push(format!(
            "{name}: this {:.0}, other {:.0}; ratio median {:.3}, best {:.3}, all {:.3?}{}",
            of(|pair| pair.0),
            of(|pair| pair.1),
            median(&speeds),
            largest(&speeds),
            speeds,
            if met { "" } else { "  <- slower" },
        ));
        rows.push(json!({
            "name": name, "this": pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(),
            "other": pairs.iter().map(|pair| pair.1).collect::<Vec<_>>(), "ratio_median": rounded(median(&speeds)),
            "ratio_best": rounded(largest(&speeds)), "met": met,
        }));
    }
    report.json = json!({"scenario": "compare", "rows": rows});
    report
}

/// The figures of one binary, on a new server.
async fn figures(args: &CompareArgs, binary: Option<PathBuf>) -> Vec<f64> {
    let server = Process::start_with(Options { binary, ..Options::default() }).await;
    let mut outputs: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, arguments, _) in SCENARIOS {
        if outputs.contains_key(arguments) {
            continue;
        }
        let mut command: Vec<_> = ["--output", "json", "bench"].map(str::to_owned).into();
        command.extend(arguments.split(' ').map(str::to_owned));
        if arguments.starts_with("publish") {
            command.extend(["--seconds".to_owned(), args.seconds.to_string()]);
            command.extend(["--warmup-seconds".to_owned(), "1".to_owned()]);
        }
        let output = server.cli(&command).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        outputs.insert(arguments, serde_json::from_slice(&output.stdout).unwrap_or_default());
    }
    let figure = |(name, arguments, figure): (&str, &str, Figure)| {
        figure(&outputs[arguments]).unwrap_or_else(|| panic!("{name}: no such figure in {}", outputs[arguments]))
    };
    SCENARIOS.into_iter().map(figure).collect()
}
