//! Scenario `outstanding`: messages that are delivered and not acknowledged, what the server needs for them, and whether acks
//! still work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use super::{
    BenchQueue, LONG_MS,
    args::OutstandingArgs,
    consumer::{Ask, Consumer, ack_body},
    fill,
    report::OutstandingReport,
};
use crate::{
    bench::{connection::Target, tally::Latencies, topic::BenchTopic, usage::Usage},
    cli::{CliError, Context, progress::Ticker},
    client::{QueueSettings, SubscriptionStart},
};

/// Most messages of a poll.
const POLL_MESSAGES: u32 = 1_000;

/// Messages that are acknowledged in the end, one a call, by each consumer.
const ACKS: usize = 250;

/// Polls of a second each that find nothing, before it is given up.
const PATIENCE: u32 = 30;

/// Runs the scenario.
pub(super) async fn run(
    context: &Context,
    topic: &BenchTopic,
    args: &OutstandingArgs,
) -> Result<OutstandingReport, CliError> {
    let settings = QueueSettings { visibility_timeout_ms: Some(LONG_MS), ..QueueSettings::default() };
    let target = Target::new(context.client.base(), &topic.name)?;
    let queue = BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings).await?;
    let ticker = Ticker::new(format!("{} messages in flight", args.messages), context.json());
    let memory = || async { Usage::fetch(&context.client).await.ok()?.memory_bytes.map(|bytes| bytes as u64) };
    let before = memory().await;
    fill::fill(&target, args.messages, args.message_bytes as usize, None).await?;
    let filled = memory().await;
    let left = Arc::new(AtomicU64::new(args.messages));
    let ask = Ask { max_messages: POLL_MESSAGES, wait_ms: 1_000, value_bytes: args.message_bytes as usize };
    let started = Instant::now();
    let mut consumers = JoinSet::new();
    for _ in 0..args.consumers {
        consumers.spawn(receive(Consumer::new(target.clone(), &queue.name, &ask), left.clone()));
    }
    let (mut peak, mut ticks) = (filled, interval(Duration::from_millis(500)));
    let (mut ready, mut seconds) = (Vec::new(), 0.0);
    while !consumers.is_empty() {
        tokio::select! {
            biased;
            ended = consumers.join_next() => {
                let Some(ended) = ended else { break };
                ready.push(ended.map_err(|error| CliError::Failed(error.to_string()))??);
                seconds = started.elapsed().as_secs_f64();
            }
            _ = ticks.tick() => peak = peak.max(memory().await),
        }
    }
    let in_flight = context.client.subscription(&topic.name, &queue.name).await?.in_flight;
    let after = memory().await;
    let mut acks = Latencies::default();
    for (mut consumer, receipts) in ready {
        for receipt in receipts.iter().take(ACKS) {
            let started = Instant::now();
            consumer.ack_all(ack_body(std::iter::once(&receipt[..])), 1).await?;
            acks.record(started.elapsed());
        }
    }
    drop(ticker);
    let left = context.client.subscription(&topic.name, &queue.name).await?.in_flight;
    queue.close(context, topic).await?;
    Ok(OutstandingReport {
        messages: args.messages,
        in_flight: in_flight.unwrap_or_default(),
        in_flight_after_acks: left.unwrap_or_default(),
        deliver_seconds: seconds,
        ack_ms: acks.summary(),
        memory_before_bytes: before,
        memory_filled_bytes: filled,
        memory_bytes: after,
        peak_memory_bytes: peak.max(after),
        bytes_a_message: after.zip(filled).map(|(after, filled)| (after as f64 - filled as f64) / args.messages as f64),
    })
}

/// Receives until nothing is left; gives the receipts of its first poll.
async fn receive(mut consumer: Consumer, left: Arc<AtomicU64>) -> Result<(Consumer, Vec<Bytes>), CliError> {
    let (mut first, mut empty) = (Vec::new(), 0);
    while left.load(Relaxed) > 0 {
        let (receipts, _) = consumer.poll().await?;
        left.fetch_sub(receipts.len() as u64, Relaxed);
        empty = if receipts.is_empty() { empty + 1 } else { 0 };
        if empty > PATIENCE {
            return Err(CliError::Failed(format!("{} messages were not delivered", left.load(Relaxed))));
        }
        if first.is_empty() {
            let polled = consumer.polled();
            first = receipts.into_iter().map(|receipt| Bytes::copy_from_slice(&polled[receipt])).collect();
        }
    }
    Ok((consumer, first))
}
