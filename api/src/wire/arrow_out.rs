//! Reads as an Arrow IPC stream: the stored columns with partition and offset in front.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use brigade_index::batch::{Compression, batch_schema};
use bytes::Bytes;

use super::MessageSlice;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let own = [Field::new("partition", DataType::UInt32, false), Field::new("offset", DataType::UInt64, false)];
    let stored = batch_schema();
    let fields: Vec<FieldRef> = own.into_iter().map(Arc::new).chain(stored.fields().iter().cloned()).collect();
    Arc::new(Schema::new(fields))
});

/// Schema of a read: `partition`, `offset`, then the columns of [`batch_schema`].
pub fn read_schema() -> SchemaRef {
    SCHEMA.clone()
}

/// The slices as an Arrow IPC stream, one record batch a slice. A stream without messages still has its schema.
///
/// # Errors
/// When Arrow refuses to write the columns, which a stored batch gives no reason for.
pub fn encode_arrow(slices: &[MessageSlice], compression: Compression) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    })?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &SCHEMA, options)?;
    for slice in slices {
        let range = slice.range();
        if range.is_empty() {
            continue;
        }
        let stored = slice.messages.record_batch().slice(range.start, range.len());
        let offsets = UInt64Array::from_iter_values(range.clone().map(|row| slice.offset(row)));
        let own: [ArrayRef; 2] = [Arc::new(UInt32Array::from_value(slice.partition, range.len())), Arc::new(offsets)];
        let columns = own.into_iter().chain(stored.columns().iter().cloned()).collect();
        writer.write(&RecordBatch::try_new(read_schema(), columns)?)?;
    }
    writer.into_inner().map(Bytes::from)
}
