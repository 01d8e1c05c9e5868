//! What an archive file says about itself, in its key-value metadata.

use parquet::file::metadata::{FileMetaData, KeyValue};

use super::{ArchiveError, ArchiveFile, SetHash};
use crate::{
    batch::AttributeSet,
    ids::{FileId, Offset, Partition, RegionNo, TopicId},
    names::TopicName,
};

/// Version of the format of archive files.
const FORMAT: &str = "1";

/// Which file it is: known before anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// Identity of the cluster.
    pub cluster: String,
    /// Name of the topic.
    pub topic: TopicName,
    /// Identity of the topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: Partition,
    /// Identity of the file.
    pub id: FileId,
    /// First offset that it covers.
    pub first: Offset,
    /// The offset after the last that it covers.
    pub end: Offset,
}

/// What is in a file, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) payload_bytes: u64,
    pub(super) set_hash: SetHash,
    pub(super) min_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    pub(super) oldest_tombstone_ms: Option<i64>,
    pub(super) attributes: AttributeSet,
}

impl Totals {
    pub(super) const NONE: Self = Self {
        rows: 0,
        payload_bytes: 0,
        set_hash: SetHash(0),
        min_timestamp_ms: i64::MAX,
        max_timestamp_ms: i64::MIN,
        oldest_tombstone_ms: None,
        attributes: AttributeSet(0),
    };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            payload_bytes: self.payload_bytes + other.payload_bytes,
            set_hash: self.set_hash.and(other.set_hash),
            min_timestamp_ms: self.min_timestamp_ms.min(other.min_timestamp_ms),
            max_timestamp_ms: self.max_timestamp_ms.max(other.max_timestamp_ms),
            oldest_tombstone_ms: earlier(self.oldest_tombstone_ms, other.oldest_tombstone_ms),
            attributes: self.attributes.union(other.attributes),
        }
    }
}

/// The earlier of two times.
fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// What was written into a finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Messages in it.
    pub rows: u64,
    /// Size of the whole file in bytes.
    pub bytes: u64,
    /// Bytes of keys, values and headers in it.
    pub payload_bytes: u64,
    /// CRC-32C of the whole file.
    pub crc: u32,
    /// Hash of its messages.
    pub set_hash: SetHash,
    /// Smallest timestamp, milliseconds since the Unix epoch.
    pub min_timestamp_ms: i64,
    /// Largest timestamp, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// See [`ArchiveFile::oldest_tombstone_ms`].
    pub oldest_tombstone_ms: Option<i64>,
    /// Which attributes its messages use.
    pub attributes: AttributeSet,
}

impl Written {
    pub(super) fn new(totals: Totals, bytes: u64, crc: u32) -> Self {
        Self {
            rows: totals.rows,
            bytes,
            payload_bytes: totals.payload_bytes,
            crc,
            set_hash: totals.set_hash,
            min_timestamp_ms: totals.min_timestamp_ms,
            max_timestamp_ms: totals.max_timestamp_ms,
            oldest_tombstone_ms: totals.oldest_tombstone_ms,
            attributes: totals.attributes,
        }
    }

    /// The file as the index will know it.
    pub fn file(&self, head: &FileHead, merges: u32, compacted: bool, regions: Vec<RegionNo>) -> ArchiveFile {
        ArchiveFile {
            id: head.id,
            first: head.first,
            end: head.end,
            rows: self.rows,
            bytes: self.bytes,
            payload_bytes: self.payload_bytes,
            crc: self.crc,
            set_hash: self.set_hash,
            min_timestamp_ms: self.min_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            oldest_tombstone_ms: self.oldest_tombstone_ms,
            attributes: self.attributes,
            merges,
            compacted,
            regions,
        }
    }
}

