//! Schemas of the Iceberg table and of its Avro files. The numbers of fields in the latter are the specification's.

use serde_json::{Value, json};

/// Numbers of the columns, as in the Parquet files.
pub(super) const PARTITION: i32 = 1;
pub(super) const OFFSET: i32 = 2;
pub(super) const TIMESTAMP: i32 = 3;
pub(super) const KIND: i32 = 6;
/// The greatest of them.
pub(super) const LAST_COLUMN: i32 = 13;

/// Number of the partition field in Iceberg's sense.
pub(super) const PARTITION_FIELD: i32 = 1_000;

/// The table's schema.
pub(super) fn table() -> Value {
    let column =
        |id: i32, name, required, kind: Value| json!({"id": id, "name": name, "required": required, "type": kind});
    let headers = json!({
        "type": "map", "key-id": 8, "key": "string", "value-id": 9, "value-required": true, "value": "string",
    });
    json!({
        "type": "struct",
        "schema-id": 0,
        "fields": [
            column(PARTITION, "partition", true, "int".into()),
            column(OFFSET, "offset", true, "long".into()),
            column(TIMESTAMP, "timestamp", true, "timestamptz".into()),
            column(4, "key", false, "binary".into()),
            column(KIND, "kind", true, "string".into()),
            column(7, "headers", true, headers),
            column(10, "group", false, "string".into()),
            column(11, "priority", false, "int".into()),
            column(12, "deliver_at", false, "timestamptz".into()),
            column(13, "expires_at", false, "timestamptz".into()),
            column(5, "value", false, "binary".into()),
        ],
    })
}

/// By what the table is partitioned: every file is of one partition of the topic.
pub(super) fn partition_fields() -> Value {
    json!([{"name": "partition", "transform": "identity", "source-id": PARTITION, "field-id": PARTITION_FIELD}])
}

/// How every file is sorted.
pub(super) fn sort_fields() -> Value {
    json!([{"transform": "identity", "source-id": OFFSET, "direction": "asc", "null-order": "nulls-first"}])
}

/// A row of a manifest: a file.
pub(super) fn manifest() -> Value {
    let partition = record("r102", json!([optional(PARTITION_FIELD, "partition", "int".into())]));
    let file = json!([
        required(134, "content", "int".into()),
        required(100, "file_path", "string".into()),
        required(101, "file_format", "string".into()),
        required(102, "partition", partition),
        required(103, "record_count", "long".into()),
        required(104, "file_size_in_bytes", "long".into()),
        optional(108, "column_sizes", map((117, 118), "long")),
        optional(109, "value_counts", map((119, 120), "long")),
        optional(110, "null_value_counts", map((121, 122), "long")),
        optional(137, "nan_value_counts", map((138, 139), "long")),
        optional(125, "lower_bounds", map((126, 127), "bytes")),
        optional(128, "upper_bounds", map((129, 130), "bytes")),
        optional(131, "key_metadata", "bytes".into()),
        optional(132, "split_offsets", array(133, "long".into())),
        optional(135, "equality_ids", array(136, "int".into())),
        optional(140, "sort_order_id", "int".into()),
    ]);
    let entry = json!([
        required(0, "status", "int".into()),
        optional(1, "snapshot_id", "long".into()),
        optional(3, "sequence_number", "long".into()),
        optional(4, "file_sequence_number", "long".into()),
        required(2, "data_file", record("r2", file)),
    ]);
    record("manifest_entry", entry)
}

/// A row of the list of manifests.
pub(super) fn manifest_list() -> Value {
    let summary = json!([
        required(509, "contains_null", "boolean".into()),
        optional(518, "contains_nan", "boolean".into()),
        optional(510, "lower_bound", "bytes".into()),
        optional(511, "upper_bound", "bytes".into()),
    ]);
    let file = json!([
        required(500, "manifest_path", "string".into()),
        required(501, "manifest_length", "long".into()),
        required(502, "partition_spec_id", "int".into()),
        required(517, "content", "int".into()),
        required(515, "sequence_number", "long".into()),
        required(516, "min_sequence_number", "long".into()),
        required(503, "added_snapshot_id", "long".into()),
        required(504, "added_files_count", "int".into()),
        required(505, "existing_files_count", "int".into()),
        required(506, "deleted_files_count", "int".into()),
        required(512, "added_rows_count", "long".into()),
        required(513, "existing_rows_count", "long".into()),
        required(514, "deleted_rows_count", "long".into()),
        optional(507, "partitions", array(508, record("r508", summary))),
        optional(519, "key_metadata", "bytes".into()),
    ]);
    record("manifest_file", file)
}

fn record(name: &str, fields: Value) -> Value {
    json!({"type": "record", "name": name, "fields": fields})
}

fn required(id: i32, name: &str, kind: Value) -> Value {
    json!({"name": name, "type": kind, "field-id": id})
}

fn optional(id: i32, name: &str, kind: Value) -> Value {
    json!({"name": name, "type": ["null", kind], "default": null, "field-id": id})
}

fn array(element: i32, items: Value) -> Value {
    json!({"type": "array", "items": items, "element-id": element})
}

/// A map with numbers for keys, which Avro does not have: an array of pairs.
fn map((key, value): (i32, i32), kind: &str) -> Value {
    let pair = record(
        &format!("k{key}_v{value}"),
        json!([required(key, "key", "int".into()), required(value, "value", kind.into())]),
    );
    json!({"type": "array", "logicalType": "map", "items": pair})
}
