//! `latest.json`: the archive files of a topic as a JSON document, so that a program can read them without listing.

use brigade_index::{
    archive::ArchiveFile,
    ids::Partition,
    keys::{self, Key},
};
use serde::Serialize;

use super::listing::{Listing, Place};

/// Version of the document. Fields may be added to it; what changes in any other way gets a new number.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Manifest<'a> {
    format: u32,
    cluster: &'a str,
    region: &'a str,
    topic: &'a str,
    topic_id: u64,
    archive_version: u64,
    changed_ms: i64,
    /// Whether this region holds every file.
    complete: bool,
    /// Root of the same list as an Iceberg table.
    iceberg: String,
    settings: Settings,
    partitions: Vec<PartitionList>,
    files: Vec<File>,
    /// What other regions hold and this one does not.
    missing: Vec<File>,
}

#[derive(Serialize)]
struct Settings {
    partitions: u32,
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
    delete_after_ack: bool,
    key_compaction: bool,
    compaction_lag_ms: u64,
    tombstone_retention_ms: u64,
}

#[derive(Serialize)]
struct PartitionList {
    partition: u32,
    log_start: u64,
    archived_end: u64,
    high_watermark: u64,
    files: usize,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct File {
    partition: u32,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    first_offset: u64,
    end_offset: u64,
    rows: u64,
    bytes: u64,
    payload_bytes: u64,
    min_timestamp_ms: i64,
    max_timestamp_ms: i64,
    crc32c: String,
    set_hash: String,
    compacted: bool,
}

/// The document for a region.
pub(super) fn latest(listing: &Listing, place: &Place) -> Result<Vec<u8>, serde_json::Error> {
    let Listing { cluster, name, topic, version, changed_ms, settings, .. } = listing;
    let key = |partition, file: &ArchiveFile| file.key(name, *topic, partition);
    let held = listing.files(place, true).map(|(partition, file)| {
        let key = key(partition, file);
        let url = place.url_of(&key);
        File::new(partition, &key, Some(url), file)
    });
    let missing =
        listing.files(place, false).map(|(partition, file)| File::new(partition, &key(partition, file), None, file));
    let retention = &settings.retention;
    let some = |value: u64| Some(value).filter(|value| *value > 0);
    let manifest = Manifest {
        format: FORMAT,
        cluster,
        region: place.name.as_str(),
        topic: name.as_str(),
        topic_id: topic.0,
        archive_version: *version,
        changed_ms: *changed_ms,
        complete: listing.is_complete(place),
        iceberg: place.url_of(&keys::table(name, *topic, *version)),
        settings: Settings {
            partitions: settings.partitions,
            retention_ms: some(retention.time_ms),
            retention_bytes: some(retention.bytes),
            delete_after_ack: retention.after_ack,
            key_compaction: retention.key_compaction,
            compaction_lag_ms: retention.compaction_lag_ms,
            tombstone_retention_ms: retention.tombstones_ms,
        },
        partitions: partitions(listing),
        files: held.collect(),
        missing: missing.collect(),
    };
    let mut out = serde_json::to_vec(&manifest)?;
    out.push(b'\n');
    Ok(out)
}

fn partitions(listing: &Listing) -> Vec<PartitionList> {
    let list = (0..).zip(&listing.partitions).map(|(partition, part)| PartitionList {
        partition,
        log_start: part.log_start.0,
        archived_end: part.archived_end.0,
        high_watermark: part.high_watermark.0,
        files: part.files.len(),
        rows: part.files.iter().map(|file| file.rows).sum(),
        bytes: part.files.iter().map(|file| file.bytes).sum(),
    });
    list.collect()
}

impl File {
    fn new(partition: Partition, key: &Key, url: Option<String>, file: &ArchiveFile) -> Self {
        Self {
            partition: partition.0,
            key: key.to_string(),
            url,
            first_offset: file.first.0,
            end_offset: file.end.0,
            rows: file.rows,
            bytes: file.bytes,
            payload_bytes: file.payload_bytes,
            min_timestamp_ms: file.min_timestamp_ms,
            max_timestamp_ms: file.max_timestamp_ms,
            crc32c: format!("{:08x}", file.crc),
            set_hash: format!("{:032x}", file.set_hash.0),
            compacted: file.compacted,
        }
    }
}
