//! Scenario `throughput`: publishers and consumers of one queue subscription side by side.

use std::sync::Arc;

use futures::FutureExt;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    BenchQueue,
    args::ThroughputArgs,
    consumer::{Ask, Consumer, done},
    report::{ThroughputReport, Work},
};
use crate::{
    bench::{
        args::Format,
        bodies::Bodies,
        connection::{Connection, Target},
        publish::Schedule,
        tally::{Tally, Window},
        topic::BenchTopic,
        usage,
        window::{self, Counted, Measured},
    },
    cli::{CliError, Context},
    client::{QueueSettings, SubscriptionStart},
};

/// How long a poll waits.
const WAIT_MS: u32 = 500;

/// What is counted of the three steps of a message.
struct Steps {
    published: Tally,
    delivered: Tally,
    acknowledged: Tally,
}

impl Counted for Steps {
    fn new(window: Window) -> Self {
        Self { published: Tally::new(window), delivered: Tally::new(window), acknowledged: Tally::new(window) }
    }

    fn add(&mut self, other: Self) {
        self.published.add(other.published);
        self.delivered.add(other.delivered);
        self.acknowledged.add(other.acknowledged);
    }

    fn messages(&self) -> u64 {
        self.acknowledged.messages()
    }
}

/// Runs the scenario.
pub(super) async fn run(
    context: &Context,
    topic: &BenchTopic,
    args: &ThroughputArgs,
) -> Result<ThroughputReport, CliError> {
    let message_bytes = args.message.message_bytes as usize;
    let bodies =
        Arc::new(Bodies::build(args.message.seed, args.messages_per_request as usize, message_bytes, Format::Json)?);
    let settings = QueueSettings { ordered: Some(args.ordered), ..QueueSettings::default() };
    let queue = BenchQueue::create(context, topic, SubscriptionStart::Latest, &settings).await?;
    let target = Target::new(context.client.base(), &topic.name)?;
    let (publishers, consumers) = (usize::from(args.publishers), usize::from(args.consumers));
    let schedule = args.rate.map(|rate| Schedule::new(rate, args.messages_per_request, publishers as u32));
    let room = Arc::new(Semaphore::new(args.ahead.max(args.messages_per_request) as usize));
    let ask = Ask { max_messages: args.poll_messages, wait_ms: WAIT_MS, value_bytes: message_bytes };
    let cpu = usage::own_cpu_seconds();
    let started = Instant::now();
    let Measured { tally, seconds, used } =
        window::measure(context, "queue throughput", &args.time, publishers + consumers, |number, window| {
            if number < publishers {
                let publisher = Publisher {
                    connection: Connection::new(target.clone()),
                    place: number * bodies.len() / publishers,
                    bodies: Arc::clone(&bodies),
                    messages: args.messages_per_request,
                    room: Arc::clone(&room),
                    steps: Steps::new(window),
                };
                publisher.run(window, schedule, number as u32).left_future()
            } else {
                let consumer = Consumer::new(target.clone(), &queue.name, &ask);
                consume(consumer, Steps::new(window), window, Arc::clone(&room)).right_future()
            }
        })
        .await?;
    let own = usage::own_cpu_seconds().zip(cpu).map(|(after, before)| after - before);
    let own = own.map(|cpu| cpu / started.elapsed().as_secs_f64() * seconds);
    queue.close(context, topic).await?;
    let work = |tally: &Tally| Work::new(tally, seconds);
    Ok(ThroughputReport {
        publishers: args.publishers,
        consumers: args.consumers,
        messages_per_request: args.messages_per_request,
        poll_messages: args.poll_messages,
        rate: args.rate,
        seconds,
        publish: work(&tally.published),
        poll: work(&tally.delivered),
        ack: work(&tally.acknowledged),
        cores: used.as_ref().and_then(|used| Some((used.cpu_seconds? + own?) / seconds)),
        own_cpu_seconds: own,
        server: used,
    })
}

struct Publisher {
    connection: Connection,
    bodies: Arc<Bodies>,
    place: usize,
    messages: u32,
    /// Messages that may be published before others are acknowledged.
    room: Arc<Semaphore>,
    steps: Steps,
}

impl Publisher {
    async fn run(mut self, window: Window, schedule: Option<Schedule>, number: u32) -> Result<Steps, CliError> {
        for round in 0.. {
            let mut started = Instant::now();
            if let Some(schedule) = schedule {
                started = schedule.at(round, number);
                sleep_until(started.min(window.to)).await;
            } else {
                match timeout_at(window.to, self.room.acquire_many(self.messages)).await {
                    Ok(Ok(permit)) => permit.forget(),
                    // It is never closed.
                    Ok(Err(_)) | Err(_) => break,
                }
                started = started.max(Instant::now());
            }
            if Instant::now() >= window.to {
                break;
            }
            self.publish(started).await;
        }
        Ok(self.steps)
    }

    async fn publish(&mut self, started: Instant) {
        let body = self.bodies.at(self.place);
        self.place += 1;
        let length = body.len() as u64;
        let request = self.connection.target().publish(self.bodies.format().media_type(), body);
        match done(self.connection.exchange(request).await) {
            Ok(_) => self.steps.published.done(started, Instant::now(), self.messages.into(), length),
            Err(failure) => {
                self.room.add_permits(self.messages as usize);
                self.steps.published.refused(failure.code, failure.wait).await;
            }
        }
    }
}

/// Polls, acknowledges what came, and so on.
async fn consume(
    mut consumer: Consumer,
    mut steps: Steps,
    window: Window,
    room: Arc<Semaphore>,
) -> Result<Steps, CliError> {
    loop {
        let started = Instant::now();
        if started >= window.to {
            return Ok(steps);
        }
        let receipts = match consumer.poll().await {
            Ok((receipts, length)) => {
                steps.delivered.done(started, Instant::now(), receipts.len() as u64, length);
                receipts
            }
            Err(failure) => {
                steps.delivered.refused(failure.code, failure.wait).await;
                continue;
            }
        };
        if receipts.is_empty() {
            continue;
        }
        let started = Instant::now();
        match consumer.ack(&receipts).await {
            Ok(length) => steps.acknowledged.done(started, Instant::now(), receipts.len() as u64, length),
            Err(failure) => steps.acknowledged.refused(failure.code, failure.wait).await,
        }
        room.add_permits(receipts.len());
    }
}
