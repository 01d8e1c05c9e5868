//! Shows what was measured.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    bench::{
        tally::{Latency, Tally},
        usage::Used,
    },
    cli::{
        CliError,
        output::{bytes, count, print_line, print_table, table},
    },
};

/// One scenario.
#[derive(Debug, Serialize)]
#[serde(tag = "scenario", rename_all = "snake_case")]
pub(in crate::bench) enum QueueReport {
    Throughput(ThroughputReport),
    Latency(LatencyReport),
    BlockedGroup(BlockedReport),
    Outstanding(OutstandingReport),
    Subscriptions(SubscriptionsReport),
}

/// One of the steps of messages.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct Work {
    messages: u64,
    messages_per_second: f64,
    requests: u64,
    /// Of requests, in milliseconds.
    latency_ms: Latency,
    errors: BTreeMap<String, u64>,
}

impl Work {
    pub(super) fn new(tally: &Tally, seconds: f64) -> Self {
        Self {
            messages: tally.messages,
            messages_per_second: tally.messages as f64 / seconds,
            requests: tally.requests,
            latency_ms: tally.latency.summary(),
            errors: tally.errors.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::bench) struct ThroughputReport {
    pub(super) publishers: u16,
    pub(super) consumers: u16,
    pub(super) messages_per_request: u32,
    pub(super) poll_messages: u32,
    pub(super) rate: Option<u32>,
    pub(super) seconds: f64,
    pub(super) publish: Work,
    pub(super) poll: Work,
    pub(super) ack: Work,
    /// Processors that the server and the load generator had together, on average.
    pub(super) cores: Option<f64>,
    /// Processor time of the load generator.
    pub(super) own_cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Used>,
}

/// Latencies are in milliseconds.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct LatencyReport {
    pub(super) rate: u32,
    pub(super) messages: u64,
    /// From when the publish was due until it was acknowledged.
    pub(super) publish_ack_ms: Latency,
    /// From when the publish was due until the consumer held the message.
    pub(super) delivery_ms: Latency,
    /// From the ack of a publish until the consumer held its message; 0 if it had it before.
    pub(super) delivery_after_ack_ms: Latency,
    pub(super) p99_over_ack_p99_ms: f64,
}

/// Latencies are those of a poll and the ack of what it gave, in milliseconds.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct BlockedReport {
    /// Messages of the group that wait, and the one in flight.
    pub(super) waiting: u64,
    pub(super) rounds: u32,
    /// Until its first message was delivered.
    pub(super) first_seconds: f64,
    /// Until a message behind all of the group was delivered: all were looked at.
    pub(super) found_seconds: f64,
    /// Before the group was filled.
    pub(super) before_ms: Latency,
    /// Beside the group.
    pub(super) beside_ms: Latency,
    /// In turns with that, on a subscription that does not have the group's messages.
    pub(super) without_ms: Latency,
    /// The poll alone.
    pub(super) poll_beside_ms: Latency,
    /// The poll alone.
    pub(super) poll_without_ms: Latency,
    pub(super) ratio_p50: f64,
    pub(super) ratio_p99: f64,
    pub(super) poll_ratio_p50: f64,
    /// Resident memory of the server in the end.
    pub(super) memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(in crate::bench) struct OutstandingReport {
    pub(super) messages: u64,
    /// As the server counts them, before any was acknowledged.
    pub(super) in_flight: u64,
    pub(super) in_flight_after_acks: u64,
    /// How long it took to deliver them.
    pub(super) deliver_seconds: f64,
    /// Of acks of one message each, with all others outstanding, in milliseconds.
    pub(super) ack_ms: Latency,
    /// Resident memory of the server before anything was published.
    pub(super) memory_before_bytes: Option<u64>,
    /// When all was published.
    pub(super) memory_filled_bytes: Option<u64>,
    /// When all was delivered.
    pub(super) memory_bytes: Option<u64>,
    /// Largest that was seen.
    pub(super) peak_memory_bytes: Option<u64>,
    /// What a message added between being published and being delivered.
    pub(super) bytes_a_message: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(in crate::bench) struct SubscriptionsReport {
    pub(super) subscriptions: u16,
    /// Messages that every subscription got and acknowledged.
    pub(super) messages: u64,
    /// From the first publish to the last ack.
    pub(super) seconds: f64,
    pub(super) deliveries_per_second: f64,
    /// Of publishes, meanwhile, in milliseconds.
    pub(super) publish_ack_ms: Latency,
    /// Resident memory of the server before there were subscriptions.
    pub(super) memory_before_bytes: Option<u64>,
    /// When all consumers waited.
    pub(super) memory_waiting_bytes: Option<u64>,
    /// Largest that was seen.
    pub(super) peak_memory_bytes: Option<u64>,
}

impl QueueReport {
    pub(in crate::bench) fn show(&self) -> Result<(), CliError> {
        match self {
            Self::Throughput(report) => throughput(report),
            Self::Latency(report) => {
                latencies(&[
                    ("publish acknowledged", &report.publish_ack_ms),
                    ("message at the consumer", &report.delivery_ms),
                    ("the one after the other", &report.delivery_after_ack_ms),
                ])?;
                let (messages, over) = (count(report.messages), report.p99_over_ack_p99_ms);
                print_line(format_args!(
                    "{messages} messages, {} a second; p99 at the consumer is {over:.2} ms over p99 of the ack",
                    report.rate
                ))
            }
            Self::BlockedGroup(report) => blocked(report),
            Self::Outstanding(report) => outstanding(report),
            Self::Subscriptions(report) => {
                latencies(&[("publish acknowledged", &report.publish_ack_ms)])?;
                print_line(format_args!(
                    "{} subscriptions, each delivered and acknowledged {} messages: {} a second in all",
                    report.subscriptions,
                    count(report.messages),
                    count(report.deliveries_per_second as u64)
                ))?;
                memory("before the subscriptions", report.memory_before_bytes)?;
                memory("with a waiting consumer each", report.memory_waiting_bytes)?;
                memory("at its peak", report.peak_memory_bytes)
            }
        }
    }
}

fn latencies(rows: &[(&str, &Latency)]) -> Result<(), CliError> {
    let mut shown = table(&["", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"], &[1, 2, 3, 4, 5]);
    for (name, latency) in rows {
        let mut row = vec![(*name).to_owned()];
        row.extend(milliseconds(latency));
        shown.add_row(row);
    }
    print_table(&shown)
}

fn milliseconds(latency: &Latency) -> [String; 5] {
    let Latency { p50, p90, p99, p999, max } = *latency;
    [p50, p90, p99, p999, max].map(|ms| format!("{ms:.2}"))
}

fn memory(when: &str, resident: Option<u64>) -> Result<(), CliError> {
    resident.map_or(Ok(()), |resident| print_line(format_args!("memory of the server {when}: {}", bytes(resident))))
}

fn throughput(report: &ThroughputReport) -> Result<(), CliError> {
    let header = ["", "requests", "messages/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"];
    let mut rows = table(&header, &[1, 2, 3, 4, 5, 6, 7]);
    let steps = [("published", &report.publish), ("delivered", &report.poll), ("acknowledged", &report.ack)];
    for (name, work) in steps {
        let mut row = vec![name.to_owned(), count(work.requests), count(work.messages_per_second as u64)];
        row.extend(milliseconds(&work.latency_ms));
        rows.add_row(row);
    }
    print_table(&rows)?;
    for (name, work) in steps {
        for (code, number) in &work.errors {
            print_line(format_args!("{} requests failed with {code}, not {name}", count(*number)))?;
        }
    }
    if let Some(cores) = report.cores {
        print_line(format_args!("server and load generator had {cores:.2} processors together"))?;
    }
    let Some(used) = &report.server else { return Ok(()) };
    let requests: Vec<_> =
        used.store_requests.iter().map(|(name, number)| format!("{name} {}", count(*number))).collect();
    print_line(format_args!("store requests: {}", requests.join(", ")))?;
    memory("at its peak", used.peak_memory_bytes)
}

fn blocked(report: &BlockedReport) -> Result<(), CliError> {
    latencies(&[
        ("poll and ack before", &report.before_ms),
        ("poll and ack beside the group", &report.beside_ms),
        ("poll and ack without it, in turns", &report.without_ms),
        ("poll beside the group", &report.poll_beside_ms),
        ("poll without it, in turns", &report.poll_without_ms),
    ])?;
    print_line(format_args!(
        "{} messages wait in one group; beside it over without it: p50 {:.3}, p99 {:.3}; of the poll alone p50 {:.3}",
        count(report.waiting),
        report.ratio_p50,
        report.ratio_p99,
        report.poll_ratio_p50
    ))?;
    print_line(format_args!(
        "its first message was delivered after {:.1} s, one behind all of it after {:.1} s",
        report.first_seconds, report.found_seconds
    ))?;
    memory("in the end", report.memory_bytes)
}

fn outstanding(report: &OutstandingReport) -> Result<(), CliError> {
    latencies(&[("ack of one message", &report.ack_ms)])?;
    print_line(format_args!(
        "{} messages delivered in {:.1} s; {} in flight, {} after the acks",
        count(report.messages),
        report.deliver_seconds,
        count(report.in_flight),
        count(report.in_flight_after_acks)
    ))?;
    memory("before", report.memory_before_bytes)?;
    memory("when all was published", report.memory_filled_bytes)?;
    memory("when all was delivered", report.memory_bytes)?;
    memory("at its peak", report.peak_memory_bytes)?;
    report.bytes_a_message.map_or(Ok(()), |bytes| print_line(format_args!("{bytes:.1} bytes a message in flight")))
}
