//! Reads as an Arrow IPC stream: the stored columns with partition and offset in front.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array, new_null_array},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use brigade_index::batch::{AttributeSet, Compression, batch_schema_with};
use bytes::Bytes;

use super::MessageSlice;

/// Schema of a read without attributes: `partition`, `offset`, then the columns of [`brigade_index::batch::batch_schema`].
pub fn read_schema() -> SchemaRef {
    read_schema_with(AttributeSet::default())
}

/// Schema of a read: `partition`, `offset`, then the columns of [`batch_schema_with`] these attributes.
fn read_schema_with(attributes: AttributeSet) -> SchemaRef {
    let own = [Field::new("partition", DataType::UInt32, false), Field::new("offset", DataType::UInt64, false)];
    let stored = batch_schema_with(attributes);
    let fields: Vec<FieldRef> = own.into_iter().map(Arc::new).chain(stored.fields().iter().cloned()).collect();
    Arc::new(Schema::new(fields))
}

/// The slices as an Arrow IPC stream, one record batch a slice, with the columns of those attributes that some slice has.
/// A stream without messages still has its schema.
///
/// # Errors
/// When Arrow refuses to write the columns, which a stored batch gives no reason for.
pub fn encode_arrow(slices: &[MessageSlice], compression: Compression) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    })?;
    let used = slices.iter().map(|slice| slice.messages.attribute_set());
    let schema = read_schema_with(used.fold(AttributeSet::default(), AttributeSet::union));
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
    for slice in slices {
        let range = slice.range();
        if range.is_empty() {
            continue;
        }
        let stored = slice.messages.record_batch().slice(range.start, range.len());
        let offsets = UInt64Array::from_iter_values(range.clone().map(|row| slice.offset(row)));
        let own: [ArrayRef; 2] = [Arc::new(UInt32Array::from_value(slice.partition, range.len())), Arc::new(offsets)];
        let stored_columns =
            schema.fields()[own.len()..].iter().map(|field| match stored.column_by_name(field.name()) {
                Some(column) => column.clone(),
                // The attribute of a message in another slice.
                None => new_null_array(field.data_type(), range.len()),
            });
        let columns = own.into_iter().chain(stored_columns).collect();
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.into_inner().map(Bytes::from)
}
