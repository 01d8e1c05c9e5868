//! `brigade ack`, `nack`, `extend` and `reject`.

use std::io::{self, BufRead};

use clap::Args;
use serde_json::json;

use super::{
    CliError, Context,
    output::{count, print_json, print_line},
};
use crate::client::{Handed, ReceiptRefusal, ReceiptResult, RetryPolicy, Settlement};

const AFTER_HELP: &str = "\
Examples:
  brigade ack jobs workers RECEIPT RECEIPT
  brigade poll jobs workers --max 100 --output json > work.jsonl
  brigade ack jobs workers < work.jsonl
      lines of standard input are receipts, or messages as `brigade poll --output json` prints them
  brigade extend jobs workers RECEIPT --visibility-ms 300000
      prints the receipt that takes the place of the first one, and is good for five minutes
  brigade nack jobs workers RECEIPT --delay-ms 10000
      not this time: it comes again in ten seconds, to whoever polls then
  brigade reject jobs workers RECEIPT
      never again: it becomes a dead letter, see `brigade dead-letters`

Every receipt is tried. The exit code is 0 if all of them were good.";

/// Receipts of one request.
const BATCH: usize = 1_000;

/// Longest time of a receipt, and longest delay.
pub(super) const MAX_VISIBILITY_MS: u64 = brigade_index::limits::MAX_VISIBILITY_MS as u64;

/// Arguments of `brigade ack` and `brigade reject`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ReceiptArgs {
    /// Name of the topic
    pub topic: String,
    /// Name of the queue subscription
    pub subscription: String,
    /// Receipts [default: lines of standard input]
    #[arg(value_name = "RECEIPT")]
    pub receipts: Vec<String>,
}

/// Arguments of `brigade nack`.
#[derive(Args, Clone, Debug)]
pub struct NackArgs {
    #[command(flatten)]
    pub(super) receipts: ReceiptArgs,
    /// How long the messages wait before they come again, in milliseconds [default: as the subscription says]
    #[arg(long, visible_alias = "delay", value_name = "MS", value_parser = clap::value_parser!(u64).range(..=MAX_VISIBILITY_MS))]
    delay_ms: Option<u64>,
}

impl NackArgs {
    pub(super) fn settlement(&self) -> Settlement {
        Settlement::Nack { delay_ms: self.delay_ms }
    }
}

/// Arguments of `brigade extend`.
#[derive(Args, Clone, Debug)]
pub struct ExtendArgs {
    #[command(flatten)]
    pub(super) receipts: ReceiptArgs,
    /// How long the receipts are good from now on, in milliseconds
    #[arg(
        long,
        visible_alias = "visibility",
        alias = "visibility-timeout-ms",
        value_name = "MS",
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(1..=MAX_VISIBILITY_MS)
    )]
    visibility_ms: u64,
}

impl ExtendArgs {
    pub(super) fn settlement(&self) -> Settlement {
        Settlement::Extend { visibility_timeout_ms: self.visibility_ms }
    }
}

/// Settles the messages of the receipts that are given.
pub(super) async fn run(context: &Context, settlement: Settlement, args: ReceiptArgs) -> Result<(), CliError> {
    let receipts = if args.receipts.is_empty() { read_receipts(io::stdin().lock())? } else { args.receipts };
    let mut results = Vec::with_capacity(receipts.len());
    for batch in receipts.chunks(BATCH) {
        let of = (args.topic.as_str(), args.subscription.as_str());
        results.extend(settle(context, &RetryPolicy::default(), of, settlement, batch).await?);
    }
    if context.json() {
        print_json(&json!({"results": results}))?;
    } else {
        print_results(settlement, &results)?;
    }
    let mut refused = results.iter().filter_map(|result| result.error.as_ref());
    match refused.next() {
        None => Ok(()),
        Some(first) => Err(CliError::Input {
            message: format!(
                "{} of {} receipts were refused, the first because {} ({})",
                refused.count() + 1,
                results.len(),
                first.message,
                first.code
            ),
            hint: first.hint.clone(),
        }),
    }
}

/// Settles. An acknowledgement that is not answered is sent again, and then finds done what the first one did; what a
/// second call of another kind would find says nothing about the first.
pub(super) async fn settle(
    context: &Context,
    policy: &RetryPolicy,
    (topic, name): (&str, &str),
    settlement: Settlement,
    receipts: &[String],
) -> Result<Vec<ReceiptResult>, CliError> {
    let client = &context.client;
    if settlement != Settlement::Ack {
        return Ok(client.settle(topic, name, settlement, receipts).await?);
    }
    let (mut results, retries) = client.retry(policy, || client.settle(topic, name, settlement, receipts)).await?;
    let done = |error: &mut ReceiptRefusal| retries > 0 && error.code == "already_settled";
    for result in &mut results {
        if result.error.take_if(done).is_some() {
            result.status = Some("acknowledged".to_owned());
        }
    }
    Ok(results)
}

/// What was done, and the new receipts of those that were extended: one a line, like `poll` and `ack` have them.
fn print_results(settlement: Settlement, results: &[ReceiptResult]) -> Result<(), CliError> {
    if matches!(settlement, Settlement::Extend { .. }) {
        return results.iter().filter_map(|result| result.new_receipt.as_ref()).try_for_each(print_line);
    }
    let done = match settlement {
        Settlement::Ack => "acknowledged",
        Settlement::Nack { .. } => "given back",
        Settlement::Reject | Settlement::Extend { .. } => "rejected",
    };
    let good = results.iter().filter(|result| result.error.is_none()).count();
    print_line(format_args!("{done}: {}", count(good as u64)))
}

/// Receipts of an input: one a line, alone or within its message.
fn read_receipts(input: impl BufRead) -> Result<Vec<String>, CliError> {
    let mut receipts = Vec::new();
    for (number, line) in (1..).zip(input.lines()) {
        let line = line.map_err(|source| CliError::Io { what: "standard input".to_owned(), source })?;
        match line.trim() {
            "" => {}
            message if message.starts_with('{') => {
                let handed = Handed::parse(message.as_bytes()).map_err(|problem| CliError::Input {
                    message: format!("line {number} is no message with a receipt: {problem}"),
                    hint: "give receipts, or messages of a queue as `brigade poll --output json` prints them"
                        .to_owned(),
                })?;
                receipts.push(handed.receipt.into_owned());
            }
            receipt => receipts.push(receipt.to_owned()),
        }
    }
    Ok(receipts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_alone_and_within_messages() {
        let input = "abc\n\n  def \n{\"partition\":0,\"receipt\":\"ghi\",\"delivery_count\":1}\r\n";
        assert_eq!(read_receipts(input.as_bytes()).unwrap(), ["abc", "def", "ghi"]);
        let wrong = read_receipts(b"abc\n{\"receipt\":1}".as_slice()).unwrap_err();
        assert!(wrong.to_string().starts_with("line 2 "), "{wrong}");
    }
}
