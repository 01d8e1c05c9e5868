//! `brigade subscription`.

use clap::{Args, Subcommand};

use super::{
    CliError, Context,
    output::{count, print_json, print_line, print_table, table},
    poll::start,
};
use crate::client::{Assignment, Position, SeekTo, Subscription, SubscriptionStart};

const AFTER_HELP: &str = "\
Examples:
  brigade subscription create orders billing --start latest
  brigade subscription list orders
  brigade subscription get orders billing
  brigade subscription seek orders billing 1735689600000
  brigade subscription seek orders billing --position 0=1200 --position 3=950
  brigade subscription members orders billing
  brigade subscription delete orders billing";

/// Arguments of `brigade subscription`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    /// Create a subscription; one that exists keeps its positions
    Create {
        #[command(flatten)]
        of: Names,
        /// Where it begins: earliest, latest or milliseconds since the Unix epoch
        #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = start)]
        start: SubscriptionStart,
    },
    /// Show a subscription with its positions and lag
    Get {
        #[command(flatten)]
        of: Names,
    },
    /// List the subscriptions of a topic
    List {
        /// Name of the topic
        topic: String,
    },
    /// Delete a subscription
    Delete {
        #[command(flatten)]
        of: Names,
    },
    /// Move a subscription, backwards too
    Seek {
        #[command(flatten)]
        of: Names,
        /// Where to: earliest, latest or milliseconds since the Unix epoch
        #[arg(value_name = "PLACE", required_unless_present = "position", value_parser = start)]
        to: Option<SubscriptionStart>,
        /// Move only this partition, to this offset; may be repeated
        #[arg(long, value_name = "PARTITION=OFFSET", conflicts_with = "to", value_parser = position)]
        position: Vec<Position>,
    },
    /// List the members of a subscription with what they read
    Members {
        #[command(flatten)]
        of: Names,
    },
}

#[derive(Args, Debug)]
struct Names {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    subscription: String,
}

fn position(text: &str) -> Result<Position, String> {
    let numbers = text.split_once('=').and_then(|(partition, offset)| {
        Some(Position { partition: partition.trim().parse().ok()?, offset: offset.trim().parse().ok()? })
    });
    numbers.ok_or_else(|| "PARTITION=OFFSET, for example 0=1200".to_owned())
}

/// Runs `brigade subscription`.
pub(super) async fn run(context: &Context, args: SubscriptionArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        SubscriptionCommand::Create { of, start } => {
            show(context, &client.create_subscription(&of.topic, &of.subscription, start).await?)
        }
        SubscriptionCommand::Get { of } => show(context, &client.subscription(&of.topic, &of.subscription).await?),
        SubscriptionCommand::List { topic } => list(context, &client.subscriptions(&topic).await?),
        SubscriptionCommand::Delete { of } => {
            client.delete_subscription(&of.topic, &of.subscription).await?;
            if context.json() {
                return Ok(());
            }
            print_line(format_args!("deleted subscription {}", of.subscription))
        }
        SubscriptionCommand::Seek { of, to, position } => {
            let to = match to {
                Some(SubscriptionStart::Earliest) => SeekTo::Earliest,
                Some(SubscriptionStart::Latest) => SeekTo::Latest,
                Some(SubscriptionStart::Timestamp(time)) => SeekTo::Timestamp(time),
                None => SeekTo::Positions(position),
            };
            show(context, &client.seek(&of.topic, &of.subscription, &to).await?)
        }
        SubscriptionCommand::Members { of } => members(context, &client.members(&of.topic, &of.subscription).await?),
    }
}

fn list(context: &Context, subscriptions: &[Subscription]) -> Result<(), CliError> {
    if context.json() {
        return print_json(&subscriptions);
    }
    let mut rows = table(&["subscription", "kind", "lag"], &[2]);
    for subscription in subscriptions {
        rows.add_row([subscription.name.clone(), subscription.kind.clone(), count(subscription.lag)]);
    }
    print_table(&rows)
}

fn show(context: &Context, subscription: &Subscription) -> Result<(), CliError> {
    if context.json() {
        return print_json(subscription);
    }
    let Subscription { name, kind, lag, .. } = subscription;
    print_line(format_args!("subscription {name}: {kind}, lag {}", count(*lag)))?;
    let mut rows = table(&["partition", "offset", "high watermark", "lag"], &[0, 1, 2, 3]);
    for position in &subscription.positions {
        rows.add_row([
            position.partition.to_string(),
            position.offset.to_string(),
            position.high_watermark.to_string(),
            count(position.lag),
        ]);
    }
    print_table(&rows)
}

fn members(context: &Context, members: &[Assignment]) -> Result<(), CliError> {
    if context.json() {
        return print_json(&members);
    }
    let mut rows = table(&["member", "partitions", "gives up", "lag", "session ms"], &[3, 4]);
    let numbers = |numbers: &mut dyn Iterator<Item = u32>| {
        let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
        if numbers.is_empty() { "-".to_owned() } else { numbers.join(",") }
    };
    for member in members {
        rows.add_row([
            member.member.clone(),
            numbers(&mut member.partitions.iter().map(|assigned| assigned.partition)),
            numbers(&mut member.revoke.iter().copied()),
            count(member.partitions.iter().map(|assigned| assigned.lag).sum()),
            member.session_timeout_ms.to_string(),
        ]);
    }
    print_table(&rows)
}

#[cfg(test)]
mod tests {
    use super::{Position, position};

    #[test]
    fn a_position_is_a_partition_and_an_offset() {
        assert_eq!(position("3=950"), Ok(Position { partition: 3, offset: 950 }));
        for text in ["", "3", "3=", "=4", "3=-1", "a=1", "3:4"] {
            assert!(position(text).is_err(), "{text}");
        }
    }
}
