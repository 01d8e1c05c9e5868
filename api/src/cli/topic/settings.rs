//! Settings of a topic as arguments.

use clap::Args;

use crate::{cli::units, client::TopicSettings};

/// Settings of a topic.
#[derive(Args, Clone, Debug)]
pub(super) struct SettingsArgs {
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
    /// Drop messages whose timestamp is older: 90s, 12h, 7d, or forever [default of a new topic: forever]
    #[arg(long, value_name = "TIME", value_parser = units::time_or_forever)]
    retention: Option<u64>,
    /// Drop the oldest messages of a partition that has more stored bytes: 512MiB, 10GiB, or unlimited. Whole files and
    /// batches go, oldest first, and the newest always stays [default of a new topic: unlimited]
    #[arg(long, value_name = "SIZE", value_parser = units::size_or_unlimited)]
    retention_bytes: Option<u64>,
    /// Drop messages that every subscription is done with (`--delete-after-ack=false` ends that)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    delete_after_ack: Option<bool>,
    /// Keep only the last message of each key (`--key-compaction=false` ends that)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    key_compaction: Option<bool>,
    /// How old a message is at least before it gives way to a later one of its key [default of a new topic: 0s]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    compaction_lag: Option<u64>,
    /// How long a tombstone is kept as the last message of its key [default of a new topic: 1d]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    tombstone_retention: Option<u64>,
}

impl From<SettingsArgs> for TopicSettings {
    fn from(args: SettingsArgs) -> Self {
        // Nothing is what the server is told, for ever is what is meant.
        let unlimited = |number: u64| Some(number).filter(|number| *number > 0);
        Self {
            partitions: args.partitions,
            max_message_bytes: args.max_message_bytes,
            compression: args.compression,
            deduplication_window_ms: args.deduplication_window_ms,
            retention_ms: args.retention.map(unlimited),
            retention_bytes: args.retention_bytes.map(unlimited),
            delete_after_ack: args.delete_after_ack,
            key_compaction: args.key_compaction,
            compaction_lag_ms: args.compaction_lag,
            tombstone_retention_ms: args.tombstone_retention,
            replication: None,
        }
    }
}
