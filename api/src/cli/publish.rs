//! `brigade publish`: an input thread cuts lines into requests (`publish/input.rs`, `publish/encode.rs`), several of which
//! are in flight at once (`publish/send.rs`).

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::Args;

use super::{CliError, Context};

mod encode;
mod input;
mod send;

const AFTER_HELP: &str = "\
Examples:
  brigade publish orders 'one message' 'another' --key customer-7 --header source=shop
  tail -f access.log | brigade publish logs                 each line is a text message
  brigade publish logs --file access.json --key-field /user/id
      each line is a message; its key is taken from the JSON in it
  brigade publish orders --ndjson --file messages.ndjson
      each line is a message object; all fields but one value are optional:
      {\"key\":\"k\",\"value\":\"text or any JSON\",\"headers\":{\"a\":\"b\"},\"timestamp\":MS,\"partition\":0,
       \"group\":\"g\",\"priority\":9,\"delay_ms\":MS,\"ttl_ms\":MS,\"deduplication_id\":\"id\"}

Requests carry a producer id and a sequence, so that one that is repeated (server away, connection
broken) is stored once. Several are in flight at once, which may store them in another order;
--in-order keeps the input's order.";

/// Arguments of `brigade publish`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct PublishArgs {
    /// Name of the topic
    pub topic: String,
    /// Text messages; without any, each line of standard input or of --file is a message
    #[arg(value_name = "VALUE", conflicts_with_all = ["file", "ndjson"])]
    pub values: Vec<String>,
    /// Read lines from this file; - is standard input
    #[arg(long, short, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Lines are message objects rather than text values
    #[arg(long, conflicts_with_all = ["key", "key_field", "header", "partition", "timestamp", "group",
        "priority", "delay", "ttl", "deduplication_id"])]
    pub ndjson: bool,
    /// Key of all messages
    #[arg(long, short, conflicts_with = "key_field")]
    pub key: Option<String>,
    /// Take each message's key from this place (a JSON pointer such as /user/id) in its JSON value
    #[arg(long, value_name = "POINTER")]
    pub key_field: Option<String>,
    /// Header of all messages; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// Partition of all messages [default: by key, or the server's choice]
    #[arg(long, short, value_name = "N")]
    pub partition: Option<u32>,
    /// Timestamp of all messages in milliseconds since the Unix epoch [default: time of publishing]
    #[arg(long, value_name = "MS")]
    pub timestamp: Option<i64>,
    /// Group of all messages: they go to one partition, whatever their keys are
    #[arg(long)]
    pub group: Option<String>,
    /// Priority of all messages, 0 to 9, 9 first [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// How long queue subscriptions wait before they deliver the messages, in milliseconds
    #[arg(long, visible_alias = "delay-ms", value_name = "MS")]
    pub delay: Option<u64>,
    /// How long queue subscriptions may deliver the messages, in milliseconds
    #[arg(long, visible_alias = "ttl-ms", value_name = "MS")]
    pub ttl: Option<u64>,
    /// Store the one message only if none with this id was stored lately
    #[arg(long, value_name = "ID")]
    pub deduplication_id: Option<String>,
    /// Most messages of one request
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch_messages: u32,
    /// Most bytes of one request, unless a single message is larger
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_bytes: u32,
    /// Most requests in flight
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub in_flight: u8,
    /// Keep the order of the input: one request in flight
    #[arg(long, conflicts_with = "in_flight")]
    pub in_order: bool,
    /// How long a request is repeated while the server is away or busy
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub retry_seconds: u32,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Runs `brigade publish`.
pub(super) async fn run(context: &Context, args: PublishArgs) -> Result<(), CliError> {
    let encoder = encode::Encoder::new(&args)?;
    let limits = encode::Limits { messages: args.batch_messages, bytes: args.batch_bytes as usize };
    let in_flight = if args.in_order { 1 } else { usize::from(args.in_flight) };
    let source = input::Source::open(&args)?;
    if matches!(source, input::Source::Stdin) && io::stdin().is_terminal() {
        eprintln!("Each line is a message. Ctrl-D ends.");
    }
    let length = source.length();
    let requests = input::start(source, encoder, limits, in_flight);
    send::run(context, &args, requests, length, in_flight).await
}
