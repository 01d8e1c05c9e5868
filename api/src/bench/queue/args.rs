//! Arguments of the queue scenarios.

use clap::{Args, Subcommand, value_parser};

use crate::bench::args::{MessageArgs, TimeArgs, TopicArgs};

#[derive(Debug, Subcommand)]
pub(in crate::bench) enum QueueCommand {
    /// Messages published, delivered and acknowledged a second
    Throughput(ThroughputArgs),
    /// From publish to a waiting consumer, beside the ack of the same publish; open loop
    Latency(LatencyArgs),
    /// Latency of other groups beside one of which many messages wait and the first is in flight
    BlockedGroup(BlockedArgs),
    /// Memory of the server with many messages delivered and not acknowledged
    Outstanding(OutstandingArgs),
    /// Many subscriptions of one topic, each with a waiting consumer
    Subscriptions(SubscriptionsArgs),
}

#[derive(Args, Clone, Debug)]
pub(in crate::bench) struct ThroughputArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    #[command(flatten)]
    pub(super) time: TimeArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    /// Publishing connections, each with one request in flight
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    pub(super) publishers: u16,
    /// Consuming connections, each polls, then acknowledges what it got
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    pub(super) consumers: u16,
    /// Messages of one publish
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) messages_per_request: u32,
    /// Most messages of one poll
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) poll_messages: u32,
    /// Messages a second, open loop [default: as fast as they are acknowledged]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// Without --rate: most messages that are published and not acknowledged by a consumer
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(super) ahead: u32,
    /// Messages of a key strictly one after the other
    #[arg(long)]
    pub(super) ordered: bool,
}

#[derive(Args, Clone, Debug)]
pub(in crate::bench) struct LatencyArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    #[command(flatten)]
    pub(super) time: TimeArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    /// Messages a second, one a publish
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(super) rate: u32,
    /// Publishing connections, which take turns
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    /// Messages of a key strictly one after the other: each is looked at before it is delivered
    #[arg(long)]
    pub(super) ordered: bool,
}

#[derive(Args, Clone, Debug)]
pub(in crate::bench) struct BlockedArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// Messages that wait in one group
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1_000..))]
    pub(super) messages: u64,
    /// Messages of other groups, one at a time, before it and beside it
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=65_536))]
    pub(super) message_bytes: u32,
}

#[derive(Args, Clone, Debug)]
pub(in crate::bench) struct OutstandingArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// Messages to deliver
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1_000..))]
    pub(super) messages: u64,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=65_536))]
    pub(super) message_bytes: u32,
    /// Polling connections
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    pub(super) consumers: u16,
}

#[derive(Args, Clone, Debug)]
pub(in crate::bench) struct SubscriptionsArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    /// Subscriptions
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u16).range(1..=1_000))]
    pub(super) subscriptions: u16,
    /// Messages, each of which every subscription gets
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u64).range(1..))]
    pub(super) messages: u64,
    /// Messages of one publish
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) messages_per_request: u32,
}
