//! `brigade read`: fetching tasks (`read/fetch.rs`) stay a page ahead of the printing.

use std::{io, time::Duration};

use clap::Args;

use super::{
    CliError, Context,
    print::{Printer, Style},
    times,
};
use crate::client::{Page, Start};

mod fetch;

const AFTER_HELP: &str = "\
Examples:
  brigade read orders                            values of all partitions, one a line, up to now
  brigade read orders --partition 2 --offset 1000 --max 10 --output table
  brigade read orders --timestamp 1767225600000 --output json
  brigade read orders --offset latest --follow   wait for new messages, like tail -f

With --partition all the partitions are printed one after the other; with --follow, each message
as it comes, in order within its partition. A tombstone prints as an empty line unless --output
json or table is given.";

/// Arguments of `brigade read`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ReadArgs {
    /// Name of the topic
    pub topic: String,
    /// Number of the partition, or all
    #[arg(long, short, value_name = "N|all", default_value = "all", value_parser = partition)]
    pub partition: PartitionArg,
    /// Where to begin: earliest, latest or an offset
    #[arg(long, value_name = "OFFSET", default_value = "earliest", value_parser = start)]
    pub offset: Start,
    /// Begin at the first message of this time or later: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "TIME", conflicts_with = "offset", value_parser = times::point)]
    pub timestamp: Option<i64>,
    /// Most messages, over all partitions
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// Go on waiting for new messages
    #[arg(long, short)]
    pub follow: bool,
    /// Stop at what was the high watermark when reading began (the default)
    #[arg(long, conflicts_with = "follow")]
    pub until_end: bool,
    /// Print values, one a line (the default), whatever --output says
    #[arg(long)]
    pub values: bool,
    /// Most messages of one page
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub page_messages: u64,
    /// Most bytes of one page
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub page_bytes: u64,
    /// How long a request is repeated while the server is away
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub retry_seconds: u32,
}

/// Which partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionArg {
    /// All of them.
    All,
    /// This one.
    One(u32),
}

fn partition(text: &str) -> Result<PartitionArg, String> {
    match text {
        "all" => Ok(PartitionArg::All),
        _ => text.parse().map(PartitionArg::One).map_err(|_| "a number or `all`".to_owned()),
    }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => text.parse().map(Start::Offset).map_err(|_| "`earliest`, `latest` or a number from 0 on".to_owned()),
    }
}

/// Runs `brigade read`.
pub(super) async fn run(context: &Context, args: ReadArgs) -> Result<(), CliError> {
    let partitions = match args.partition {
        PartitionArg::One(partition) => vec![partition],
        PartitionArg::All => {
            let topic = context.client.topic(&args.topic).await?;
            topic.partitions.iter().map(|partition| partition.partition).collect()
        }
    };
    let plan = fetch::Plan {
        topic: args.topic,
        start: args.timestamp.map_or(args.offset, Start::Timestamp),
        max_messages: args.page_messages.min(args.max.unwrap_or(u64::MAX)).max(1),
        max_bytes: args.page_bytes,
        follow: args.follow,
        give_up_after: Duration::from_secs(args.retry_seconds.into()),
    };
    let mut printer = Printer::new(io::stdout().lock(), Style::choose(args.values, context.output))?;
    let mut remaining = args.max.unwrap_or(u64::MAX);
    let mut pages = fetch::start(&context.client, plan, partitions);
    while remaining > 0 {
        let Some(page) = pages.recv().await else { break };
        remaining -= print_page(&mut printer, &page?, remaining)?;
        if pages.is_empty() {
            printer.flush()?;
        }
    }
    printer.flush()
}

/// Prints at most `most` messages of a page; returns how many.
fn print_page(printer: &mut Printer<impl io::Write>, page: &Page, most: u64) -> Result<u64, CliError> {
    let mut printed = 0;
    for line in page.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if printed == most {
            break;
        }
        printer.message(line)?;
        printed += 1;
    }
    Ok(printed)
}
