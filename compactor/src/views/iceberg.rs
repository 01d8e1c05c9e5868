//! The archive files of a topic as an Apache Iceberg table, format version 2: a table that only ever has its newest
//! snapshot, since the files of older ones are deleted.
//!
//! Table, list of manifests and manifests are made anew with every version of the archive. The snapshot, its sequence
//! number and the version are the same number.

use brigade_index::{
    archive::ArchiveFile,
    ids::Partition,
    keys::{self, Key},
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    avro::{Container, Encoder},
    listing::{Listing, Place},
    schemas,
};

/// Files in a manifest at most: engines read manifests beside each other, and skip those of other partitions.
const MANIFEST_FILES: usize = 8_192;

/// A manifest that is written, as the list of manifests has it.
struct Manifest {
    url: String,
    bytes: usize,
    files: usize,
    rows: u64,
    partitions: (Partition, Partition),
}

/// The objects of the listing's version, in the order in which they are to be written: each refers to those before it.
pub(super) fn table(listing: &Listing, place: &Place) -> Vec<(Key, Vec<u8>)> {
    let Listing { name, topic, version, .. } = listing;
    let files: Vec<_> = listing.files(place, true).collect();
    let (mut objects, mut manifests) = (Vec::new(), Vec::new());
    for (part, files) in files.chunks(MANIFEST_FILES).enumerate() {
        let key = keys::manifest(name, *topic, *version, part);
        let bytes = manifest(listing, place, files);
        // No chunk is empty, and they are in the order of partitions.
        let bound = |file: Option<&(Partition, &ArchiveFile)>| file.map_or(Partition(0), |(partition, _)| *partition);
        manifests.push(Manifest {
            url: place.url_of(&key),
            bytes: bytes.len(),
            files: files.len(),
            rows: files.iter().map(|(_, file)| file.rows).sum(),
            partitions: (bound(files.first()), bound(files.last())),
        });
        objects.push((key, bytes));
    }
    objects.push((keys::manifests(name, *topic, *version), manifest_list(*version, &manifests)));
    let metadata = metadata(listing, place, &files);
    objects.push((keys::table(name, *topic, *version), format!("{metadata:#}\n").into_bytes()));
    objects
}

fn manifest(listing: &Listing, place: &Place, files: &[(Partition, &ArchiveFile)]) -> Vec<u8> {
    let header = [
        ("schema", schemas::table().to_string()),
        ("schema-id", "0".to_owned()),
        ("partition-spec", schemas::partition_fields().to_string()),
        ("partition-spec-id", "0".to_owned()),
        ("format-version", "2".to_owned()),
        ("content", "data".to_owned()),
    ];
    let mut container = Container::new(&schemas::manifest().to_string(), &header);
    for (partition, file) in files {
        let url = place.url_of(&file.key(&listing.name, listing.topic, *partition));
        container.row(|row| entry(row, listing.version, *partition, file, &url));
    }
    container.finish()
}

/// A row of a manifest: its fields in the order of [`schemas::manifest`].
fn entry(row: &mut Encoder, version: u64, partition: Partition, file: &ArchiveFile, url: &str) {
    // Added by this snapshot; the sequence numbers are the snapshot's.
    row.long(1).some().count(version).null().null();
    let partition_value = i64::from(partition.0);
    row.long(0).bytes(url.as_bytes()).bytes(b"PARQUET").some().long(partition_value);
    row.count(file.rows).count(file.bytes);
    // Sizes of columns.
    row.null();
    let never_null = [schemas::PARTITION, schemas::OFFSET, schemas::TIMESTAMP, schemas::KIND];
    for count in [file.rows, 0] {
        row.some().items(never_null.iter(), |row, id| {
            row.long((*id).into()).count(count);
        });
    }
    // Columns that can be NaN: none.
    row.null();
    let last = file.end.0.saturating_sub(1);
    bounds(row, partition, file.first.0, file.min_timestamp_ms);
    bounds(row, partition, last, file.max_timestamp_ms);
    // Keys, splits, columns of deletions.
    row.null().null().null();
    row.some().long(1);
}

