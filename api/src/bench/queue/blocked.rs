//! Scenario `blocked-group`: a group of which many messages wait behind one that is in flight, and what other groups see of
//! it. Messages of other groups are published one at a time, polled and acknowledged: before the group is filled, and then
//! in turns on this subscription and on one that does not have the messages, so that a noisy machine is unjust to both.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    BenchQueue, LONG_MS,
    args::BlockedArgs,
    consumer::{Ask, Consumer},
    fill,
    report::BlockedReport,
};
use crate::{
    bench::{
        connection::{Connection, Target},
        tally::Latencies,
        topic::BenchTopic,
        usage::Usage,
    },
    cli::{CliError, Context, progress::Ticker},
    client::{QueueSettings, SubscriptionStart},
};

/// How long a poll waits.
const WAIT_MS: u32 = 60_000;

/// Polls that find nothing before it is given up.
const ATTEMPTS: u32 = 10;

/// Polls and acks of one consumer.
#[derive(Default)]
struct Timed {
    poll: Latencies,
    poll_and_ack: Latencies,
}

/// Runs the scenario.
pub(super) async fn run(context: &Context, topic: &BenchTopic, args: &BlockedArgs) -> Result<BlockedReport, CliError> {
    let settings =
        QueueSettings { ordered: Some(true), visibility_timeout_ms: Some(LONG_MS), ..QueueSettings::default() };
    let target = Target::new(context.client.base(), &topic.name)?;
    let value_bytes = args.message_bytes as usize;
    let ask = Ask { max_messages: 1, wait_ms: WAIT_MS, value_bytes };
    let filled = BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings).await?;
    let mut beside = Consumer::new(target.clone(), &filled.name, &ask);
    let mut others = Others::new(target.clone(), value_bytes);
    let ticker = Ticker::new(format!("one group of {} messages", args.messages), context.json());
    let mut before = Timed::default();
    for _ in 0..args.rounds {
        others.publish().await?;
        round(&mut beside, &mut before).await?;
    }
    fill::fill(&target, args.messages, value_bytes, Some("blocked")).await?;
    let started = Instant::now();
    // Its first message stays in flight.
    poll(&mut beside).await?;
    let first_seconds = started.elapsed().as_secs_f64();
    others.publish().await?;
    round(&mut beside, &mut Timed::default()).await?;
    let found_seconds = started.elapsed().as_secs_f64();
    let empty = BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings).await?;
    let mut alone = Consumer::new(target, &empty.name, &ask);
    let (mut with, mut without) = (Timed::default(), Timed::default());
    for turn in 0..args.rounds {
        others.publish().await?;
        if turn % 2 == 0 {
            round(&mut beside, &mut with).await?;
            round(&mut alone, &mut without).await?;
        } else {
            round(&mut alone, &mut without).await?;
            round(&mut beside, &mut with).await?;
        }
    }
    drop(ticker);
    let waiting = context.client.subscription(&topic.name, &filled.name).await?.lag;
    let memory = Usage::fetch(&context.client).await.ok().and_then(|usage| usage.memory_bytes);
    filled.close(context, topic).await?;
    empty.close(context, topic).await?;
    let (with_ms, without_ms) = (with.poll_and_ack.summary(), without.poll_and_ack.summary());
    let (poll_with_ms, poll_without_ms) = (with.poll.summary(), without.poll.summary());
    Ok(BlockedReport {
        waiting,
        rounds: args.rounds,
        first_seconds,
        found_seconds,
        before_ms: before.poll_and_ack.summary(),
        beside_ms: with_ms,
        without_ms,
        poll_beside_ms: poll_with_ms,
        poll_without_ms,
        ratio_p50: with_ms.p50 / without_ms.p50,
        ratio_p99: with_ms.p99 / without_ms.p99,
        poll_ratio_p50: poll_with_ms.p50 / poll_without_ms.p50,
        memory_bytes: memory.map(|bytes| bytes as u64),
    })
}

/// Messages of other groups: each of a group of its own.
struct Others {
    connection: Connection,
    target: Target,
    value: String,
    number: u64,
}

impl Others {
    fn new(target: Target, value_bytes: usize) -> Self {
        Self { connection: Connection::new(target.clone()), target, value: "m".repeat(value_bytes), number: 0 }
    }

    async fn publish(&mut self) -> Result<(), CliError> {
        self.number += 1;
        let (value, number) = (&self.value, self.number);
        let body = format!("{{\"messages\":[{{\"value\":\"{value}\",\"group\":\"other-{number}\",\"partition\":0}}]}}");
        Ok(fill::publish(&mut self.connection, &self.target, &Bytes::from(body)).await?)
    }
}

/// Receives one message, which may have to be looked for.
async fn poll(consumer: &mut Consumer) -> Result<Vec<std::ops::Range<usize>>, CliError> {
    for _ in 0..ATTEMPTS {
        let (receipts, _) = consumer.poll().await?;
        if !receipts.is_empty() {
            return Ok(receipts);
        }
    }
    Err(CliError::Failed("a message was not delivered".to_owned()))
}

async fn round(consumer: &mut Consumer, timed: &mut Timed) -> Result<(), CliError> {
    let started = Instant::now();
    let receipts = poll(consumer).await?;
    timed.poll.record(started.elapsed());
    consumer.ack(&receipts).await?;
    timed.poll_and_ack.record(started.elapsed());
    Ok(())
}
