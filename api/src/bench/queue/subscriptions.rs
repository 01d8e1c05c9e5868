//! Scenario `subscriptions`: many queue subscriptions of one topic, each with a consumer that waits. Every message goes to all
//! of them.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use super::{
    BenchQueue,
    args::SubscriptionsArgs,
    consumer::{Ask, Consumer},
    fill::publish,
    report::SubscriptionsReport,
};
use crate::{
    bench::{
        args::Format,
        bodies::Bodies,
        connection::{Connection, Target},
        tally::Latencies,
        topic::BenchTopic,
        usage::Usage,
    },
    cli::{CliError, Context, progress::Ticker},
    client::{QueueSettings, SubscriptionStart},
};

/// Subscriptions created or deleted at once.
const AT_ONCE: usize = 32;

/// Polls of a second each that find nothing, before it is given up.
const PATIENCE: u32 = 60;

/// Runs the scenario.
pub(super) async fn run(
    context: &Context,
    topic: &BenchTopic,
    args: &SubscriptionsArgs,
) -> Result<SubscriptionsReport, CliError> {
    let memory = || async { Usage::fetch(&context.client).await.ok()?.memory_bytes.map(|bytes| bytes as u64) };
    let ticker = Ticker::new(format!("{} subscriptions", args.subscriptions), context.json());
    let before = memory().await;
    let settings = QueueSettings::default();
    let create = |_| BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings);
    let queues: Vec<_> =
        stream::iter(0..args.subscriptions).map(create).buffer_unordered(AT_ONCE).try_collect().await?;
    let target = Target::new(context.client.base(), &topic.name)?;
    let per_request = u64::from(args.messages_per_request).min(args.messages);
    let message_bytes = args.message.message_bytes as usize;
    let bodies = Bodies::build(args.message.seed, per_request as usize, message_bytes, Format::Json)?;
    let publishes = args.messages.div_ceil(per_request);
    let ask = Ask { max_messages: args.messages_per_request.min(1_000), wait_ms: 1_000, value_bytes: message_bytes };
    let ready = Arc::new(Barrier::new(queues.len() + 1));
    let mut consumers = JoinSet::new();
    for queue in &queues {
        let consumer = Consumer::new(target.clone(), &queue.name, &ask);
        consumers.spawn(consume(consumer, publishes * per_request, ready.clone()));
    }
    ready.wait().await;
    // All of them wait now.
    sleep(Duration::from_millis(500)).await;
    let waiting = memory().await;
    let started = Instant::now();
    let mut connection = Connection::new(target.clone());
    let mut acks = Latencies::default();
    for number in 0..publishes {
        let started = Instant::now();
        publish(&mut connection, &target, &bodies.at(number as usize)).await?;
        acks.record(started.elapsed());
    }
    let (mut peak, mut ticks) = (waiting, interval(Duration::from_millis(500)));
    while !consumers.is_empty() {
        tokio::select! {
            biased;
            ended = consumers.join_next() => match ended {
                Some(ended) => ended.map_err(|error| CliError::Failed(error.to_string()))??,
                None => break,
            },
            _ = ticks.tick() => peak = peak.max(memory().await),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = memory().await;
    drop(ticker);
    let messages = publishes * per_request;
    let deliveries = messages * queues.len() as u64;
    let close = |queue: BenchQueue| queue.close(context, topic);
    let subscriptions = args.subscriptions;
    stream::iter(queues).map(close).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(SubscriptionsReport {
        subscriptions,
        messages,
        seconds,
        deliveries_per_second: deliveries as f64 / seconds,
        publish_ack_ms: acks.summary(),
        memory_before_bytes: before,
        memory_waiting_bytes: waiting,
        peak_memory_bytes: peak.max(after),
    })
}

/// Receives and acknowledges so many messages.
async fn consume(mut consumer: Consumer, messages: u64, ready: Arc<Barrier>) -> Result<(), CliError> {
    consumer.poll_nothing().await?;
    ready.wait().await;
    let (mut left, mut empty) = (messages, 0);
    while left > 0 {
        let (receipts, _) = consumer.poll().await?;
        empty = if receipts.is_empty() { empty + 1 } else { 0 };
        if empty > PATIENCE {
            return Err(CliError::Failed(format!("{left} messages of a subscription were not delivered")));
        }
        if !receipts.is_empty() {
            consumer.ack(&receipts).await?;
        }
        left = left.saturating_sub(receipts.len() as u64);
    }
    Ok(())
}
