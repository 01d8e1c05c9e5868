//! Scenario `compact`: a backlog in the journal of a local directory is archived, merged, and cut off from the journal. All
//! that the process does for it counts, from its start on: reading entries, decoding, encoding, fsync, commits, views,
//! deletions, and the recovery before.

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{Report, figures::rounded},
    load::{self, MIB, TOPIC, moved, number},
};

/// MiB of keys and values a second of processor time.
const SPEED: f64 = 150.0;
/// Bytes of archive files for each byte that was written into the archive the first time.
const AMPLIFICATION: f64 = 2.2;
/// Bytes of archive files over bytes of the same messages in the journal.
const SHARE: f64 = 0.6;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct CompactArgs {
    /// Bytes of messages in MiB
    #[arg(long, default_value_t = 1_024)]
    mib: u64,
    /// Bytes of a message; they are JSON log lines
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Partitions
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Memory of the compactor, in MiB
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
}

/// Runs the scenario.
pub(super) async fn run(args: &CompactArgs) -> Report {
    let mut server = load::server("enabled = false");
    server.restart().await;
    let http = server.http();
    http.create_topic(TOPIC, args.partitions).await;
    let payload = load::publish(&http, (args.mib << 20) / args.message_bytes as u64, args.message_bytes).await as f64;
    let journal = http.metric("brigade_shard_journal_bytes", &[]).await;
    server.terminate().await;
    let settings = format!("bandwidth_mib = 0\nmemory_mib = {}", args.memory_mib);
    server.reconfigure(load::options(&settings));
    let started = Instant::now();
    server.restart().await;
    let before = server.memory().0;
    let http = server.http();
    let report = load::compact_now(&server).await;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = http.metric("process_cpu_seconds_total", &[]).await;
    let (left, archive) =
        (http.metric("brigade_shard_journal_bytes", &[]).await, http.metric("brigade_shard_archive_bytes", &[]).await);
    assert_eq!(left, 0.0, "everything is archived: {report}");
    let status = load::compactor(&http).await;
    let amplification = number(&status["write_amplification"]);
    let (speed, share) = (payload / MIB / cpu, archive / journal);
    let (held, limit) = (number(&status["memory_peak_bytes"]), number(&status["memory_bytes"]));
    let grown = server.memory().1.saturating_sub(before) as f64;
    let met = speed >= SPEED && amplification <= AMPLIFICATION && share <= SHARE && held.max(grown) <= limit;
    let lines = vec![
        format!(
            "{:.0} MiB of messages archived, merged and cut off: {speed:.0} MiB a second of processor time ({cpu:.1} s), \
             {:.0} MiB a second ({seconds:.1} s)",
            payload / MIB,
            payload / MIB / seconds,
        ),
        format!(
            "stored: {:.0} MiB in the journal before, {:.0} MiB in the archive: {:.1} % of it, {:.1} % of the messages",
            journal / MIB,
            archive / MIB,
            100.0 * share,
            100.0 * archive / payload
        ),
        format!("write amplification {amplification:.2}"),
        format!(
            "memory: jobs held {:.0} MiB of {:.0} at most; the process grew by {:.0} MiB",
            held / MIB,
            limit / MIB,
            grown / MIB
        ),
    ];
    let json = json!({
        "scenario": "compact", "payload_bytes": payload, "journal_bytes": journal, "archive_bytes": archive,
        "archive_share_of_journal": rounded(share), "cpu_seconds": rounded(cpu), "seconds": rounded(seconds),
        "mib_per_cpu_second": rounded(speed), "mib_per_second": rounded(payload / MIB / seconds),
        "write_amplification": rounded(amplification), "memory_peak_bytes": held, "process_grew_bytes": grown,
        "merge_read_bytes": moved(&status, "merge").0, "run": report, "met": met,
    });
    Report { json, lines, met }
}
