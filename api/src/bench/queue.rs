//! `brigade bench queue`: what a queue subscription does.
//!
//! | file | holds |
//! |---|---|
//! | `throughput` | publishers and consumers side by side |
//! | `latency` | one waiting consumer, messages at a steady rate |
//! | `blocked` | consumers beside a group of which millions wait |
//! | `outstanding` | millions delivered and not acknowledged |
//! | `subscriptions` | many subscriptions of one topic |
//! | `consumer` | polls and acks, fast |
//! | `fill` | messages put there before the clock starts |
//! | `report` | how it is shown |

mod args;
mod blocked;
mod consumer;
mod fill;
mod latency;
mod outstanding;
mod report;
mod subscriptions;
mod throughput;

use std::time::Duration;

use super::{args::TopicArgs, topic::BenchTopic};
use crate::{
    cli::{CliError, Context},
    client::{QueueSettings, SubscriptionStart},
};

pub(super) use args::QueueCommand;
pub(super) use report::QueueReport;

/// How long a receipt is good where nothing is to come again.
const LONG_MS: u32 = 12 * 60 * 60 * 1_000;

impl QueueCommand {
    /// The topic that it runs on.
    pub(super) const fn topic(&self) -> &TopicArgs {
        match self {
            Self::Throughput(args) => &args.topic,
            Self::Latency(args) => &args.topic,
            Self::BlockedGroup(args) => &args.topic,
            Self::Outstanding(args) => &args.topic,
            Self::Subscriptions(args) => &args.topic,
        }
    }
}

/// Runs a scenario.
pub(super) async fn run(
    context: &Context,
    topic: &BenchTopic,
    command: &QueueCommand,
) -> Result<QueueReport, CliError> {
    Ok(match command {
        QueueCommand::Throughput(args) => QueueReport::Throughput(throughput::run(context, topic, args).await?),
        QueueCommand::Latency(args) => QueueReport::Latency(latency::run(context, topic, args).await?),
        QueueCommand::BlockedGroup(args) => QueueReport::BlockedGroup(blocked::run(context, topic, args).await?),
        QueueCommand::Outstanding(args) => QueueReport::Outstanding(outstanding::run(context, topic, args).await?),
        QueueCommand::Subscriptions(args) => {
            QueueReport::Subscriptions(subscriptions::run(context, topic, args).await?)
        }
    })
}

/// A queue subscription that is deleted when the scenario ends.
#[derive(Debug)]
struct BenchQueue {
    name: String,
}

impl BenchQueue {
    async fn create(
        context: &Context,
        topic: &BenchTopic,
        start: SubscriptionStart,
        settings: &QueueSettings,
    ) -> Result<Self, CliError> {
        let name = format!("bench-{:016x}", context.client.env().entropy.next_u64());
        context.client.create_queue(&topic.name, &name, start, settings).await?;
        Ok(Self { name })
    }

    async fn close(self, context: &Context, topic: &BenchTopic) -> Result<(), CliError> {
        Ok(context.client.delete_subscription(&topic.name, &self.name).await?)
    }
}

/// A request that was not answered as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    code: String,
    wait: Option<Duration>,
}

impl Failure {
    fn new(code: &str) -> Self {
        Self { code: code.to_owned(), wait: None }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failed(format!("a request failed with code {}", failure.code))
    }
}
