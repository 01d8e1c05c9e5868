//! `brigade poll`.

mod member;

use std::{collections::BTreeMap, io, time::Duration};

use clap::Args;

use super::{
    CliError, Context,
    print::{Printer, Style},
    settle::MAX_VISIBILITY_MS,
    times,
};
use crate::client::{ErrorKind, PollRequest, Position, RetryPolicy, SubscriptionStart};

mod queue;

const AFTER_HELP: &str = "\
Examples:
  brigade poll orders billing --create --commit
      receive what is there, and remember that it was received
  brigade poll orders billing --max 10 --output json
      look at the next ten without committing
  brigade poll orders billing --commit --follow
      go on for ever
  brigade poll orders billing --member $HOSTNAME --follow
      share the partitions with the other members of the subscription
  brigade poll jobs workers --max 10 --visibility-ms 60000
      of a queue: take ten messages for a minute, and print them with their receipts
  brigade poll jobs workers --ack --follow
      of a queue: acknowledge every message after it was printed

A stream is a named, durable cursor over all partitions of a topic. Without --commit the next call
prints the same messages again. Positions are committed after the messages were handed to standard
output: a message may come twice after a crash, and is never skipped.

A member of a stream reads the partitions that the server assigns to it, and commits what it printed.
Of all members with names of their own each partition has one; they share anew when one joins or goes.

A queue gives each message to one consumer for a while. Without --ack, settle it by its receipt with
`brigade ack`, `nack`, `extend` or `reject`, or it comes again. Queues are not made by --create, but by
`brigade subscription create TOPIC NAME --kind queue`.";

/// How long a follower's request waits on the server, in milliseconds.
const FOLLOW_WAIT_MS: u64 = 20_000;

/// Most bytes of one poll.
const POLL_BYTES: u64 = 1024 * 1024;

/// Arguments of `brigade poll`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct PollArgs {
    /// Name of the topic
    pub topic: String,
    /// Name of the subscription
    pub subscription: String,
    /// Create the subscription, a stream, if it does not exist
    #[arg(long)]
    pub create: bool,
    /// Where a created subscription begins: earliest, latest, or a time: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "PLACE", default_value = "earliest", requires = "create", value_parser = start)]
    pub start: SubscriptionStart,
    /// Of a stream: commit the positions of the printed messages
    #[arg(long, conflicts_with = "ack")]
    pub commit: bool,
    /// Of a stream: join as a member of this name, read what is assigned to it, and commit it
    #[arg(long, value_name = "NAME", conflicts_with = "ack")]
    pub member: Option<String>,
    /// How long others wait for this member when nothing is heard of it, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, requires = "member", value_parser = clap::value_parser!(u64).range(brigade_ingest::SESSION_MS))]
    pub session_ms: u64,
    /// Of a queue: acknowledge the printed messages
    #[arg(long, conflicts_with = "create")]
    pub ack: bool,
    /// Of a queue: how long the receipts are good, in milliseconds [default: as the subscription says]
    #[arg(
        long,
        visible_alias = "visibility",
        alias = "visibility-timeout-ms",
        value_name = "MS",
        conflicts_with = "create",
        value_parser = clap::value_parser!(u64).range(1..=MAX_VISIBILITY_MS)
    )]
    pub visibility_ms: Option<u64>,
    /// Most messages [default: all there are]
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// How long to wait for the first message, in milliseconds
    #[arg(
        long,
        visible_alias = "wait",
        value_name = "MS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=60_000)
    )]
    pub wait_ms: u64,
    /// Go on waiting for new messages
    #[arg(long, short, conflicts_with = "wait_ms")]
    pub follow: bool,
    /// Print values, one a line (the default), whatever --output says
    #[arg(long)]
    pub values: bool,
    /// Most messages of one request, and between two commits
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: u64,
    /// How long a request is repeated while the server is away
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub retry_seconds: u32,
}

/// Where a subscription begins, as arguments say it.
pub(super) fn start(text: &str) -> Result<SubscriptionStart, String> {
    match text {
        "earliest" => Ok(SubscriptionStart::Earliest),
        "latest" => Ok(SubscriptionStart::Latest),
        _ => times::point(text)
            .map(SubscriptionStart::Timestamp)
            .map_err(|why| format!("`earliest`, `latest` or a time; {why}")),
    }
}

/// Runs `brigade poll`.
pub(super) async fn run(context: &Context, args: PollArgs) -> Result<(), CliError> {
    let policy =
        RetryPolicy { give_up_after: Duration::from_secs(args.retry_seconds.into()), ..RetryPolicy::default() };
    if is_queue(context, &args, &policy).await? {
        if args.member.is_some() {
            let problem =
                format!("{} is a queue: it has no members, any number of consumers may poll it", args.subscription);
            return Err(CliError::Usage(problem));
        }
        return queue::run(context, &args, &policy).await;
    }
    if args.ack || args.visibility_ms.is_some() {
        let problem = format!("{} is a stream: --ack and --visibility-ms are for queues", args.subscription);
        return Err(CliError::Usage(problem));
    }
    let client = &context.client;
    let mut printer = Printer::new(io::stdout().lock(), Style::choose(args.values, context.output))?;
    if let Some(name) = &args.member {
        let received = member::run(context, &args, name, &policy, &mut printer).await;
        return received.and(printer.flush());
    }
    let mut remaining = args.max.unwrap_or(u64::MAX);
    let mut wait_ms = if args.follow { FOLLOW_WAIT_MS } else { args.wait_ms };
    // Where to read on without a commit.
    let mut positions = BTreeMap::new();
    while remaining > 0 {
        let request = PollRequest {
            max_messages: args.batch.min(remaining),
            max_bytes: POLL_BYTES,
            wait_ms,
            positions: positions.iter().map(|(&partition, &offset)| Position { partition, offset }).collect(),
            member: None,
        };
        let (polled, _) = client.retry(&policy, || client.poll(&args.topic, &args.subscription, &request)).await?;
        if polled.messages.is_empty() && !args.follow {
            break;
        }
        for message in &polled.messages {
            printer.message(message.get().as_bytes())?;
        }
        printer.flush()?;
        remaining = remaining.saturating_sub(polled.messages.len() as u64);
        if args.commit && !polled.positions.is_empty() {
            // A commit that was stored already changes nothing, so it may be repeated too.
            client.retry(&policy, || client.commit(&args.topic, &args.subscription, &polled.positions)).await?;
        } else {
            positions.extend(polled.positions.iter().map(|position| (position.partition, position.offset)));
        }
        if !args.follow {
            wait_ms = 0;
        }
    }
    printer.flush()
}

/// Whether the subscription is a queue; it is created as a stream before if that was asked for and there is none.
async fn is_queue(context: &Context, args: &PollArgs, policy: &RetryPolicy) -> Result<bool, CliError> {
    let (client, topic, name) = (&context.client, &args.topic, &args.subscription);
    let subscription = match client.retry(policy, || client.subscription(topic, name)).await.map(|found| found.0) {
        Err(error) if args.create && error.kind() == ErrorKind::NotFound => {
            client.create_subscription(topic, name, args.start).await?
        }
        found => found?,
    };
    Ok(subscription.kind == "queue")
}