/// Values that no row is below, or above.
fn bounds(row: &mut Encoder, partition: Partition, offset: u64, timestamp_ms: i64) {
    let mut bounds = vec![
        (schemas::PARTITION, partition.0.to_le_bytes().to_vec()),
        (schemas::OFFSET, offset.to_le_bytes().to_vec()),
    ];
    // Iceberg counts microseconds; a time beyond them has no bound.
    if let Some(timestamp) = timestamp_ms.checked_mul(1_000) {
        bounds.push((schemas::TIMESTAMP, timestamp.to_le_bytes().to_vec()));
    }
    row.some().items(bounds.into_iter(), |row, (id, bound)| {
        row.long(id.into()).bytes(&bound);
    });
}

fn manifest_list(version: u64, manifests: &[Manifest]) -> Vec<u8> {
    let header = [
        ("snapshot-id", version.to_string()),
        ("parent-snapshot-id", "null".to_owned()),
        ("sequence-number", version.to_string()),
        ("format-version", "2".to_owned()),
    ];
    let mut container = Container::new(&schemas::manifest_list().to_string(), &header);
    for Manifest { url, bytes, files, rows, partitions } in manifests {
        container.row(|row| {
            row.bytes(url.as_bytes()).count(*bytes as u64).long(0).long(0);
            row.count(version).count(version).count(version);
            // Files and then rows: added, existing, deleted.
            row.count(*files as u64).long(0).long(0).count(*rows).long(0).long(0);
            row.some().items([partitions].into_iter(), |row, (least, greatest)| {
                row.boolean(false).some().boolean(false);
                row.some().bytes(&least.0.to_le_bytes()).some().bytes(&greatest.0.to_le_bytes());
            });
            row.null();
        });
    }
    container.finish()
}

fn metadata(listing: &Listing, place: &Place, files: &[(Partition, &ArchiveFile)]) -> Value {
    let Listing { cluster, name, topic, version, changed_ms, .. } = listing;
    let rows: u64 = files.iter().map(|(_, file)| file.rows).sum();
    let bytes: u64 = files.iter().map(|(_, file)| file.bytes).sum();
    json!({
        "format-version": 2,
        "table-uuid": uuid(listing, place),
        "location": place.url_of(&keys::archive_of(name, *topic)),
        "last-sequence-number": version,
        "last-updated-ms": changed_ms,
        "last-column-id": schemas::LAST_COLUMN,
        "current-schema-id": 0,
        "schemas": [schemas::table()],
        "default-spec-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": schemas::partition_fields()}],
        "last-partition-id": schemas::PARTITION_FIELD,
        "default-sort-order-id": 1,
        "sort-orders": [{"order-id": 1, "fields": schemas::sort_fields()}],
        "properties": {
            "brigade.cluster": cluster,
            "brigade.region": place.name.as_str(),
            "brigade.topic": name.as_str(),
            "brigade.topic_id": topic.to_string(),
            "brigade.complete": listing.is_complete(place).to_string(),
        },
        "current-snapshot-id": version,
        "snapshots": [{
            "snapshot-id": version,
            "sequence-number": version,
            "timestamp-ms": changed_ms,
            "schema-id": 0,
            "manifest-list": place.url_of(&keys::manifests(name, *topic, *version)),
            // Not "append": whoever follows appended files would take all of them for new ones.
            "summary": {
                "operation": "overwrite",
                "total-data-files": files.len().to_string(),
                "total-records": rows.to_string(),
                "total-files-size": bytes.to_string(),
                "total-delete-files": "0",
                "total-position-deletes": "0",
                "total-equality-deletes": "0",
            },
        }],
        "snapshot-log": [{"snapshot-id": version, "timestamp-ms": changed_ms}],
        "metadata-log": [],
        "refs": {"main": {"snapshot-id": version, "type": "branch"}},
    })
}

/// Identity of the table. Those of two regions are two tables.
fn uuid(listing: &Listing, place: &Place) -> String {
    let named = format!("{}/{}/{}", listing.cluster, place.region_id, listing.topic);
    // Version 8, which is free for such uses, and the variant that all versions have.
    let hash = xxh3_128(named.as_bytes()) & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let digits = format!("{hash:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
