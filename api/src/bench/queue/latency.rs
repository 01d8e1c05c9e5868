//! Scenario `latency`: messages at a steady rate, one a publish, and one consumer that always waits. Of each message the time
//! from when its publish was due until it was acknowledged to its publisher, and until the consumer held it. Receipts are
//! acknowledged on a connection of their own, so that the consumer waits again at once.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    BenchQueue,
    args::LatencyArgs,
    consumer::{Ask, Consumer, ack_body, done},
    report::LatencyReport,
};
use crate::{
    bench::{
        connection::{Connection, Target},
        generate::LogLines,
        publish::Schedule,
        tally::Latencies,
        topic::BenchTopic,
    },
    cli::{CliError, Context, progress::Ticker},
    client::{QueueSettings, SubscriptionStart},
};

/// How long a poll waits.
const WAIT_MS: u32 = 500;

/// How long messages may take after the last publish.
const REST: Duration = Duration::from_secs(10);

/// Digits of a message's number, at the front of its value.
const DIGITS: usize = 10;

/// When things happened to each message, in microseconds since the beginning; 0 if they did not.
struct Times {
    begin: Instant,
    acknowledged: Vec<AtomicU64>,
    delivered: Vec<AtomicU64>,
}

impl Times {
    fn note(&self, times: &[AtomicU64], number: usize) {
        let micros = self.begin.elapsed().as_micros() as u64;
        // Of a message that comes twice the first time counts.
        times.get(number).map(|time| time.compare_exchange(0, micros.max(1), Relaxed, Relaxed));
    }

    fn missing(times: &[AtomicU64]) -> usize {
        times.iter().filter(|time| time.load(Relaxed) == 0).count()
    }
}

#[derive(Deserialize)]
struct Polled<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    receipt: Cow<'a, str>,
}

/// Runs the scenario.
pub(super) async fn run(context: &Context, topic: &BenchTopic, args: &LatencyArgs) -> Result<LatencyReport, CliError> {
    let settings = QueueSettings { ordered: Some(args.ordered), ..QueueSettings::default() };
    let queue = BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings).await?;
    let target = Target::new(context.client.base(), &topic.name)?;
    let seconds = args.time.warmup_seconds + args.time.seconds;
    let messages = (seconds * u64::from(args.rate)) as usize;
    let warmup = (args.time.warmup_seconds * u64::from(args.rate)) as usize;
    let slots = || (0..messages).map(|_| AtomicU64::new(0)).collect();
    let schedule = Schedule::new(args.rate, 1, u32::from(args.connections));
    let times = Arc::new(Times { begin: schedule.at(0, 0), acknowledged: slots(), delivered: slots() });
    let ticker = Ticker::new(format!("queue latency, {seconds} s"), context.json());
    let ask = Ask { max_messages: 100, wait_ms: WAIT_MS, value_bytes: 0 };
    let (sender, receipts) = mpsc::channel(1_000);
    let consumers = [
        tokio::spawn(consume(Consumer::new(target.clone(), &queue.name, &ask), sender, times.clone())),
        tokio::spawn(settle(Consumer::new(target.clone(), &queue.name, &ask), receipts)),
    ];
    let mut publishers = JoinSet::new();
    for number in 0..u32::from(args.connections) {
        let lines = LogLines::new(args.message.seed + u64::from(number), args.message.message_bytes as usize);
        publishers.spawn(publish(target.clone(), lines, schedule, number, args.connections.into(), times.clone()));
    }
    let failed = |error: tokio::task::JoinError| CliError::Failed(error.to_string());
    while let Some(ended) = publishers.join_next().await {
        ended.map_err(failed)??;
    }
    for consumer in consumers {
        consumer.await.map_err(failed)??;
    }
    drop(ticker);
    queue.close(context, topic).await?;
    Ok(summary(args.rate, &times, warmup, |number| {
        let connections = u32::from(args.connections);
        schedule.at(number / connections, number % connections)
    }))
}

fn summary(rate: u32, times: &Times, warmup: usize, due: impl Fn(u32) -> Instant) -> LatencyReport {
    let (mut ack, mut delivery, mut after) = (Latencies::default(), Latencies::default(), Latencies::default());
    let counted = times.acknowledged.iter().zip(&times.delivered).enumerate().skip(warmup);
    let mut messages = 0;
    for (number, (acknowledged, delivered)) in counted {
        let due = (due(number as u32) - times.begin).as_micros() as u64;
        let (acknowledged, delivered) = (acknowledged.load(Relaxed), delivered.load(Relaxed));
        let micros = |from: u64, to: u64| Duration::from_micros(to.saturating_sub(from));
        ack.record(micros(due, acknowledged));
        delivery.record(micros(due, delivered));
        after.record(micros(acknowledged, delivered));
        messages += 1;
    }
    let (publish_ack_ms, delivery_ms) = (ack.summary(), delivery.summary());
    LatencyReport {
        rate,
        messages,
        publish_ack_ms,
        delivery_ms,
        delivery_after_ack_ms: after.summary(),
        p99_over_ack_p99_ms: delivery_ms.p99 - publish_ack_ms.p99,
    }
}

/// Publishes every message of this connection when it is due.
async fn publish(
    target: Target,
    mut lines: LogLines,
    schedule: Schedule,
    number: u32,
    step: usize,
    times: Arc<Times>,
) -> Result<(), CliError> {
    let mut connection = Connection::new(target.clone());
    for (round, message) in (0..).zip((number as usize..times.acknowledged.len()).step_by(step)) {
        let line = String::from_utf8_lossy(lines.next_line());
        let value = format!("{message:0DIGITS$}{}", line.get(DIGITS..).unwrap_or_default());
        let body = Bytes::from(serde_json::json!({"messages": [{"value": value}]}).to_string());
        sleep_until(schedule.at(round, number)).await;
        done(connection.exchange(target.publish("application/json", body)).await)?;
        times.note(&times.acknowledged, message);
    }
    Ok(())
}

/// Receives all messages; their receipts go on.
async fn consume(mut consumer: Consumer, receipts: mpsc::Sender<String>, times: Arc<Times>) -> Result<(), CliError> {
    let mut last = Instant::now();
    let mut left = VecDeque::new();
    while Times::missing(&times.delivered) > 0 {
        consumer.poll().await?;
        let polled: Polled<'_> = serde_json::from_slice(consumer.polled())
            .map_err(|error| CliError::Failed(format!("the answer of a poll: {error}")))?;
        if !polled.messages.is_empty() {
            last = Instant::now();
        } else if last.elapsed() > REST {
            let missing = Times::missing(&times.delivered);
            return Err(CliError::Failed(format!("{missing} messages were not delivered")));
        }
        for message in polled.messages {
            if let Some(number) = message.value.get(..DIGITS).and_then(|digits| digits.parse().ok()) {
                times.note(&times.delivered, number);
            }
            left.push_back(message.receipt.into_owned());
        }
        while let Some(receipt) = left.pop_front() {
            // Whoever settles has failed, and says so itself.
            let _ = receipts.send(receipt).await;
        }
    }
    Ok(())
}

/// Acknowledges what the consumer got, all that has come at once.
async fn settle(mut consumer: Consumer, mut receipts: mpsc::Receiver<String>) -> Result<(), CliError> {
    let mut some = Vec::new();
    while receipts.recv_many(&mut some, 1_000).await > 0 {
        let body = ack_body(some.iter().map(String::as_bytes));
        consumer.ack_all(body, some.len()).await?;
        some.clear();
    }
    Ok(())
}
