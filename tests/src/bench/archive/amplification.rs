//! Scenario `amplification`: how many bytes of archive files are written for each byte that is archived, while messages
//! keep coming. Files are smaller than by default, all sizes in the same proportion, so that less has to be published.

use clap::Args;
use serde_json::json;

use super::{
    super::{Report, figures::rounded},
    load::{self, MIB, TOPIC, moved, number},
};

const TARGET: f64 = 2.2;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct AmplificationArgs {
    /// Bytes of messages in MiB
    #[arg(long, default_value_t = 1_024)]
    mib: u64,
    /// Bytes of a message; they are JSON log lines
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Partitions; several may be given
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,4,16")]
    partitions: Vec<u32>,
    /// Files, jobs and memory are smaller than by default by this factor, at most 8
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=8))]
    scale: u64,
}

/// Runs the scenario.
pub(super) async fn run(args: &AmplificationArgs) -> Report {
    let mut report = Report { json: json!([]), lines: Vec::new(), met: true };
    let mut rows = Vec::new();
    for partitions in &args.partitions {
        rows.push(with(args, *partitions, &mut report).await);
    }
    report.json = json!({"scenario": "amplification", "scale": args.scale, "rows": rows});
    report
}

async fn with(args: &AmplificationArgs, partitions: u32, report: &mut Report) -> serde_json::Value {
    let scale = |mib: u64| mib / args.scale;
    // The memory bounds the size of a job, too.
    let (memory, file, max) = (scale(256), scale(64), scale(256));
    let settings = format!("bandwidth_mib = 0\nmemory_mib = {memory}\nfile_mib = {file}\nmax_file_mib = {max}");
    let mut server = load::server(&settings);
    server.restart().await;
    let http = server.http();
    http.create_topic(TOPIC, partitions).await;
    let payload = load::publish(&http, (args.mib << 20) / args.message_bytes as u64, args.message_bytes).await as f64;
    let steady = number(&load::compactor(&http).await["write_amplification"]);
    load::compact_now(&server).await;
    let status = load::compactor(&http).await;
    let all = number(&status["write_amplification"]);
    let (_, first) = moved(&status, "archive");
    let (_, merged) = moved(&status, "merge");
    let met = all <= TARGET;
    report.met &= met;
    report.lines.push(format!(
        "{partitions} partitions, {:.0} MiB of messages (as {:.1} GiB by default): {first_mib:.0} MiB written from the journal, \
         {merged_mib:.0} MiB by merges: {all:.2} times; {steady:.2} before all that was left was archived at once{}",
        payload / MIB,
        payload * args.scale as f64 / MIB / 1024.0,
        if met { "" } else { "  <- misses its target" },
        first_mib = first / MIB,
        merged_mib = merged / MIB,
    ));
    json!({
        "partitions": partitions, "payload_bytes": payload, "archived_bytes": first, "merged_bytes": merged,
        "write_amplification": rounded(all), "before_the_rest": rounded(steady), "met": met,
    })
}
