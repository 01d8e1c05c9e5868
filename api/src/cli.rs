//! The command line: one file a command, each with its arguments and what it does with them.
//!
//! Tables for people, `--output json` for programs, errors on standard error, exit codes as [`exit`] lists them.

use std::process::ExitCode;

use brigade_index::env::Env;
use clap::{Parser, Subcommand};

use crate::client::{Client, Settlement};

pub mod bucket;
pub mod compactor;
pub mod cost;
pub mod dead_letters;
pub mod exit;
pub mod export;
pub mod import;
mod interrupt;
pub mod output;
pub mod poll;
mod print;
pub(crate) mod progress;
pub mod publish;
pub mod read;
pub mod region;
pub mod restore;
pub mod scrub;
pub mod serve;
pub mod settle;
pub mod shard;
pub mod status;
pub mod subscription;
#[cfg(test)]
mod tests;
mod times;
pub mod topic;
pub mod transaction;
pub mod transfer;
mod units;

pub use exit::CliError;
pub use output::OutputFormat;

const AFTER_HELP: &str = "\
Begin here:
  brigade serve                             a server on 127.0.0.1:7070, data in ./brigade-data
  brigade topic create orders --partitions 4
  brigade publish orders 'first' 'second' --key customer-7
  brigade read orders
  brigade poll orders billing --create --commit
  brigade subscription create orders workers --kind queue
  brigade bench all                         how fast is it here?

Exit codes:
  0  done
  1  failed
  2  wrong usage of the command line
  3  the topic, subscription, bucket or file does not exist
  4  the input was refused: change it
  5  the server or store is unavailable: try again later
  130, 143  ended by SIGINT or SIGTERM

Every command has its own --help with examples.";

/// Brigade, a message queue whose only durable state is object storage.
#[derive(Debug, Parser)]
#[command(name = "brigade", version, about, after_help = AFTER_HELP, max_term_width = 120)]
pub struct Cli {
    /// Address of the server, for every command that talks to one
    #[arg(long, global = true, env = "BRIGADE_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// Output for people (table, the default) or for programs (json)
    #[arg(long, global = true, env = "BRIGADE_OUTPUT", value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server
    Serve(Box<serve::ServeArgs>),
    /// Create, list, describe, alter and delete topics
    Topic(topic::TopicArgs),
    /// Publish messages from arguments, standard input or a file
    Publish(publish::PublishArgs),
    /// Read messages of a topic by offset or time
    Read(read::ReadArgs),
    /// Create, list, show, change, move and delete subscriptions
    Subscription(Box<subscription::SubscriptionArgs>),
    /// Write a topic to a Parquet, NDJSON or CSV file
    Export(export::ExportArgs),
    /// Publish the messages of a Parquet, NDJSON or CSV file
    Import(import::ImportArgs),
    /// Receive messages of a subscription, and commit or acknowledge them
    Poll(poll::PollArgs),
    /// Acknowledge messages of a queue: they are done
    Ack(settle::ReceiptArgs),
    /// Give messages of a queue back: they come again
    Nack(settle::NackArgs),
    /// Take more time for messages of a queue
    Extend(settle::ExtendArgs),
    /// Give messages of a queue up: they become dead letters
    Reject(settle::ReceiptArgs),
    /// List the dead letters of a queue, give them back, forget them
    DeadLetters(dead_letters::DeadLetterArgs),
    /// Publish to several topics together, list and decide transactions
    Transaction(transaction::TransactionArgs),
    /// Measure throughput, latency and cost against a running server
    Bench(crate::bench::BenchArgs),
    /// Show what the server's requests and bytes cost, by a table of prices
    Cost(cost::CostArgs),
    /// Create a bucket, or check that a store is fit for Brigade
    Bucket(bucket::BucketArgs),
    /// List the regions of the cluster, add, remove and replace them
    Region(region::RegionArgs),
    /// Show what the compactor does, and have everything archived now
    Compactor(compactor::CompactorArgs),
    /// Read everything again from the regions' buckets, compare it, and repair it
    Scrub(scrub::ScrubArgs),
    /// Restore a cluster into empty buckets from the bucket of one of its regions
    Restore(restore::RestoreArgs),
    /// List the shards with their leaders, partitions and regions
    Shard(shard::ShardArgs),
    /// Show whether the server is ready, and its regions and shards
    Status,
}

/// What a command that talks to a server needs.
pub(crate) struct Context {
    /// The server.
    pub(crate) client: Client,
    /// The asked output, if any.
    pub(crate) output: Option<OutputFormat>,
}

impl Context {
    pub(crate) fn json(&self) -> bool {
        self.output == Some(OutputFormat::Json)
    }
}

/// Runs a command to its end and says how it went.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&CliError::from(error), cli.output),
    };
    let code = runtime.block_on(dispatch(cli));
    // A thread may still be waiting for input that never comes.
    runtime.shutdown_background();
    code
}

async fn dispatch(cli: Cli) -> ExitCode {
    let output = cli.output;
    if let Command::Serve(args) = cli.command {
        return crate::serve::main(*args).await;
    }
    let result = match Client::new(&cli.server, Env::system()) {
        Ok(client) => command(Context { client, output }, cli.command).await,
        Err(error) => Err(CliError::Usage(format!("{error}; {}", error.hint()))),
    };
    match result {
        Ok(()) | Err(CliError::ReaderGone) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error, output),
    }
}

async fn command(context: Context, command: Command) -> Result<(), CliError> {
    match command {
        // Has its own exit codes and needs no client.
        Command::Serve(_) => Ok(()),
        Command::Topic(args) => topic::run(&context, args).await,
        Command::Publish(args) => publish::run(&context, args).await,
        Command::Read(args) => read::run(&context, args).await,
        Command::Subscription(args) => subscription::run(&context, *args).await,
        Command::Export(args) => export::run(&context, args).await,
        Command::Import(args) => import::run(&context, args).await,
        Command::Poll(args) => poll::run(&context, args).await,
        Command::Ack(args) => settle::run(&context, Settlement::Ack, args).await,
        Command::Nack(args) => settle::run(&context, args.settlement(), args.receipts).await,
        Command::Extend(args) => settle::run(&context, args.settlement(), args.receipts).await,
        Command::Reject(args) => settle::run(&context, Settlement::Reject, args).await,
        Command::DeadLetters(args) => dead_letters::run(&context, args).await,
        Command::Transaction(args) => transaction::run(&context, args).await,
        Command::Bench(args) => crate::bench::run(&context, args).await,
        Command::Cost(args) => cost::run(&context, args).await,
        Command::Bucket(args) => bucket::run(args, output_or_table(&context)).await,
        Command::Region(args) => region::run(&context, args).await,
        Command::Compactor(args) => compactor::run(&context, args).await,
        Command::Scrub(args) => scrub::run(&context, args).await,
        Command::Restore(args) => restore::run(&context, args).await,
        Command::Shard(args) => shard::run(&context, args).await,
        Command::Status => status::run(&context).await,
    }
}

fn output_or_table(context: &Context) -> OutputFormat {
    context.output.unwrap_or(OutputFormat::Table)
}
