//! The JSON shapes of topics, positions and subscriptions. Fields that this version does not know are kept in `rest`, so
//! that `--output json` shows all of what the server said.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Settings of a topic; those left out stay as they are, or take the server's default when the topic is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Number of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Largest message (key, value and headers together) in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
    /// Compression of stored batches: `none`, `lz4` or `zstd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// How long the deduplication id of a message is remembered, in milliseconds; 0 for not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deduplication_window_ms: Option<u32>,
    /// Messages with an older timestamp are dropped, in milliseconds; `Some(None)` keeps them for ever.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub retention_ms: Option<Option<u64>>,
    /// Stored bytes above which the oldest messages of a partition are dropped; `Some(None)` keeps them for ever.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub retention_bytes: Option<Option<u64>>,
    /// Whether messages are dropped when every subscription is done with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after_ack: Option<bool>,
    /// Whether only the last message of each key is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_compaction: Option<bool>,
    /// How old a message is at least before it gives way to a later one of its key, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction_lag_ms: Option<u64>,
    /// How long a tombstone is kept as the last message of its key, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_retention_ms: Option<u64>,
    /// How messages are replicated over regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<String>,
}

/// A field that is there, perhaps as `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A topic and its live state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// When it was created, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<i64>,
    /// Settings.
    #[serde(default)]
    pub settings: TopicSettings,
    /// Live state of each partition; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionState>,
    /// Messages in all partitions, in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Bytes in all partitions, in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// Live state of a partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Number of the partition, from 0.
    pub partition: u32,
    /// First readable offset.
    pub log_start: u64,
    /// Messages before this offset are in the archive, later ones in the journal.
    #[serde(default)]
    pub archived_end: u64,
    /// One past the last readable offset.
    pub high_watermark: u64,
    /// Messages that can be read.
    #[serde(default)]
    pub messages: u64,
    /// Bytes of keys, values and headers published.
    #[serde(default)]
    pub bytes: u64,
    /// Archive files.
    #[serde(default)]
    pub files: u64,
    /// Bytes of archive files, in each region that has them.
    #[serde(default)]
    pub archived_bytes: u64,
    /// Bytes of archive files and of batches in the journal, in each region that has them.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// An archive file of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveFile {
    /// Number of the partition, from 0.
    pub partition: u32,
    /// Its number, which no other archive file has.
    pub id: u64,
    /// First offset that it covers.
    pub first_offset: u64,
    /// One past the last offset that it covers.
    pub end_offset: u64,
    /// Messages in it.
    pub messages: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Key of its object, below the prefix of each region.
    pub key: String,
    /// Smallest timestamp in it, in milliseconds since the Unix epoch.
    pub min_timestamp: i64,
    /// Largest timestamp in it, in milliseconds since the Unix epoch.
    pub max_timestamp: i64,
    /// Regions that are known to have it.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Whether it was key-compacted.
    #[serde(default)]
    pub compacted: bool,
    /// How often its messages were written into an archive file after the first time, at most.
    #[serde(default)]
    pub merges: u32,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// One page of the list of a topic's archive files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveFilePage {
    /// Files in order of partition and offset.
    pub files: Vec<ArchiveFile>,
    /// What the next page begins after; none at the end.
    #[serde(default)]
    pub next: Option<String>,
}

/// One page of the list of topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicPage {
    /// Topics in order of name.
    pub topics: Vec<Topic>,
    /// Name after which the next page begins; none at the end.
    #[serde(default)]
    pub next: Option<String>,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the partition.
    pub partition: u32,
    /// Offset of the next message.
    pub offset: u64,
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStart {
    /// At the first readable message.
    Earliest,
    /// After the last message.
    Latest,
    /// At the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
}

/// Where to move a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// To the first readable message.
    Earliest,
    /// After the last message.
    Latest,
    /// To the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
    /// To these offsets.
    Positions(Vec<Position>),
}

/// A subscription and its lag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Name.
    pub name: String,
    /// Kind: `stream` or `queue`.
    pub kind: String,
    /// Of a stream: committed positions, one a partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<SubscriptionPosition>,
    /// Messages not yet committed or settled, in all partitions.
    #[serde(default)]
    pub lag: u64,
    /// Of a queue: its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<BTreeMap<String, Value>>,
    /// Of a queue: how far each partition is settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<QueuePartition>,
    /// Of a queue: messages delivered under a receipt that is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Of a queue: messages not ready yet, as far as they have been looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed: Option<u64>,
    /// Of a queue: messages acknowledged by transactions that are not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Of a queue: dead letters that are kept with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<u64>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// How far a queue has settled a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePartition {
    /// Number of the partition.
    pub partition: u32,
    /// Everything before this offset is settled.
    pub floor: u64,
    /// Messages from there on that are not settled.
    pub unsettled: u64,
    /// One past the last readable offset.
    pub high_watermark: u64,
}

/// A subscription's committed position in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionPosition {
    /// Number of the partition.
    pub partition: u32,
    /// Offset of the next message.
    pub offset: u64,
    /// One past the last readable offset.
    #[serde(default)]
    pub high_watermark: u64,
    /// Messages between the two.
    #[serde(default)]
    pub lag: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Position, SeekTo, SubscriptionStart, Topic};

    #[test]
    fn places_have_the_documented_shape() {
        assert_eq!(json!(SubscriptionStart::Latest), json!("latest"));
        assert_eq!(json!(SubscriptionStart::Timestamp(5)), json!({"timestamp": 5}));
        let positions = vec![Position { partition: 1, offset: 2 }];
        assert_eq!(json!(SeekTo::Positions(positions)), json!({"positions": [{"partition": 1, "offset": 2}]}));
    }

    #[test]
    fn unknown_fields_of_a_topic_are_kept() {
        let topic = json!({"name": "t", "id": "x", "settings": {"partitions": 1, "replication": "sync"}, "new": [1]});
        let parsed: Topic = serde_json::from_value(topic.clone()).unwrap();
        assert_eq!(json!(parsed), topic);
    }
}
