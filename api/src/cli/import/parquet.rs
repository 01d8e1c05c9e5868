//! Parquet: what `brigade export` and the archive write, or any file with a column for the value.

use std::{fs::File, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema, SchemaRef},
    ipc::writer::StreamWriter,
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::Compression,
    file::metadata::ParquetMetaData,
};

use super::{
    BODY_BYTES, BODY_MESSAGES, Body, Source, Wanted,
    columns::{self, OPTIONAL},
};
use crate::{
    cli::CliError,
    client::{ContentType, Payload},
};

/// Rows that are decoded together.
const BATCH_ROWS: usize = 4_096;

/// The rows of a file, some at a time.
pub(super) struct Batches {
    reader: ParquetRecordBatchReader,
    what: String,
    wanted: Wanted,
    /// Bytes of the file for each row.
    row_bytes: f64,
    /// Rows that were read and not sent, and the bytes of each.
    rest: Option<(RecordBatch, usize)>,
}

impl Batches {
    pub(super) fn new(file: File, what: String, wanted: Wanted, length: u64) -> Result<Self, CliError> {
        let refuse = |why: String| CliError::Input {
            message: format!("{what} cannot be read as Parquet: {why}"),
            hint: "is the file whole, and is its format the one that --format says?".to_owned(),
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| refuse(error.to_string()))?;
        let rows = builder.metadata().file_metadata().num_rows().max(1);
        let chosen = chosen(builder.schema(), &what, &wanted)?;
        check_codecs(builder.metadata(), &chosen, &what)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), chosen);
        let builder = builder.with_batch_size(BATCH_ROWS).with_projection(mask);
        let reader = builder.build().map_err(|error| refuse(error.to_string()))?;
        Ok(Self { reader, what, wanted, row_bytes: length as f64 / rows as f64, rest: None })
    }

    /// The next rows, and about the bytes of each of them.
    fn read(&mut self) -> Result<Option<(RecordBatch, usize)>, CliError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let batch = self.reader.next().transpose().map_err(|error| CliError::Input {
            message: format!("{} cannot be read any further: {error}", self.what),
            hint: "it is damaged".to_owned(),
        })?;
        Ok(batch.map(|batch| {
            let each = batch.get_array_memory_size() / batch.num_rows().max(1);
            (batch, each.max(1))
        }))
    }

    /// Rows as a publish takes them, without those that have expired.
    fn converted(&self, batch: &RecordBatch) -> Result<RecordBatch, CliError> {
        let names = [("value", self.wanted.value_column.as_str()), ("key", self.wanted.key_column.as_str())];
        let others = OPTIONAL.iter().filter(|name| names.iter().all(|(_, named)| named != *name));
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (name, named) in names.into_iter().chain(others.map(|name| (*name, *name))) {
            if let Some(column) = batch.column_by_name(named) {
                columns.push((name, columns::converted(name, column).map_err(|why| self.refuse(named, &why))?));
            }
        }
        let fields: Vec<_> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        let live = batch.and_then(|batch| columns::live(batch, self.wanted.expired_ms));
        live.map_err(|error| self.refuse("value", &error.to_string()))
    }

    fn refuse(&self, name: &str, why: &str) -> CliError {
        CliError::Input {
            message: format!("column {name} of {} cannot be imported: {why}", self.what),
            hint: "brigade import --help lists the columns and their types".to_owned(),
        }
    }
}

/// The columns that are read, by their numbers: others may be of any type.
fn chosen(schema: &SchemaRef, what: &str, wanted: &Wanted) -> Result<Vec<usize>, CliError> {
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for (name, required) in [(&wanted.value_column, true), (&wanted.key_column, wanted.key_column != "key")] {
        if required && !names.contains(&name.as_str()) {
            let message = format!("{what} has no column {name:?}");
            let hint = format!("name it with --value-column or --key-column; there are {}", names.join(", "));
            return Err(CliError::Input { message, hint });
        }
    }
    let is_wanted = |name: &str| {
        let optional = OPTIONAL.contains(&name) && (name != "partition" || wanted.keep_partitions);
        name == wanted.value_column || name == wanted.key_column || optional
    };
    Ok(names.iter().enumerate().filter(|(_, name)| is_wanted(name)).map(|(number, _)| number).collect())
}

/// Refuses a file of which a chosen column is compressed in a way that cannot be read.
fn check_codecs(metadata: &ParquetMetaData, chosen: &[usize], what: &str) -> Result<(), CliError> {
    let schema = metadata.file_metadata().schema_descr();
    for column in metadata.row_groups().iter().flat_map(|group| group.columns().iter().enumerate()) {
        let (number, chunk) = column;
        let name = match chunk.compression() {
            Compression::BROTLI(_) => "Brotli",
            Compression::LZO => "LZO",
            _ => continue,
        };
        if chosen.contains(&schema.get_column_root_idx(number)) {
            let message = format!("column {} of {what} is compressed with {name}", chunk.column_path());
            let hint = "write it anew: uncompressed, Snappy, gzip, LZ4 and Zstandard can be read".to_owned();
            return Err(CliError::Input { message, hint });
        }
    }
    Ok(())
}

impl Source for Batches {
    fn skip(&mut self, messages: u64) -> Result<u64, CliError> {
        let mut skipped = 0;
        while skipped < messages {
            let Some((batch, each)) = self.read()? else { break };
            let rows = batch.num_rows().min((messages - skipped) as usize);
            if rows < batch.num_rows() {
                self.rest = Some((batch.slice(rows, batch.num_rows() - rows), each));
            }
            skipped += rows as u64;
        }
        Ok(skipped)
    }

    fn next(&mut self) -> Result<Option<Body>, CliError> {
        let (mut parts, mut rows, mut bytes, mut expired) = (Vec::new(), 0, 0, 0);
        while rows < BODY_MESSAGES && bytes < BODY_BYTES {
            let Some((batch, each)) = self.read()? else { break };
            let room = ((BODY_BYTES - bytes) / each).clamp(1, BODY_MESSAGES - rows).min(batch.num_rows());
            if room < batch.num_rows() {
                self.rest = Some((batch.slice(room, batch.num_rows() - room), each));
            }
            (rows, bytes) = (rows + room, bytes + room * each);
            let part = self.converted(&batch.slice(0, room))?;
            expired += room - part.num_rows();
            parts.push(part);
        }
        let Some(first) = parts.first() else { return Ok(None) };
        let encode = || {
            let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
            parts.iter().try_for_each(|part| writer.write(part))?;
            writer.into_inner()
        };
        let body = encode().map_err(|error| self.refuse("value", &error.to_string()))?;
        let payload = Payload { content_type: ContentType::Arrow, bytes: body.into() };
        let input_bytes = (rows as f64 * self.row_bytes) as u64;
        Ok(Some(Body { payload, messages: (rows - expired) as u64, expired: expired as u64, input_bytes }))
    }
}
