//! Parquet with the columns of the archive, all partitions in one file.

use std::{io, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray, new_null_array},
    compute::cast,
    datatypes::{DataType, UInt8Type},
};
use brigade_index::{
    archive::archive_schema,
    batch::{Messages, ValueKind},
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
};

use super::sink::Output;
use crate::cli::CliError;

/// Bytes after which a row group ends.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// A Parquet file in the making.
pub(super) struct ParquetSink(ArrowWriter<Output>);

impl ParquetSink {
    pub(super) fn new(topic: &str, output: Output) -> Result<Self, CliError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(Some(vec![KeyValue::new("brigade.topic".to_owned(), topic.to_owned())]))
            .build();
        let writer = ArrowWriter::try_new(output, archive_schema(), Some(properties));
        writer.map(Self).map_err(failed)
    }

    pub(super) fn write(&mut self, partition: u32, offsets: &[u64], messages: &Messages) -> Result<(), CliError> {
        let batch = record_batch(partition, offsets, messages).map_err(|error| failed(error.into()))?;
        self.0.write(&batch).map_err(failed)?;
        if self.0.in_progress_size() >= ROW_GROUP_BYTES {
            self.0.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Bytes written so far; what a row group holds is written when it ends.
    pub(super) fn written(&self) -> u64 {
        self.0.bytes_written() as u64
    }

    pub(super) fn finish(mut self) -> Result<u64, CliError> {
        self.0.finish().map_err(failed)?;
        Ok(self.written())
    }
}

fn failed(error: ParquetError) -> CliError {
    let error = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => return (*source).into(),
            Err(source) => ParquetError::External(source),
        },
        error => error,
    };
    CliError::Failed(format!("the Parquet file could not be written: {error}"))
}

fn record_batch(partition: u32, offsets: &[u64], messages: &Messages) -> Result<RecordBatch, arrow::error::ArrowError> {
    let (stored, schema) = (messages.record_batch(), archive_schema());
    let kinds = stored.column(3).as_primitive::<UInt8Type>().values();
    let kind = |kind: &u8| match ValueKind::from_u8(*kind) {
        ValueKind::Text => "text",
        ValueKind::Json => "json",
        ValueKind::Binary => "binary",
    };
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, arrow::error::ArrowError> {
        Ok(match field.name().as_str() {
            "partition" => Arc::new(Int32Array::from_value(partition.cast_signed(), offsets.len())),
            "offset" => Arc::new(Int64Array::from_iter_values(offsets.iter().map(|offset| offset.cast_signed()))),
            "kind" => Arc::new(StringArray::from_iter_values(kinds.iter().map(kind))),
            "headers" => headers(stored.column(4).as_map(), field.data_type())?,
            name => match stored.column_by_name(name) {
                Some(column) => cast(column, field.data_type())?,
                None => new_null_array(field.data_type(), offsets.len()),
            },
        })
    });
    let columns = columns.collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}

/// The same map with the names and ids of the archive's fields.
fn headers(map: &MapArray, wanted: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    let DataType::Map(entries, sorted) = wanted else { return cast(map, wanted) };
    let DataType::Struct(fields) = entries.data_type() else { return cast(map, wanted) };
    let (_, columns, nulls) = map.entries().clone().into_parts();
    let structs = arrow::array::StructArray::try_new(fields.clone(), columns, nulls)?;
    let map = MapArray::try_new(entries.clone(), map.offsets().clone(), structs, map.nulls().cloned(), *sorted)?;
    Ok(Arc::new(map))
}
