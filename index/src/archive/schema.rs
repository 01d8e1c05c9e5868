//! Columns of an archive file.
//!
//! All of them are always there, so that the files of a topic are one table. `value` is the last one: in the file, the
//! small columns of a row group then lie side by side in front of it, and reading some of its rows takes two ranges.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::{
    arrow::{ArrowSchemaConverter, PARQUET_FIELD_ID_META_KEY},
    schema::types::SchemaDescriptor,
};

/// Leaf columns, by their order in the file.
pub(super) mod leaf {
    /// Not read back: it is the same in the whole file, and in its metadata.
    pub(in crate::archive) const OFFSET: usize = 1;
    pub(in crate::archive) const TIMESTAMP: usize = 2;
    pub(in crate::archive) const KEY: usize = 3;
    pub(in crate::archive) const HEADER_NAME: usize = 5;
    pub(in crate::archive) const HEADER_VALUE: usize = 6;
    /// `group`, `priority`, `deliver_at`, `expires_at`.
    pub(in crate::archive) const ATTRIBUTES: std::ops::RangeInclusive<usize> = 7..=10;
    pub(in crate::archive) const VALUE: usize = 11;
    pub(in crate::archive) const COUNT: usize = 12;
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let instant = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let header = vec![field(8, "key", DataType::Utf8, false), field(9, "value", DataType::Utf8, false)];
    let entries = Arc::new(Field::new("key_value", DataType::Struct(Fields::from(header)), false));
    Arc::new(Schema::new(vec![
        field(1, "partition", DataType::Int32, false),
        field(2, "offset", DataType::Int64, false),
        field(3, "timestamp", instant(), false),
        field(4, "key", DataType::Binary, true),
        field(6, "kind", DataType::Utf8, false),
        field(7, "headers", DataType::Map(entries, false), false),
        field(10, "group", DataType::Utf8, true),
        field(11, "priority", DataType::Int32, true),
        field(12, "deliver_at", instant(), true),
        field(13, "expires_at", instant(), true),
        field(5, "value", DataType::Binary, true),
    ]))
});

static DESCRIPTOR: LazyLock<Arc<SchemaDescriptor>> = LazyLock::new(|| {
    let converted = ArrowSchemaConverter::new().convert(&SCHEMA);
    Arc::new(converted.expect("every type of the schema has a Parquet type"))
});

fn field(id: u32, name: &str, data_type: DataType, nullable: bool) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

/// Schema of every archive file: `partition`, `offset`, `timestamp`, `key`, `kind` (`text`, `json` or `binary`),
/// `headers`, `group`, `priority`, `deliver_at`, `expires_at`, `value`. Each field, those of the map's entries as well,
/// has a field id in its metadata that never changes.
pub fn archive_schema() -> SchemaRef {
    SCHEMA.clone()
}

pub(super) fn descriptor() -> Arc<SchemaDescriptor> {
    DESCRIPTOR.clone()
}