/// The key-value metadata of a file.
pub(super) fn metadata(head: &FileHead, totals: &Totals) -> Vec<KeyValue> {
    let pair = |name: &str, value: String| KeyValue::new(format!("brigade.{name}"), value);
    let mut pairs = vec![
        pair("format", FORMAT.to_owned()),
        pair("cluster", head.cluster.clone()),
        pair("topic", head.topic.to_string()),
        pair("topic_id", head.topic_id.to_string()),
        pair("partition", head.partition.to_string()),
        pair("file", head.id.to_string()),
        pair("first_offset", head.first.to_string()),
        pair("end_offset", head.end.to_string()),
        pair("rows", totals.rows.to_string()),
        pair("payload_bytes", totals.payload_bytes.to_string()),
        pair("set_hash", format!("{:032x}", totals.set_hash.0)),
        pair("min_timestamp", totals.min_timestamp_ms.to_string()),
        pair("max_timestamp", totals.max_timestamp_ms.to_string()),
        pair("attributes", totals.attributes.0.to_string()),
    ];
    pairs.extend(totals.oldest_tombstone_ms.map(|oldest| pair("oldest_tombstone", oldest.to_string())));
    pairs
}

/// The value with this name in the key-value metadata.
pub(super) fn lookup<'a>(metadata: &'a FileMetaData, name: &str) -> Option<&'a str> {
    let pairs = metadata.key_value_metadata().map_or(&[][..], Vec::as_slice);
    pairs.iter().find(|pair| pair.key.strip_prefix("brigade.") == Some(name))?.value.as_deref()
}

/// Reads back what [`metadata`] wrote.
pub(super) fn parse(metadata: &FileMetaData) -> Result<(FileHead, Totals), ArchiveError> {
    let text = |name: &str| {
        let missing = || ArchiveError::damaged(format!("its metadata lacks brigade.{name}"));
        lookup(metadata, name).ok_or_else(missing)
    };
    let format = text("format")?;
    if format != FORMAT {
        return Err(ArchiveError::Format(format.chars().take(32).collect()));
    }
    fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, ArchiveError> {
        text.parse().map_err(|_| ArchiveError::damaged(format!("brigade.{name} is no number that it can be")))
    }
    let hash = u128::from_str_radix(text("set_hash")?, 16);
    let hash = hash.map_err(|_| ArchiveError::damaged("brigade.set_hash is no hexadecimal number"))?;
    let oldest = lookup(metadata, "oldest_tombstone");
    let topic = TopicName::new(text("topic")?);
    let head = FileHead {
        cluster: text("cluster")?.to_owned(),
        topic: topic.map_err(|_| ArchiveError::damaged("brigade.topic is no name of a topic"))?,
        topic_id: TopicId(number("topic_id", text("topic_id")?)?),
        partition: Partition(number("partition", text("partition")?)?),
        id: FileId(number("file", text("file")?)?),
        first: Offset(number("first_offset", text("first_offset")?)?),
        end: Offset(number("end_offset", text("end_offset")?)?),
    };
    let totals = Totals {
        rows: number("rows", text("rows")?)?,
        payload_bytes: number("payload_bytes", text("payload_bytes")?)?,
        set_hash: SetHash(hash),
        min_timestamp_ms: number("min_timestamp", text("min_timestamp")?)?,
        max_timestamp_ms: number("max_timestamp", text("max_timestamp")?)?,
        oldest_tombstone_ms: oldest.map(|oldest| number("oldest_tombstone", oldest)).transpose()?,
        attributes: AttributeSet(number("attributes", text("attributes")?)?),
    };
    Ok((head, totals))
}

/// Refuses a file whose facts differ from what the index says.
pub(super) fn check(
    (found, totals): (&FileHead, &Totals),
    expected: &FileHead,
    file: &ArchiveFile,
) -> Result<(), ArchiveError> {
    let facts: [(&'static str, String, String); 9] = [
        ("cluster", found.cluster.clone(), expected.cluster.clone()),
        ("topic", found.topic.to_string(), expected.topic.to_string()),
        ("topic id", found.topic_id.to_string(), expected.topic_id.to_string()),
        ("partition", found.partition.to_string(), expected.partition.to_string()),
        ("number", found.id.to_string(), file.id.to_string()),
        ("first offset", found.first.to_string(), file.first.to_string()),
        ("end offset", found.end.to_string(), file.end.to_string()),
        ("number of messages", totals.rows.to_string(), file.rows.to_string()),
        ("set hash", format!("{:032x}", totals.set_hash.0), format!("{:032x}", file.set_hash.0)),
    ];
    match facts.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((what, found, expected)) => Err(ArchiveError::Foreign { what, found, expected }),
    }
}
