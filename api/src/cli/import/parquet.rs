//! Parquet: what `brigade export` and the archive write, or any file with a column for the value.

use std::{fs::File, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt8Array},
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
    ipc::writer::StreamWriter,
};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{BODY_BYTES, BODY_MESSAGES, Body, Source, Wanted};
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
        let schema = builder.schema().clone();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        for (name, required) in [(&wanted.value_column, true), (&wanted.key_column, wanted.key_column != "key")] {
            if required && !names.contains(&name.as_str()) {
                let message = format!("{what} has no column {name:?}");
                let hint = format!("name it with --value-column or --key-column; there are {}", names.join(", "));
                return Err(CliError::Input { message, hint });
            }
        }
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| refuse(error.to_string()))?;
        Ok(Self { reader, what, wanted, row_bytes: length as f64 / rows as f64, rest: None })
    }

    /// The next rows, and about the bytes of each of them.
    fn read(&mut self) -> Result<Option<(RecordBatch, usize)>, CliError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let batch = self.reader.next().transpose().map_err(|error| CliError::Input {
            message: format!("{} cannot be read any further: {error}", self.what),
            hint: "it is damaged, or compressed otherwise than with Zstandard, Snappy, gzip or LZ4".to_owned(),
        })?;
        Ok(batch.map(|batch| {
            let each = batch.get_array_memory_size() / batch.num_rows().max(1);
            (batch, each.max(1))
        }))
    }

    /// The columns as a publish takes them.
    fn columns(&self, batch: &RecordBatch) -> Result<RecordBatch, CliError> {
        // A time without a zone is taken for UTC; the name would need the database of zones.
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        let column = |name: &str| batch.column_by_name(name);
        if let Some(value) = column(&self.wanted.value_column) {
            columns.push(("value", self.plain("value", value)?));
        }
        if let Some(key) = column(&self.wanted.key_column) {
            columns.push(("key", self.plain("key", key)?));
        }
        for name in ["timestamp", "deliver_at", "expires_at"] {
            if let Some(times) = column(name) {
                let wanted = if times.data_type().is_integer() { DataType::Int64 } else { time.clone() };
                columns.push((name, self.cast(name, times, &wanted)?));
            }
        }
        if let Some(kinds) = column("kind") {
            columns.push(("kind", self.kinds(kinds)?));
        }
        if let Some(headers) = column("headers") {
            columns.push(("headers", headers.clone()));
        }
        if let Some(groups) = column("group") {
            columns.push(("group", self.cast("group", groups, &DataType::Utf8)?));
        }
        if let Some(priorities) = column("priority") {
            columns.push(("priority", self.cast("priority", priorities, &DataType::Int32)?));
        }
        if let Some(partitions) = column("partition").filter(|_| self.wanted.keep_partitions) {
            columns.push(("partition", self.cast("partition", partitions, &DataType::Int64)?));
        }
        let fields: Vec<_> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| self.refuse("rows", &error))
    }

    /// The rows that have not expired.
    fn live(&self, batch: RecordBatch) -> Result<RecordBatch, CliError> {
        let Some(expires) = batch.column_by_name("expires_at") else { return Ok(batch) };
        let times = self.cast("expires_at", expires, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let live: BooleanArray =
            times.iter().map(|time| Some(time.is_none_or(|time| time >= self.wanted.expired_ms))).collect();
        if live.true_count() == batch.num_rows() {
            return Ok(batch);
        }
        filter_record_batch(&batch, &live).map_err(|error| self.refuse("expires_at", &error))
    }

    /// Text and bytes as they are; anything else as its text.
    fn plain(&self, name: &str, array: &ArrayRef) -> Result<ArrayRef, CliError> {
        match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Ok(array.clone()),
            DataType::BinaryView | DataType::FixedSizeBinary(_) => self.cast(name, array, &DataType::Binary),
            _ => self.cast(name, array, &DataType::Utf8),
        }
    }

    fn kinds(&self, array: &ArrayRef) -> Result<ArrayRef, CliError> {
        if array.data_type().is_integer() {
            return self.cast("kind", array, &DataType::UInt8);
        }
        let texts = self.cast("kind", array, &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        let number = |text: Option<&str>| match text {
            Some("text") => Some(0),
            Some("json") => Some(1),
            Some("binary") => Some(2),
            _ => None,
        };
        Ok(Arc::new(texts.iter().map(number).collect::<UInt8Array>()))
    }

    fn cast(&self, name: &str, array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, CliError> {
        if array.data_type() == wanted {
            return Ok(array.clone());
        }
        let cast = cast(array, wanted).map_err(|error| self.refuse(name, &error))?;
        if cast.null_count() > array.null_count() {
            return Err(self.refuse(name, &format!("some of it is no {wanted}")));
        }
        Ok(cast)
    }

    fn refuse(&self, name: &str, why: &dyn std::fmt::Display) -> CliError {
        CliError::Input {
            message: format!("column {name} of {} cannot be imported: {why}", self.what),
            hint: "brigade import --help lists the columns".to_owned(),
        }
    }
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
            let part = self.live(self.columns(&batch.slice(0, room))?)?;
            expired += room - part.num_rows();
            parts.push(part);
        }
        let Some(first) = parts.first() else { return Ok(None) };
        let encode = || {
            let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
            parts.iter().try_for_each(|part| writer.write(part))?;
            writer.into_inner()
        };
        let body = encode().map_err(|error| self.refuse("rows", &error))?;
        let payload = Payload { content_type: ContentType::Arrow, bytes: body.into() };
        let input_bytes = (rows as f64 * self.row_bytes) as u64;
        Ok(Some(Body { payload, messages: (rows - expired) as u64, expired: expired as u64, input_bytes }))
    }
}
