//! Shows what was measured.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    ack::AckReport,
    queue::QueueReport,
    tally::{Latency, Tally},
    usage::Used,
};
use crate::cli::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
};

const MIB: f64 = 1024.0 * 1024.0;

/// One scenario.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: String,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_per_request: Option<u32>,
    seconds: f64,
    requests: u64,
    messages: u64,
    messages_per_second: f64,
    /// Of values, without keys, envelopes and escapes.
    value_mib_per_second: f64,
    /// Of HTTP bodies.
    body_mib_per_second: f64,
    /// Of requests, in milliseconds.
    latency_ms: Latency,
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Used>,
}

impl Report {
    pub(super) fn new(
        scenario: &str,
        connections: usize,
        messages_per_request: Option<u32>,
        seconds: f64,
        value_bytes: u64,
        tally: &Tally,
        server: Option<Used>,
    ) -> Self {
        Self {
            scenario: scenario.to_owned(),
            connections,
            messages_per_request,
            seconds,
            requests: tally.requests,
            messages: tally.messages,
            messages_per_second: tally.messages as f64 / seconds,
            value_mib_per_second: value_bytes as f64 / MIB / seconds,
            body_mib_per_second: tally.body_bytes as f64 / MIB / seconds,
            latency_ms: tally.latency.summary(),
            errors: tally.errors.clone(),
            server,
        }
    }
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reports {
    pub(super) scenarios: Vec<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ack_latency: Option<AckReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<QueueReport>,
}

impl Reports {
    pub(super) fn show(&self, context: &Context) -> Result<(), CliError> {
        if context.json() {
            return print_json(self);
        }
        if !self.scenarios.is_empty() {
            self.throughput()?;
            self.server()?;
            self.errors()?;
        }
        self.ack_latency.as_ref().map_or(Ok(()), ack_latency)?;
        self.queue.as_ref().map_or(Ok(()), QueueReport::show)
    }

    fn throughput(&self) -> Result<(), CliError> {
        let mut rows = table(
            &["scenario", "connections", "messages/s", "MiB/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"],
            &[1, 2, 3, 4, 5, 6, 7, 8],
        );
        for report in &self.scenarios {
            let Latency { p50, p90, p99, p999, max } = report.latency_ms;
            let mut row = vec![
                report.scenario.clone(),
                report.connections.to_string(),
                count(report.messages_per_second as u64),
                format!("{:.1}", report.value_mib_per_second),
            ];
            row.extend([p50, p90, p99, p999, max].map(|ms| format!("{ms:.2}")));
            rows.add_row(row);
        }
        print_table(&rows)
    }

    fn server(&self) -> Result<(), CliError> {
        let mut rows = table(
            &["scenario", "store requests", "a message", "store bytes a message", "server CPU s", "peak memory"],
            &[2, 3, 4, 5],
        );
        for report in &self.scenarios {
            let Some(used) = &report.server else { continue };
            let requests: Vec<_> =
                used.store_requests.iter().map(|(name, number)| format!("{name} {}", count(*number))).collect();
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            rows.add_row([
                report.scenario.clone(),
                if requests.is_empty() { "none".to_owned() } else { requests.join(", ") },
                or_dash(used.store_requests_per_message.map(|number| format!("{number:.5}"))),
                or_dash(used.store_bytes_per_message.map(|number| format!("{number:.1}"))),
                or_dash(used.cpu_seconds.map(|seconds| format!("{seconds:.2}"))),
                or_dash(used.peak_memory_bytes.map(bytes)),
            ]);
        }
        if rows.is_empty() {
            return print_line("\nThe server has no /metrics: store requests, processor time and memory are unknown.");
        }
        print_line("")?;
        print_table(&rows)
    }

    fn errors(&self) -> Result<(), CliError> {
        for report in &self.scenarios {
            for (code, number) in &report.errors {
                print_line(format_args!("{}: {} requests failed with {code}", report.scenario, count(*number)))?;
            }
        }
        Ok(())
    }
}

fn ack_latency(report: &AckReport) -> Result<(), CliError> {
    let mut rows = table(
        &["one message at a time", "rounds", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"],
        &[1, 2, 3, 4, 5, 6],
    );
    let bare = report
        .bare_put_ms
        .map(|latency| (format!("bare PUT of {} with fsync", bytes(report.bare_put_bytes.unwrap_or(0))), latency));
    for (name, Latency { p50, p90, p99, p999, max }) in
        [("acknowledged publish".to_owned(), report.ack_ms)].into_iter().chain(bare)
    {
        let mut row = vec![name, count(report.rounds.into())];
        row.extend([p50, p90, p99, p999, max].map(|ms| format!("{ms:.2}")));
        rows.add_row(row);
    }
    print_line("")?;
    print_table(&rows)?;
    match report.ratio_of_medians {
        Some(ratio) => print_line(format_args!("ratio of medians: {ratio:.2}")),
        None => print_line("give --bare-dir for a bare PUT on the same disk beside it"),
    }
}
