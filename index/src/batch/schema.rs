//! The Arrow schema of stored batches, and typed access to a decoded one.
//!
//! Offset and partition are not stored: a batch gets its offsets when its entry is applied, so they belong to the
//! index. Columns added later come at the end, and readers of an older batch see them as null.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, AsArray, BinaryArray, MapArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit, TimestampMillisecondType, UInt8Type},
};

use super::{BatchError, columns::ValueKind};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("kind", DataType::UInt8, false),
        Field::new("headers", DataType::Map(headers_field(), false), false),
    ]))
});

static HEADER_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
});

pub(super) fn header_fields() -> Fields {
    HEADER_FIELDS.clone()
}

pub(super) fn headers_field() -> Arc<Field> {
    Arc::new(Field::new("entries", DataType::Struct(header_fields()), false))
}

/// Schema of a stored batch: `timestamp`, `key`, `value`, `kind` (see [`ValueKind`]), `headers`.
pub fn batch_schema() -> SchemaRef {
    SCHEMA.clone()
}

/// A decoded batch with its columns at hand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Messages {
    batch: RecordBatch,
}

impl Messages {
    /// Wraps a record batch.
    ///
    /// # Errors
    /// When it does not have [`batch_schema`].
    pub fn new(batch: RecordBatch) -> Result<Self, BatchError> {
        let (got, want) = (batch.schema(), batch_schema());
        let same = got.fields().len() == want.fields().len()
            && got.fields().iter().zip(want.fields()).all(|(a, b)| a.data_type() == b.data_type());
        if same { Ok(Self { batch }) } else { Err(BatchError::Schema) }
    }

    /// Number of messages.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The Arrow record batch.
    pub fn record_batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Bytes that the decoded batch occupies in memory.
    pub fn memory(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Timestamps in milliseconds since the Unix epoch.
    pub fn timestamps(&self) -> &[i64] {
        self.batch.column(0).as_primitive::<TimestampMillisecondType>().values()
    }

    /// Keys.
    pub fn keys(&self) -> &BinaryArray {
        self.batch.column(1).as_binary()
    }

    /// Values; null is a tombstone.
    pub fn values(&self) -> &BinaryArray {
        self.batch.column(2).as_binary()
    }

    /// How the value of row `row` was given.
    pub fn kind(&self, row: usize) -> ValueKind {
        ValueKind::from_u8(self.batch.column(3).as_primitive::<UInt8Type>().value(row))
    }

    /// Headers of row `row`, in the order given.
    pub fn headers(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        let map: &MapArray = self.batch.column(4).as_map();
        let (names, values): (&StringArray, &StringArray) = (map.keys().as_string(), map.values().as_string());
        let ends = map.value_offsets();
        let range = ends[row] as usize..ends[row + 1] as usize;
        range.map(move |at| (names.value(at), values.value(at)))
    }

    /// Key of row `row`.
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        let keys = self.keys();
        (!keys.is_null(row)).then(|| keys.value(row))
    }

    /// Value of row `row`.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let values = self.values();
        (!values.is_null(row)).then(|| values.value(row))
    }
}
