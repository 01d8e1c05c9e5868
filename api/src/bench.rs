//! `brigade bench`: a load generator and what it measures against a running server.
//!
//! | file | holds |
//! |---|---|
//! | `bench/generate.rs` | web-server log lines, the same for the same seed |
//! | `bench/bodies.rs` | publish bodies, built before the clock starts |
//! | `bench/connection.rs` | one keep-alive connection, hyper without a pool |
//! | `bench/window.rs` | runs tasks over warm-up and measured time, and watches the server meanwhile |
//! | `bench/publish.rs`, `read.rs`, `ack.rs` | the scenarios |
//! | `bench/queue.rs` | those of queue subscriptions |
//! | `bench/usage.rs` | the server's own counters: store requests, bytes, processor time, memory |
//! | `bench/tally.rs`, `report.rs` | what is counted, and how it is shown |

use clap::Args;

use crate::cli::{CliError, Context};

mod ack;
mod args;
mod bodies;
mod connection;
mod generate;
mod publish;
mod queue;
mod read;
mod report;
mod tally;
mod topic;
mod usage;
mod window;

use args::{BenchCommand, LoadArgs};
use report::Reports;
use topic::BenchTopic;

const AFTER_HELP: &str = "\
Examples:
  brigade bench all                    publish, read and ack latency with good defaults
  brigade bench publish --messages-per-request 1000 --seconds 20
  brigade bench publish --messages-per-request 1 --connections 256
  brigade bench publish --rate 50000   open loop: latency counts from the intended start
  brigade bench read --format arrow
  brigade bench ack-latency --bare-dir .
      against a bare fsynced PUT in this directory, on the disk of the server's data
  brigade bench queue throughput       publish, poll and ack of one queue side by side
  brigade bench queue latency --rate 500
  brigade bench queue blocked-group --messages 10000000
  brigade bench generate --messages 1000000 > access.log
      a data set of JSON web-server log lines, the same for the same --seed

The load generator shares the machine's processors with the server if both run here. Messages are
generated JSON web-server log lines, every one different; LZ4 compresses them about 2.7 times.
Bodies are built before the clock starts: up to 100,000 messages or 192 MiB, sent again in turn
when a run outlasts them.";

/// Arguments of `brigade bench`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

/// Runs `brigade bench`.
pub(crate) async fn run(context: &Context, args: BenchArgs) -> Result<(), CliError> {
    let topic = match &args.command {
        BenchCommand::Generate(args) => return generate::run(args),
        BenchCommand::Publish(args) => &args.topic,
        BenchCommand::Read(args) => &args.topic,
        BenchCommand::AckLatency(args) => &args.topic,
        BenchCommand::Queue(command) => command.topic(),
        BenchCommand::All(args) => &args.load.topic,
    };
    let topic = BenchTopic::open(context, topic).await?;
    let measured = measure(context, &topic, &args.command).await;
    let closed = topic.close(context).await;
    measured?.show(context)?;
    closed
}

async fn measure(context: &Context, topic: &BenchTopic, command: &BenchCommand) -> Result<Reports, CliError> {
    let mut reports = Reports::default();
    match command {
        // Measures nothing.
        BenchCommand::Generate(_) => {}
        BenchCommand::Publish(load) => {
            reports.scenarios.push(publish::run(context, topic, load, "publish").await?);
        }
        BenchCommand::Read(args) => reports.scenarios.push(read::run(context, topic, args).await?),
        BenchCommand::AckLatency(args) => reports.ack_latency = Some(ack::run(context, topic, args).await?),
        BenchCommand::Queue(command) => reports.queue = Some(queue::run(context, topic, command).await?),
        BenchCommand::All(args) => all(context, topic, args, &mut reports).await?,
    }
    Ok(reports)
}

async fn all(
    context: &Context,
    topic: &BenchTopic,
    args: &args::AllArgs,
    reports: &mut Reports,
) -> Result<(), CliError> {
    let load = &args.load;
    reports.scenarios.push(publish::run(context, topic, load, "publish").await?);
    let single = LoadArgs { messages_per_request: 1, connections: args.single_connections, rate: None, ..load.clone() };
    reports.scenarios.push(publish::run(context, topic, &single, "publish one a request").await?);
    reports.scenarios.push(read::run(context, topic, &args.read()).await?);
    reports.ack_latency = Some(ack::run(context, topic, &args.ack()).await?);
    Ok(())
}
