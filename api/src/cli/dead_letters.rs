//! `brigade dead-letters`.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    CliError, Context,
    output::{count, print_json, print_line},
    print::printable,
};
use crate::client::{DeadLetterPick, Message};

const AFTER_HELP: &str = "\
Examples:
  brigade dead-letters list jobs workers
  brigade dead-letters list jobs workers --filter 'type = \"invoice\"' --output json
  brigade dead-letters redrive jobs workers --filter 'type = \"invoice\"' --per-second 100
  brigade dead-letters purge jobs workers --max 1000

A message becomes a dead letter when it was delivered as often as it may be, was rejected, or expired.
A queue with a dead-letter topic publishes them there as well.";

/// Dead letters of one request.
const PAGE: u64 = 1_000;

/// Arguments of `brigade dead-letters`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    command: DeadLetterCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum DeadLetterCommand {
    /// List dead letters with the reason, one a line
    List(PickArgs),
    /// Give dead letters back: they are delivered again as if for the first time
    Redrive {
        #[command(flatten)]
        pick: PickArgs,
        /// So many become ready a second [default: all at once]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        per_second: Option<u32>,
    },
    /// Forget dead letters
    Purge(PickArgs),
}

#[derive(Args, Clone, Debug)]
struct PickArgs {
    /// Name of the topic
    topic: String,
    /// Name of the queue subscription
    subscription: String,
    /// Only those that it matches
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
}

/// What a dead letter has besides its message.
#[derive(Deserialize)]
struct Letter<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    delivery_count: u32,
}

/// Runs `brigade dead-letters`.
pub(super) async fn run(context: &Context, args: DeadLetterArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        DeadLetterCommand::List(args) => list(context, &args).await,
        DeadLetterCommand::Redrive { pick, per_second } => {
            let PickArgs { topic, subscription, filter, max } = pick;
            let pick = DeadLetterPick { filter, max_messages: max, per_second };
            report(context, "redriven", client.redrive(&topic, &subscription, &pick).await?)
        }
        DeadLetterCommand::Purge(PickArgs { topic, subscription, filter, max }) => {
            let pick = DeadLetterPick { filter, max_messages: max, per_second: None };
            report(context, "purged", client.purge(&topic, &subscription, &pick).await?)
        }
    }
}

fn report(context: &Context, what: &str, number: u64) -> Result<(), CliError> {
    if context.json() {
        print_json(&json!({what: number}))
    } else {
        print_line(format_args!("{what}: {}", count(number)))
    }
}

async fn list(context: &Context, args: &PickArgs) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    if !context.json() {
        writeln!(out, "{}", row("PARTITION", "OFFSET", "REASON", "DELIVERIES", "KEY", "VALUE"))?;
    }
    let (mut remaining, mut after) = (args.max.unwrap_or(u64::MAX), None);
    while remaining > 0 {
        let most = remaining.min(PAGE);
        let (topic, name, filter) = (&args.topic, &args.subscription, args.filter.as_deref());
        let page = context.client.dead_letters(topic, name, after.as_deref(), filter, most).await?;
        for letter in &page.messages {
            let json = letter.get();
            if context.json() { writeln!(out, "{json}")? } else { writeln!(out, "{}", shown(json)?)? }
        }
        out.flush()?;
        remaining = remaining.saturating_sub(page.messages.len() as u64);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(out.flush()?)
}

/// A letter as a line of the table.
fn shown(json: &str) -> Result<String, CliError> {
    let broken = |why: String| CliError::Failed(format!("a dead letter of the answer was not understood: {why}"));
    let message = Message::parse(json.as_bytes()).map_err(|e| broken(e.to_string()))?;
    let letter: Letter<'_> = serde_json::from_str(json).map_err(|e| broken(e.to_string()))?;
    let key = message.key().map_err(|e| broken(e.to_string()))?;
    let value = message.value().map_err(|e| broken(e.to_string()))?;
    Ok(row(
        &message.partition.to_string(),
        &message.offset.to_string(),
        &letter.reason,
        &letter.delivery_count.to_string(),
        &key.map_or_else(|| "-".to_owned(), |key| printable(&key)),
        &value.map_or_else(|| "(tombstone)".to_owned(), |value| printable(&value)),
    ))
}

fn row(partition: &str, offset: &str, reason: &str, deliveries: &str, key: &str, value: &str) -> String {
    format!("{partition:>9}  {offset:>12}  {reason:<14}  {deliveries:>10}  {key:<24}  {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_one_line() {
        let json = r#"{"partition":2,"offset":7,"key":"k","value":"a\nb","headers":{},"timestamp":1,"topic":"t",
            "reason":"max_deliveries","delivery_count":3,"first_delivered_at":4,"dead_at":5}"#;
        let line = shown(json).unwrap();
        assert!(line.contains("max_deliveries") && line.ends_with(r"a\nb") && line.lines().count() == 1, "{line}");
        assert!(shown(r#"{"partition":2,"offset":7}"#).is_err());
    }
}
