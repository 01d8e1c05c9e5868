//! Settings of a topic, as clients give and see them.

use brigade_index::{
    batch::Compression,
    command::{RetentionPatch, SettingsPatch, TopicSettings},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::{
    body::given,
    error::{ApiError, kinds},
};

/// Settings as a client gives them: to create a topic or to change one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TopicBody {
    /// Number of partitions, 1 to 1024; it can only grow. Default 1.
    partitions: Option<u32>,
    /// Largest message accepted, in bytes: key, value and headers together. Default 1 MiB, at most 16 MiB.
    max_message_bytes: Option<u32>,
    /// Compression of stored batches: `none`, `lz4` (default) or `zstd`.
    #[schema(value_type = Option<String>)]
    compression: Option<Compression>,
    /// How long the deduplication id of a message is remembered, in milliseconds: at most 86400000, 0 for not at all.
    /// Default 300000, which is five minutes.
    deduplication_window_ms: Option<u32>,
    /// Messages whose timestamp is older are dropped, in milliseconds; at most 3153600000000. `null`, the default,
    /// keeps them for ever. Whole stored runs and archive files go at a time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    retention_ms: Option<Option<u64>>,
    /// The oldest messages of a partition are dropped when it has more stored bytes than these. Whole runs and archive
    /// files go, oldest first, and the newest always stays. `null`, the default, keeps them for ever.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    retention_bytes: Option<Option<u64>>,
    /// Whether messages are dropped when every subscription is done with them. Default false; with no subscription
    /// nothing is dropped.
    delete_after_ack: Option<bool>,
    /// Whether only the last message of each key is kept; a message with a key and no value, a tombstone, says that
    /// there is none. Default false.
    key_compaction: Option<bool>,
    /// How old a message is at least before it gives way to a later one of its key, in milliseconds. Default 0.
    compaction_lag_ms: Option<u64>,
    /// How long a tombstone is kept as the last message of its key, in milliseconds. Default 86400000, which is a day.
    tombstone_retention_ms: Option<u64>,
    /// `sync`, the only value so far.
    replication: Option<String>,
}

/// Settings of a topic that cannot be.
pub(super) fn invalid(problem: impl Into<String>) -> ApiError {
    let hint =
        "correct the setting that is named; TopicBody in /openapi.json lists the limits. Partitions can only grow";
    ApiError { hint: hint.into(), ..ApiError::new(kinds::INVALID_SETTINGS, problem) }
}

impl TopicBody {
    pub(super) fn patch(self) -> Result<SettingsPatch, ApiError> {
        if let Some(replication) = self.replication.as_ref().filter(|replication| *replication != "sync") {
            let problem = format!("replication {replication:?} is not available; it is \"sync\"");
            return Err(invalid(problem));
        }
        // In the state 0 stands for no limit; whoever writes it may as well mean that nothing is kept.
        for (name, given) in [("retention_ms", self.retention_ms), ("retention_bytes", self.retention_bytes)] {
            if given == Some(Some(0)) {
                let problem = format!("{name} is 0, which would keep nothing; null keeps messages for ever");
                let hint = format!("give {name} at least 1, or null, which keeps messages for ever");
                return Err(ApiError { hint: hint.into(), ..ApiError::new(kinds::INVALID_SETTINGS, problem) });
            }
        }
        let Self { partitions, max_message_bytes, compression, deduplication_window_ms, .. } = self;
        let retention = RetentionPatch {
            time_ms: self.retention_ms.map(Option::unwrap_or_default),
            bytes: self.retention_bytes.map(Option::unwrap_or_default),
            after_ack: self.delete_after_ack,
            key_compaction: self.key_compaction,
            compaction_lag_ms: self.compaction_lag_ms,
            tombstones_ms: self.tombstone_retention_ms,
        };
        Ok(SettingsPatch { partitions, max_message_bytes, compression, deduplication_window_ms, retention })
    }
}

/// Settings of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SettingsView {
    partitions: u32,
    max_message_bytes: u32,
    #[schema(value_type = String)]
    compression: Compression,
    /// How long the deduplication id of a message is remembered; 0 for not at all.
    deduplication_window_ms: u32,
    /// Messages whose timestamp is older may be dropped; `null` keeps them for ever.
    retention_ms: Option<u64>,
    /// The oldest messages of a partition may be dropped when it has more stored bytes; `null` keeps them for ever.
    retention_bytes: Option<u64>,
    /// Whether messages are dropped when every subscription is done with them.
    delete_after_ack: bool,
    /// Whether only the last message of each key is kept.
    key_compaction: bool,
    /// How old a message is at least before it gives way to a later one of its key.
    compaction_lag_ms: u64,
    /// How long a tombstone is kept as the last message of its key.
    tombstone_retention_ms: u64,
    replication: &'static str,
}

impl From<&TopicSettings> for SettingsView {
    fn from(settings: &TopicSettings) -> Self {
        let retention = settings.retention;
        Self {
            partitions: settings.partitions,
            max_message_bytes: settings.max_message_bytes,
            compression: settings.compression,
            deduplication_window_ms: settings.deduplication_window_ms,
            retention_ms: Some(retention.time_ms).filter(|time| *time > 0),
            retention_bytes: Some(retention.bytes).filter(|bytes| *bytes > 0),
            delete_after_ack: retention.after_ack,
            key_compaction: retention.key_compaction,
            compaction_lag_ms: retention.compaction_lag_ms,
            tombstone_retention_ms: retention.tombstones_ms,
            replication: "sync",
        }
    }
}
