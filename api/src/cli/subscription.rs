//! `brigade subscription`.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    CliError, Context,
    output::{count, print_json, print_line, print_table, table},
    poll,
};
use crate::client::{Position, SeekTo, SubscriptionStart};

mod members;
mod settings;
mod show;

use settings::SettingsArgs;
use show::show;

const AFTER_HELP: &str = "\
Examples:
  brigade subscription create orders billing
  brigade subscription create jobs workers --kind queue --max-deliveries 5
  brigade subscription create jobs eu --kind queue --filter 'region = \"eu\"' --ordered
  brigade subscription get jobs workers
  brigade subscription update jobs workers --visibility-timeout-ms 60000 --no-dead-letter-topic
  brigade subscription seek orders billing --to earliest
  brigade subscription seek orders billing --position 0:1000 --position 1:950
  brigade subscription members orders billing
  brigade subscription delete orders billing

A stream is read in order, each partition by one reader, which commits positions. A queue gives each
message to one of many consumers, which acknowledge messages one by one.

`create` does not change a subscription that exists: use `update`. A change of --filter, --ordered or
--fair-by delivers what is in flight again, and the receipts of before are refused then. Messages that an old filter did not want are settled: `seek` back to have them looked at anew.";

/// Arguments of `brigade subscription`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    /// Create a subscription; one that exists with the named settings is no error
    Create {
        #[command(flatten)]
        name: NameArgs,
        /// What it is
        #[arg(long, value_name = "KIND", default_value = "stream")]
        kind: KindArg,
        /// Where it begins: earliest, latest, or a time: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
        #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = poll::start)]
        start: SubscriptionStart,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
    /// List the subscriptions of a topic
    List {
        /// Name of the topic
        topic: String,
    },
    /// Show a subscription: its settings and how far it is
    #[command(visible_alias = "describe")]
    Get {
        #[command(flatten)]
        name: NameArgs,
    },
    /// Change the named settings of a queue
    #[command(visible_alias = "alter")]
    Update {
        #[command(flatten)]
        name: NameArgs,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
    /// Move a subscription, backwards too; what a queue has in flight is delivered again
    Seek {
        #[command(flatten)]
        name: NameArgs,
        /// Where to: earliest, latest, or a time: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
        #[arg(long, value_name = "PLACE", value_parser = poll::start)]
        to: Option<SubscriptionStart>,
        /// Next offset of a partition; partitions that are not named stay
        #[arg(
            long,
            value_name = "PARTITION:OFFSET",
            conflicts_with = "to",
            required_unless_present = "to",
            value_parser = position
        )]
        position: Vec<Position>,
    },
    /// List the members of a stream with what they read
    Members {
        #[command(flatten)]
        name: NameArgs,
    },
    /// Delete a subscription; the messages of the topic stay
    Delete {
        #[command(flatten)]
        name: NameArgs,
    },
}

#[derive(Args, Clone, Debug)]
struct NameArgs {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    subscription: String,
}

/// Kinds of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Read in order, positions committed.
    Stream,
    /// Competing consumers, a receipt for each message.
    Queue,
}

fn position(text: &str) -> Result<Position, String> {
    let parse = || {
        let (partition, offset) = text.split_once(':')?;
        Some(Position { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    };
    parse().ok_or_else(|| "PARTITION:OFFSET, as in 0:1000".to_owned())
}

/// Runs `brigade subscription`.
pub(super) async fn run(context: &Context, args: SubscriptionArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        SubscriptionCommand::Create { name: NameArgs { topic, subscription }, kind, start, settings } => {
            let created = match kind {
                KindArg::Stream if !settings.is_empty() => {
                    return Err(CliError::Usage("a stream has no settings; --kind queue makes a queue".to_owned()));
                }
                KindArg::Stream => client.create_subscription(&topic, &subscription, start).await?,
                KindArg::Queue => client.create_queue(&topic, &subscription, start, &settings.queue()).await?,
            };
            show(context, &created)
        }
        SubscriptionCommand::List { topic } => list(context, &topic).await,
        SubscriptionCommand::Get { name } => {
            show(context, &client.subscription(&name.topic, &name.subscription).await?)
        }
        SubscriptionCommand::Update { name, settings } => {
            if settings.is_empty() {
                return Err(CliError::Usage("name at least one setting to change".to_owned()));
            }
            show(context, &client.alter_queue(&name.topic, &name.subscription, &settings.queue()).await?)
        }
        SubscriptionCommand::Seek { name, to, position } => {
            let to = match to {
                Some(SubscriptionStart::Earliest) => SeekTo::Earliest,
                Some(SubscriptionStart::Latest) => SeekTo::Latest,
                Some(SubscriptionStart::Timestamp(timestamp)) => SeekTo::Timestamp(timestamp),
                None => SeekTo::Positions(position),
            };
            show(context, &client.seek(&name.topic, &name.subscription, &to).await?)
        }
        SubscriptionCommand::Members { name } => {
            members::show(context, &client.members(&name.topic, &name.subscription).await?)
        }
        SubscriptionCommand::Delete { name: NameArgs { topic, subscription } } => {
            client.delete_subscription(&topic, &subscription).await?;
            if context.json() {
                Ok(())
            } else {
                print_line(format_args!("deleted subscription {subscription} of {topic}"))
            }
        }
    }
}

async fn list(context: &Context, topic: &str) -> Result<(), CliError> {
    let subscriptions = context.client.subscriptions(topic).await?;
    if context.json() {
        return print_json(&subscriptions);
    }
    let mut rows = table(&["subscription", "kind", "lag", "in flight", "dead letters"], &[2, 3, 4]);
    for subscription in subscriptions {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), count);
        rows.add_row([
            subscription.name,
            subscription.kind,
            count(subscription.lag),
            number(subscription.in_flight),
            number(subscription.dead_letters),
        ]);
    }
    print_table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_partition_and_offset() {
        assert_eq!(position("3:70"), Ok(Position { partition: 3, offset: 70 }));
        for wrong in ["3", "3:", ":7", "-1:7", "a:b"] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }
}
