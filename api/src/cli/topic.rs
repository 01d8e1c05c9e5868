//! `brigade topic`.

use clap::{Args, Subcommand};

use super::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
};
use crate::client::{Topic, TopicSettings};

const AFTER_HELP: &str = "\
Examples:
  brigade topic create orders --partitions 4
  brigade topic list --prefix ord
  brigade topic describe orders
  brigade topic alter orders --partitions 8 --compression zstd
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
        settings: SettingsArgs,
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
        settings: SettingsArgs,
    },
    /// Delete a topic with its messages and subscriptions
    Delete {
        /// Name of the topic
        topic: String,
    },
}

#[derive(Args, Debug)]
struct SettingsArgs {
    /// Number of partitions [default of a new topic: 1]
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// Largest message (key, value and headers together) in bytes [default of a new topic: 1048576]
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<u64>,
    /// Compression of stored batches: none, lz4 or zstd [default of a new topic: lz4]
    #[arg(long, value_name = "CODEC")]
    compression: Option<String>,
    /// How long the deduplication id of a message is remembered; 0 for not at all [default of a new topic: 300000]
    #[arg(long, value_name = "MS")]
    deduplication_window_ms: Option<u32>,
}

impl From<SettingsArgs> for TopicSettings {
    fn from(args: SettingsArgs) -> Self {
        let SettingsArgs { partitions, max_message_bytes, compression, deduplication_window_ms } = args;
        Self { partitions, max_message_bytes, compression, deduplication_window_ms, replication: None }
    }
}

/// Runs `brigade topic`.
pub(super) async fn run(context: &Context, args: TopicArgs) -> Result<(), CliError> {
    let client = &context.client;
    match args.command {
        TopicCommand::Create { topic, settings } => {
            show(context, &client.create_topic(&topic, &settings.into()).await?)
        }
        TopicCommand::Describe { topic } => show(context, &client.topic(&topic).await?),
        TopicCommand::Alter { topic, settings } => {
            let settings = TopicSettings::from(settings);
            if settings == TopicSettings::default() {
                return Err(CliError::Usage("name at least one setting to change".to_owned()));
            }
            show(context, &client.alter_topic(&topic, &settings).await?)
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

fn show(context: &Context, topic: &Topic) -> Result<(), CliError> {
    if context.json() {
        return print_json(topic);
    }
    let settings = &topic.settings;
    print_line(format_args!(
        "topic {}: partitions {}, messages up to {}, compression {}, deduplication window {} ms, replication {}",
        topic.name,
        settings.partitions.unwrap_or(1),
        bytes(settings.max_message_bytes.unwrap_or(0)),
        settings.compression.as_deref().unwrap_or("?"),
        settings.deduplication_window_ms.map_or_else(|| "?".to_owned(), |window| window.to_string()),
        settings.replication.as_deref().unwrap_or("?"),
    ))?;
    let mut rows = table(&["partition", "log start", "high watermark", "messages", "bytes"], &[0, 1, 2, 3, 4]);
    for partition in &topic.partitions {
        rows.add_row([
            partition.partition.to_string(),
            partition.log_start.to_string(),
            partition.high_watermark.to_string(),
            count(partition.messages),
            bytes(partition.bytes),
        ]);
    }
    print_table(&rows)
}
