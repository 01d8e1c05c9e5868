//! `brigade poll` of a queue.

use std::io;

use super::{FOLLOW_WAIT_MS, POLL_BYTES, PollArgs};
use crate::{
    cli::{
        CliError, Context,
        print::{Printer, Style},
        settle::settle,
    },
    client::{Handed, QueuePoll, RetryPolicy, Settlement},
};

/// Most messages that a queue gives at once.
const MAX_POLL_MESSAGES: u64 = 1_000;

/// Receives until nothing more is ready, for ever with `--follow`.
pub(super) async fn run(context: &Context, args: &PollArgs, policy: &RetryPolicy) -> Result<(), CliError> {
    if args.commit {
        return Err(CliError::Usage(format!("{} is a queue: use --ack instead of --commit", args.subscription)));
    }
    let (client, topic, name) = (&context.client, &args.topic, &args.subscription);
    let style = match Style::choose(args.values, context.output) {
        // Without its receipt nothing can be done with a message.
        Style::Values if !args.values && !args.ack => Style::Receipts,
        Style::Table => Style::Receipts,
        style => style,
    };
    let mut printer = Printer::new(io::stdout().lock(), style)?;
    let mut remaining = args.max.unwrap_or(u64::MAX);
    let mut wait_ms = if args.follow { FOLLOW_WAIT_MS } else { args.wait_ms };
    while remaining > 0 {
        let poll = QueuePoll {
            max_messages: args.batch.min(remaining).min(MAX_POLL_MESSAGES),
            max_bytes: POLL_BYTES,
            wait_ms,
            visibility_timeout_ms: args.visibility_ms,
        };
        let (messages, _) = client.retry(policy, || client.receive(topic, name, &poll)).await?;
        if messages.is_empty() && !args.follow {
            break;
        }
        for message in &messages {
            printer.message(message.get().as_bytes())?;
        }
        printer.flush()?;
        remaining = remaining.saturating_sub(messages.len() as u64);
        if args.ack && !messages.is_empty() {
            let receipts = messages.iter().map(|message| receipt(message.get())).collect::<Result<Vec<_>, _>>()?;
            acknowledge(context, args, policy, &receipts).await?;
        }
        if !args.follow {
            wait_ms = 0;
        }
    }
    printer.flush()
}

fn receipt(json: &str) -> Result<String, CliError> {
    let handed = Handed::parse(json.as_bytes())
        .map_err(|why| CliError::Failed(format!("a message of the answer was not understood: {why}")))?;
    Ok(handed.receipt.into_owned())
}

/// Acknowledges what was printed. What cannot be acknowledged any more comes again, which is said and is no failure.
async fn acknowledge(
    context: &Context,
    args: &PollArgs,
    policy: &RetryPolicy,
    receipts: &[String],
) -> Result<(), CliError> {
    let of = (args.topic.as_str(), args.subscription.as_str());
    let results = settle(context, policy, of, Settlement::Ack, receipts).await?;
    let mut refused = results.iter().filter_map(|result| result.error.as_ref());
    if let Some(first) = refused.next() {
        let more = refused.count();
        eprintln!("warning: {} printed messages were not acknowledged: {} ({})", more + 1, first.message, first.code);
    }
    Ok(())
}
