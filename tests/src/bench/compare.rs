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

/// What is compared: name, arguments, where the figure is in the output, and whether more is better.
const SCENARIOS: [(&str, &str, &str, bool); 3] = [
    ("1,000 messages a request", "publish --messages-per-request 1000 --connections 8", "messages_per_second", true),
    ("one message a request", "publish --messages-per-request 1 --connections 256", "messages_per_second", true),
    ("ack latency, median", "ack-latency --rounds 1500", "ack_ms.p50", false),
];

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
        let (name, _, _, more) = SCENARIOS[number];
        let speeds: Vec<_> =
            pairs.iter().map(|(ours, theirs)| if more { ours / theirs } else { theirs / ours }).collect();
        let met = median(&speeds) >= TARGET;
        report.met &= met;
        let of = |pick: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
        report.lines.push(format!(
            "{name}: this {:.2}, other {:.2}; speed over the other's: median {:.3}, best {:.3}, all {:.3?}{}",
            of(|pair| pair.0),
            of(|pair| pair.1),
            median(&speeds),
            largest(&speeds),
            speeds,
            if met { "" } else { "  <- slower" },
        ));
        rows.push(json!({
            "name": name, "this": pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(),
            "other": pairs.iter().map(|pair| pair.1).collect::<Vec<_>>(), "speed_median": rounded(median(&speeds)),
            "speed_best": rounded(largest(&speeds)), "met": met,
        }));
    }
    report.json = json!({"scenario": "compare", "rows": rows});
    report
}

/// The figures of one binary, on a new server.
async fn figures(args: &CompareArgs, binary: Option<PathBuf>) -> Vec<f64> {
    let server = Process::start_with(Options { binary, ..Options::default() }).await;
    let mut figures = Vec::new();
    for (name, arguments, field, _) in SCENARIOS {
        let mut command: Vec<_> = ["--output", "json", "bench"].map(str::to_owned).into();
        command.extend(arguments.split(' ').map(str::to_owned));
        if arguments.starts_with("publish") {
            command.extend(["--seconds".to_owned(), args.seconds.to_string()]);
            command.extend(["--warmup-seconds".to_owned(), "1".to_owned()]);
        }
        let output = server.cli(&command).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let json = json.get(0).cloned().unwrap_or(json);
        let figure = field.split('.').fold(&json, |value, part| &value[part]).as_f64();
        figures.push(figure.unwrap_or_else(|| panic!("{name}: no {field} in {json}")));
    }
    figures
}
