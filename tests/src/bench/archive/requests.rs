//! Scenario `requests`: what the store is asked for a GiB published at a steady rate, as `brigade cost` counts it from the
//! start of the server on: journal, snapshots, archive, merges, views, truncation, deletions. Then the server rests, and must
//! not ask for anything.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    super::{Report, figures::rounded},
    load::{self, TOPIC, number},
};
use crate::process::{Options, Process};

/// Requests that write or list, and requests that read, for each GiB published.
const TARGETS: (f64, f64) = (700.0, 1_500.0);

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct RequestsArgs {
    /// MiB a second that are published
    #[arg(long, default_value_t = 8)]
    rate_mib: u32,
    /// Seconds of it
    #[arg(long, default_value_t = 150)]
    seconds: u32,
    /// Least time between two entries
    #[arg(long, value_name = "MS", default_value_t = 250)]
    pace_ms: u32,
    /// Partitions
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Messages of a request
    #[arg(long, default_value_t = 100)]
    messages_per_request: u32,
    /// Seconds without a request that are waited for at the end
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
}

async fn bill(server: &Process) -> Value {
    let output = server.cli(&["--output", "json", "cost"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn show(name: &str, bill: &Value, lines: &mut Vec<String>) {
    let per = |field: &str| number(&bill[field]);
    lines.push(format!(
        "{name}: {:.0} PUT-class and {:.0} GET-class requests for each GiB published ({:.2} GiB), ${:.4} at S3 Standard",
        per("put_class_per_gib"),
        per("get_class_per_gib"),
        per("published_bytes") / (1_u64 << 30) as f64,
        per("dollars_per_gib"),
    ));
    for line in bill["lines"].as_array().into_iter().flatten() {
        let count = |field: &str| line[field].as_u64().unwrap_or(0);
        lines.push(format!(
            "  {:<12} {:>6} PUT-class {:>6} GET-class {:>6} deletes",
            line["component"].as_str().unwrap_or_default(),
            count("put_class"),
            count("get_class"),
            count("deletes")
        ));
    }
}

/// All requests of a bill.
fn requests(bill: &Value) -> u64 {
    ["put_class", "get_class", "deletes"].iter().filter_map(|class| bill["total"][class].as_u64()).sum()
}

/// Runs the scenario.
pub(super) async fn run(args: &RequestsArgs) -> Report {
    let pace = ["--pace-ms".to_owned(), args.pace_ms.to_string()];
    let server = Process::start_with(Options { args: pace.into(), ..Options::default() }).await;
    let http = server.http();
    http.create_topic(TOPIC, args.partitions).await;
    let load = format!(
        "publish --topic {TOPIC} --rate {} --message-bytes 1024 --messages-per-request {} --connections 64 --seconds {} \
         --warmup-seconds 0",
        args.rate_mib * 1_024,
        args.messages_per_request,
        args.seconds,
    );
    let published = load::bench(&server, &load).await;
    let speed = number(&published["value_mib_per_second"]);
    let loaded = bill(&server).await;
    let run = load::compact_now(&server).await;
    let all = bill(&server).await;
    // Views that were changed shortly before are published a little later.
    sleep(Duration::from_secs(35)).await;
    let before = requests(&bill(&server).await);
    let again = load::compact_now(&server).await;
    // A leader that is asked something after a rest looks whether it still leads, with one request beside the answer.
    sleep(Duration::from_secs(1)).await;
    let between = requests(&bill(&server).await);
    sleep(Duration::from_secs(args.idle_seconds)).await;
    let after = bill(&server).await;
    let (by_run, idle) = (between - before, requests(&after) - between);
    let nothing = ["archived", "merged", "compacted", "trimmed", "deleted_files"].iter().all(|what| again[what] == 0);
    let kept = speed >= 0.95 * f64::from(args.rate_mib);
    let within = number(&all["put_class_per_gib"]) <= TARGETS.0 && number(&all["get_class_per_gib"]) <= TARGETS.1;
    let mut lines = Vec::new();
    lines.push(format!("published at {speed:.2} MiB/s{}", if kept { "" } else { "  <- too slow to count" }));
    show("when the load ended", &loaded, &mut lines);
    show("when everything was archived, merged, cut off and deleted", &all, &mut lines);
    lines.push(format!(
        "idle: {idle} requests in {} s; before that a run with nothing to do took {by_run}, and did {}",
        args.idle_seconds,
        if nothing { "nothing".to_owned() } else { again.to_string() }
    ));
    if idle > 0 {
        show("after that", &after, &mut lines);
    }
    let met = kept && within && nothing && idle == 0;
    let json = json!({
        "scenario": "requests", "mib_per_second": rounded(speed), "loaded": loaded, "all": all, "run": run,
        "idle_requests": idle, "idle_run_requests": by_run, "idle_run": again, "met": met,
    });
    Report { json, lines, met }
}
