//! `brigade topic`.

mod files;
mod settings;
mod show;

use clap::{Args, Subcommand};

use settings::SettingsArgs;
use show::show;

use super::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
};
use crate::client::TopicSettings;

const AFTER_HELP: &str = "\
Examples:
  brigade topic create orders --partitions 4
  brigade topic list --prefix ord
  brigade topic describe orders
  brigade topic alter orders --partitions 8 --compression zstd
  brigade topic alter orders --retention 7d --retention-bytes 10GiB
  brigade topic files orders
  brigade topic delete orders";

/// Topics asked for in one request of a list.
const PAGE: u32 = 1_000;

/// Arguments of `brigade topic`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic; the same settings again are no error
    Create {
        /// Name of the topic
        topic: String,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
    /// List topics in order of name
    List {
        /// Only topics whose name begins with this
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only topics after this name
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        /// Most topics to list [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show a topic's settings and the state of its partitions
    Describe {
        /// Name of the topic
        topic: String,
    },
    /// Change the named settings of a topic; its partitions can only grow
    Alter {
        /// Name of the topic
        topic: String,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
    /// List the archive files of a topic: Parquet files that other programs can read, too
    Files {
        /// Name of the topic
        topic: String,
        /// Only files of this partition
        #[arg(long, value_name = "N")]
        partition: Option<u32>,
        /// Most files to list [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Delete a topic with its messages and subscriptions
    Delete {
        /// Name of the topic
        topic: String,
    },
}

/// Runs `brigade topic`.
pub(super) async fn run(context: &Context, args: TopicArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        TopicCommand::Create { topic, settings } => {
            show(context, &client.create_topic(&topic, &(*settings).into()).await?)
        }
        TopicCommand::Describe { topic } => show(context, &client.topic(&topic).await?),
        TopicCommand::Alter { topic, settings } => {
            let settings = TopicSettings::from(*settings);
            if settings == TopicSettings::default() {
                return Err(CliError::Usage("name at least one setting to change".to_owned()));
            }
            show(context, &client.alter_topic(&topic, &settings).await?)
        }
        TopicCommand::Files { topic, partition, limit } => {
            files::list(context, &topic, partition, limit.unwrap_or(usize::MAX)).await
        }
        TopicCommand::Delete { topic } => {
            client.delete_topic(&topic).await?;
            if context.json() { Ok(()) } else { print_line(format_args!("deleted topic {topic}")) }
        }
        TopicCommand::List { prefix, after, limit } => list(context, &prefix, after, limit.unwrap_or(usize::MAX)).await,
    }
}

async fn list(context: &Context, prefix: &str, mut after: Option<String>, limit: usize) -> Result<(), CliError> {
    let mut topics = Vec::new();
    while topics.len() < limit {
        let page = u32::try_from(limit - topics.len()).unwrap_or(PAGE).min(PAGE);
        let answer = context.client.topics(prefix, after.as_deref(), page).await?;
        topics.extend(answer.topics);
        after = answer.next;
        if after.is_none() {
            break;
        }
    }
    if context.json() {
        return print_json(&topics);
    }
    let mut rows = table(&["topic", "partitions", "messages", "bytes", "compression"], &[1, 2, 3]);
    for topic in topics {
        rows.add_row([
            topic.name,
            topic.settings.partitions.unwrap_or(1).to_string(),
            count(topic.messages.unwrap_or(0)),
            bytes(topic.bytes.unwrap_or(0)),
            topic.settings.compression.unwrap_or_default(),
        ]);
    }
    print_table(&rows)
}
