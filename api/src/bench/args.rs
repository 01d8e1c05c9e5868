//! Arguments of the scenarios.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::queue::QueueCommand;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Messages published and acknowledged a second
    Publish(LoadArgs),
    /// Messages read a second, whole partitions again and again
    Read(ReadArgs),
    /// Latency of one message at a time, beside that of a bare PUT of the same size
    AckLatency(AckArgs),
    /// What a queue subscription does
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Publish, publish one message a request, read, and ack latency
    All(AllArgs),
    /// Write JSON web-server log lines to standard output
    Generate(GenerateArgs),
}

#[derive(Args, Clone, Debug)]
pub(super) struct TopicArgs {
    /// Topic to use; it is created if it does not exist [default: bench-RANDOM, deleted afterwards]
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
    /// Partitions of a created topic
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..))]
    pub(super) partitions: u32,
    /// Do not delete a created topic
    #[arg(long)]
    pub(super) keep_topic: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct TimeArgs {
    /// Measured time
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = value_parser!(u64).range(1..=86_400))]
    pub(super) seconds: u64,
    /// Time before it that is not measured
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = value_parser!(u64).range(..=86_400))]
    pub(super) warmup_seconds: u64,
}

#[derive(Args, Clone, Debug)]
pub(super) struct MessageArgs {
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=16_777_216))]
    pub(super) message_bytes: u32,
    /// Seed of the generated values
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    #[command(flatten)]
    pub(super) time: TimeArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    /// Connections, each with one request in flight
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    /// Messages of one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(super) messages_per_request: u32,
    /// Messages a second, open loop: requests have a schedule, and latency counts from it [default: closed loop]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// Format of the publish bodies
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub(super) publish_format: Format,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ReadArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    #[command(flatten)]
    pub(super) time: TimeArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    /// Connections, each with one request in flight
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    #[command(flatten)]
    pub(super) page: PageArgs,
    /// Messages that are published first when the topic is empty
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    pub(super) fill_messages: u64,
}

#[derive(Args, Clone, Debug)]
pub(super) struct PageArgs {
    /// Format of the pages
    #[arg(long = "format", value_name = "FORMAT", default_value = "json")]
    pub(super) format: Format,
    /// Most messages of one page
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u64).range(1..))]
    pub(super) page_messages: u64,
    /// Most bytes of one page
    #[arg(long, value_name = "N", default_value_t = 4 * 1024 * 1024, value_parser = value_parser!(u64).range(1..))]
    pub(super) page_bytes: u64,
}

#[derive(Args, Clone, Debug)]
pub(super) struct AckArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    #[command(flatten)]
    pub(super) bare: BareArgs,
}

#[derive(Args, Clone, Debug)]
pub(super) struct BareArgs {
    /// Directory for the bare PUTs, best the one in the server's data that holds its newest journal objects, since an
    /// fsync costs more in one place of a disk than in another; without it only acks are measured
    #[arg(long, value_name = "DIR")]
    pub(super) bare_dir: Option<PathBuf>,
    /// Messages published one at a time, alternating with bare PUTs
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
}

#[derive(Args, Clone, Debug)]
pub(super) struct AllArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) page: PageArgs,
    #[command(flatten)]
    pub(super) bare: BareArgs,
    /// Connections of the scenario with one message a request
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u16).range(1..))]
    pub(super) single_connections: u16,
}

impl AllArgs {
    pub(super) fn read(&self) -> ReadArgs {
        let LoadArgs { topic, time, message, connections, .. } = self.load.clone();
        ReadArgs { topic, time, message, connections, page: self.page.clone(), fill_messages: 0 }
    }

    pub(super) fn ack(&self) -> AckArgs {
        let LoadArgs { topic, message, .. } = self.load.clone();
        AckArgs { topic, message, bare: self.bare.clone() }
    }
}

#[derive(Args, Clone, Debug)]
pub(super) struct GenerateArgs {
    /// Number of lines
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(super) messages: u64,
    #[command(flatten)]
    pub(super) message: MessageArgs,
}

/// Format of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One object with all messages.
    Json,
    /// One message object a line.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}
