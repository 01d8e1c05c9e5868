//! `brigade transaction`.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    CliError, Context,
    output::{count, print_json, print_line, print_table, table},
    times::shown_point,
};
use crate::client::{RetryPolicy, Transacted, Transaction};

const AFTER_HELP: &str = r#"Examples:
  brigade transaction publish --file order.json
  echo '{"publish": [{"topic": "done", "messages": [{"value": 1}]}],
    "ack": [{"topic": "jobs", "subscription": "workers", "receipts": ["RECEIPT"]}]}' |
    brigade transaction publish
  brigade transaction list
  brigade transaction commit tx-7

A transaction is a JSON object as POST /v1/transactions takes it: "publish" with topics and their
messages, "ack" with the receipts of queues, "prepare": true when it is to wait for a decision. One that
waits is rolled back after "timeout_ms", a minute if that is left out. Without an "id" one is drawn.
It is sent again until it is answered, and happens once."#;

/// Transactions asked for in one request of a list.
const PAGE: u32 = 1_000;

/// Arguments of `brigade transaction`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct TransactionArgs {
    #[command(subcommand)]
    command: TransactionCommand,
}

#[derive(Debug, Subcommand)]
enum TransactionCommand {
    /// Publish to several topics and acknowledge messages of queues, together or not at all
    Publish {
        /// File with the transaction as JSON [default: standard input]
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
    /// Show what has become of a transaction
    Get {
        /// Id of the transaction
        id: String,
    },
    /// List the transactions that wait for a decision
    List,
    /// Let a prepared transaction take effect
    Commit {
        /// Id of the transaction
        id: String,
    },
    /// Give a prepared transaction up
    Rollback {
        /// Id of the transaction
        id: String,
    },
}

/// Runs `brigade transaction`.
pub(super) async fn run(context: &Context, args: TransactionArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        TransactionCommand::Publish { file } => publish(context, file).await,
        TransactionCommand::Get { id } => show(context, &client.transaction(&id).await?),
        TransactionCommand::List => list(context).await,
        TransactionCommand::Commit { id } => decide(context, &id, true).await,
        TransactionCommand::Rollback { id } => decide(context, &id, false).await,
    }
}

async fn decide(context: &Context, id: &str, commit: bool) -> Result<(), CliError> {
    let (decided, _) = context.client.retry(&RetryPolicy::default(), || context.client.decide(id, commit)).await?;
    show(context, &decided)
}

async fn publish(context: &Context, file: Option<PathBuf>) -> Result<(), CliError> {
    let mut text = String::new();
    let (read, what) = match &file {
        Some(path) => {
            let read = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
            (read, path.display().to_string())
        }
        None => (std::io::stdin().read_to_string(&mut text), "standard input".to_owned()),
    };
    read.map_err(|source| CliError::Io { what, source })?;
    let body = identified(&text, context.client.env().entropy.next_u128())?;
    let client = &context.client;
    let (transacted, _) = client.retry(&RetryPolicy::default(), || client.transact(&body)).await?;
    if context.json() { print_json(&transacted) } else { show_places(&transacted) }
}

/// The transaction with an id, so that it may be sent again. Its other fields stay as they are, to the last digit.
fn identified(text: &str, random: u128) -> Result<String, CliError> {
    let wrong = |error: serde_json::Error| CliError::Input {
        message: format!("the transaction is no JSON object: {error}"),
        hint: "write it as POST /v1/transactions takes it; --help has an example".to_owned(),
    };
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(wrong)?;
    if !fields.contains_key("id") {
        fields.insert("id".to_owned(), to_raw_value(&format!("tx-{random:032x}")).map_err(wrong)?);
    }
    serde_json::to_string(&fields).map_err(wrong)
}

fn show_places(transacted: &Transacted) -> Result<(), CliError> {
    print_line(format_args!("transaction {}: {}", transacted.id, transacted.state))?;
    if transacted.messages.is_empty() {
        return Ok(());
    }
    let mut rows = table(&["topic", "partition", "offset"], &[1, 2]);
    for message in &transacted.messages {
        rows.add_row([message.topic.clone(), message.partition.to_string(), message.offset.to_string()]);
    }
    print_table(&rows)
}

fn show(context: &Context, transaction: &Transaction) -> Result<(), CliError> {
    if context.json() {
        return print_json(transaction);
    }
    print_line(format_args!("transaction {}: {}", transaction.id, transaction.state))?;
    for (what, time) in [
        ("prepared", transaction.prepared_at),
        ("expires", transaction.expires_at),
        ("decided", transaction.decided_at),
    ] {
        time.iter().try_for_each(|time| print_line(format_args!("{what}: {}", shown_point(*time))))?;
    }
    let mut rows = table(&["what", "topic", "where", "offset", "messages"], &[3, 4]);
    for part in &transaction.publish {
        let offset = part.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let place = format!("partition {}", part.partition);
        rows.add_row(["publish".to_owned(), part.topic.clone(), place, offset, count(part.messages)]);
    }
    for ack in &transaction.ack {
        let place = format!("subscription {}", ack.subscription);
        rows.add_row(["ack".to_owned(), ack.topic.clone(), place, "-".to_owned(), count(ack.messages)]);
    }
    if rows.is_empty() { Ok(()) } else { print_table(&rows) }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let (mut transactions, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = context.client.undecided(after.as_deref(), PAGE).await?;
        transactions.extend(page.transactions);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if context.json() {
        return print_json(&transactions);
    }
    let mut rows = table(&["transaction", "prepared at", "expires at", "messages", "acknowledged"], &[3, 4]);
    for transaction in transactions {
        let time = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), shown_point);
        let messages = transaction.publish.iter().map(|part| part.messages).sum();
        let acknowledged = transaction.ack.iter().map(|ack| ack.messages).sum();
        let (from, to) = (time(transaction.prepared_at), time(transaction.expires_at));
        rows.add_row([transaction.id, from, to, count(messages), count(acknowledged)]);
    }
    print_table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_without_an_id_gets_one_and_nothing_else_changes() {
        let text = r#"{"publish":[{"topic":"t","messages":[{"value":1.10e400}]}]}"#;
        let sent = identified(text, 7).unwrap();
        assert!(sent.contains("1.10e400") && sent.contains("\"tx-00000000000000000000000000000007\""), "{sent}");
        assert_eq!(identified(r#"{"id":"mine"}"#, 7).unwrap(), r#"{"id":"mine"}"#);
        assert!(matches!(identified("[]", 7), Err(CliError::Input { .. })));
    }
}
