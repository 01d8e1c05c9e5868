//! Writes an archive file, row group by row group.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array, new_null_array},
    compute::take_record_batch,
    datatypes::{Int32Type, UInt8Type},
};
use bytes::Bytes;
use parquet::{
    arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};

use super::{
    ArchiveError, SetHash,
    head::{self, FileHead, Totals, Written},
    output::Output,
    pages::Checksums,
    schema::{archive_schema, descriptor, leaf},
    seal,
};
use crate::{
    batch::{Messages, ValueKind},
    ids::Offset,
};

/// How archive files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSettings {
    /// Level of Zstandard, 1 to 22.
    pub compression_level: i32,
    /// Bytes of keys, values and headers after which a row group ends.
    pub row_group_bytes: usize,
    /// Messages after which a row group ends.
    pub row_group_rows: usize,
    /// Bytes after which a page ends, before compression.
    pub page_bytes: usize,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self { compression_level: 1, row_group_bytes: 16 << 20, row_group_rows: 256 << 10, page_bytes: 256 << 10 }
    }
}

/// Rows of a page of timestamps: how exactly a time is found.
const TIMESTAMP_PAGE_ROWS: usize = 2_048;

impl WriterSettings {
    pub(super) fn properties(&self) -> Result<WriterPropertiesPtr, ArchiveError> {
        let path = |name: &str| ColumnPath::from(name);
        let by_offset = SortingColumn { column_idx: leaf::OFFSET as i32, descending: false, nulls_first: false };
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.compression_level)?))
            .set_data_page_size_limit(self.page_bytes)
            .set_sorting_columns(Some(vec![by_offset]))
            .set_created_by(concat!("brigade ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_column_data_page_row_count_limit(path("timestamp"), TIMESTAMP_PAGE_ROWS)
            .set_column_statistics_enabled(path("value"), EnabledStatistics::None)
            .set_column_bloom_filter_enabled(path("key"), true)
            .set_column_bloom_filter_fpp(path("key"), 0.01)
            // The filter shrinks to the keys that are there.
            .set_column_bloom_filter_max_ndv(path("key"), self.row_group_rows as u64);
        for (name, encoding) in [
            ("offset", Encoding::DELTA_BINARY_PACKED),
            ("timestamp", Encoding::DELTA_BINARY_PACKED),
            ("value", VALUE_ENCODING),
        ] {
            properties = properties.set_column_dictionary_enabled(path(name), false);
            properties = properties.set_column_encoding(path(name), encoding);
        }
        Ok(Arc::new(properties.build()))
    }
}

/// Values lie end to end behind their lengths: that compresses better, and is read with one copy.
const VALUE_ENCODING: Encoding = Encoding::DELTA_LENGTH_BYTE_ARRAY;

/// A row group that is being written.
#[derive(Default)]
struct Group {
    writers: Vec<ArrowColumnWriter>,
    rows: usize,
    payload_bytes: usize,
    /// Offset of each row.
    offsets: Vec<u64>,
}

/// Writes an archive file. Its messages come in order of their offsets; what is ready of it can be taken from time to time.
pub struct FileWriter {
    head: FileHead,
    settings: WriterSettings,
    file: SerializedFileWriter<Output>,
    factory: ArrowRowGroupWriterFactory,
    checksums: Checksums,
    group: Group,
    totals: Totals,
    /// The lowest offset that may come next.
    next: Offset,
    /// First offsets of pages, see [`seal`].
    gaps: Vec<KeyValue>,
    scratch: Vec<u8>,
}

impl FileWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// When the settings are none that Parquet takes.
    pub fn new(head: FileHead, settings: &WriterSettings) -> Result<Self, ArchiveError> {
        let file =
            SerializedFileWriter::new(Output::default(), descriptor().root_schema_ptr(), settings.properties()?)?;
        let checksums = Checksums::default();
        let factory = ArrowRowGroupWriterFactory::new(&file, archive_schema());
        Ok(Self {
            next: head.first,
            head,
            settings: settings.clone(),
            file,
            factory: factory.with_page_store_factory(Arc::new(checksums.clone())),
            checksums,
            group: Group::default(),
            totals: Totals::NONE,
            gaps: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Adds these rows of `messages`, the first of them at offset `base`, each other one offset further.
    ///
    /// # Errors
    /// When rows are not there, or their offsets do not go into the file behind those that are in it.
    pub fn push(&mut self, messages: &Messages, rows: Range<usize>, base: Offset) -> Result<(), ArchiveError> {
        if rows.start > rows.end || rows.end > messages.rows() {
            return Err(ArchiveError::Misplaced(format!("rows {} to {} of {}", rows.start, rows.end, messages.rows())));
        }
        let end = base.0.checked_add(rows.len() as u64);
        let end = end.ok_or_else(|| ArchiveError::Misplaced(format!("offsets from {base} on")))?;
        let offsets: Vec<u64> = (base.0..end).collect();
        let batch = messages.record_batch().slice(rows.start, rows.len());
        self.push_batch(&Messages::new(batch)?, &offsets)
    }

    /// Adds rows of `messages`, each at its offset; both ascend.
    ///
    /// # Errors
    /// Like [`Self::push`].
    pub fn push_rows(&mut self, messages: &Messages, rows: &[usize], offsets: &[Offset]) -> Result<(), ArchiveError> {
        if rows.len() != offsets.len() || rows.iter().any(|row| *row >= messages.rows()) {
            return Err(ArchiveError::Misplaced("rows that are not there".to_owned()));
        }
        let indices: UInt64Array = rows.iter().map(|row| *row as u64).collect();
        let batch = take_record_batch(messages.record_batch(), &indices).map_err(crate::batch::BatchError::from)?;
        let offsets: Vec<u64> = offsets.iter().map(|offset| offset.0).collect();
        self.push_batch(&Messages::new(batch)?, &offsets)
    }

    fn push_batch(&mut self, messages: &Messages, offsets: &[u64]) -> Result<(), ArchiveError> {
        let ascending = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        if !ascending || *first < self.next.0 || *last >= self.head.end.0 || i64::try_from(*last).is_err() {
            let FileHead { end, .. } = self.head;
            return Err(ArchiveError::Misplaced(format!("offsets {first} to {last} where {} to {end} go", self.next)));
        }
        let mut begin = 0;
        for (row, offset) in offsets.iter().enumerate() {
            let bytes = self.count(messages, row, Offset(*offset));
            self.group.payload_bytes += bytes;
            self.group.rows += 1;
            if self.group.payload_bytes >= self.settings.row_group_bytes
                || self.group.rows >= self.settings.row_group_rows
            {
                self.encode(messages, begin..row + 1, offsets)?;
                self.flush()?;
                begin = row + 1;
            }
        }
        self.encode(messages, begin..offsets.len(), offsets)?;
        self.next = Offset(last + 1);
        Ok(())
    }

    /// Adds a message to the totals; returns its bytes.
    fn count(&mut self, messages: &Messages, row: usize, offset: Offset) -> usize {
        let headers = messages.headers(row).map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let payload = messages.key(row).map_or(0, <[u8]>::len) + messages.value(row).map_or(0, <[u8]>::len) + headers;
        let timestamp_ms = messages.timestamps()[row];
        let tombstone = messages.key(row).is_some() && messages.value(row).is_none();
        let attributes = messages.attributes(row).set();
        self.totals = self.totals.and(Totals {
            rows: 1,
            payload_bytes: payload as u64,
            set_hash: SetHash::of(messages, row, self.head.partition, offset, &mut self.scratch),
            min_timestamp_ms: timestamp_ms,
            max_timestamp_ms: timestamp_ms,
            oldest_tombstone_ms: tombstone.then_some(timestamp_ms),
            attributes,
        });
        payload
    }

    /// Encodes rows into the row group in progress.
    fn encode(&mut self, messages: &Messages, rows: Range<usize>, offsets: &[u64]) -> Result<(), ArchiveError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.group.writers.is_empty() {
            self.group.writers = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        let offsets = &offsets[rows.clone()];
        self.group.offsets.extend_from_slice(offsets);
        let batch = messages.record_batch().slice(rows.start, rows.len());
        let columns = columns(&batch, self.head.partition.0 as i32, offsets);
        let mut writers = self.group.writers.iter_mut();
        for (field, column) in archive_schema().fields().iter().zip(&columns) {
            for leaf in compute_leaves(field, column)? {
                let writer = writers.next().expect("there is a writer for each leaf of the schema");
                writer.write(&leaf)?;
            }
        }
        Ok(())
    }

    /// Bytes of memory held: that of the row group in progress and output that was not taken.
    pub fn memory(&self) -> usize {
        let group: usize = self.group.writers.iter().map(ArrowColumnWriter::memory_size).sum();
        group + 8 * self.group.offsets.capacity() + self.file.inner().memory() + self.scratch.capacity()
    }

    /// Messages so far.
    pub fn rows(&self) -> u64 {
        self.totals.rows
    }

    /// Ends the row group in progress.
    ///
    /// # Errors
    /// When Parquet fails.
    pub fn flush(&mut self) -> Result<(), ArchiveError> {
        let group = std::mem::take(&mut self.group);
        if group.writers.is_empty() {
            return Ok(());
        }
        let ordinal = self.file.flushed_row_groups().len();
        let mut row_group = self.file.next_row_group()?;
        for (column, writer) in group.writers.into_iter().enumerate() {
            let (chunk, close) = self.checksums.take(column, writer.close()?.close())?;
            if let Some(pages) = close.offset_index.as_ref().filter(|_| column == leaf::VALUE) {
                self.gaps.extend(seal::page_offsets(ordinal, &group.offsets, pages.page_locations()));
            }
            row_group.append_column(&chunk, close)?;
        }
        row_group.close()?;
        Ok(())
    }

    /// Output so far that was not taken before.
    pub fn take(&mut self) -> Bytes {
        seal::take(&mut self.file)
    }

    /// Ends the file; returns the rest of the output.
    ///
    /// # Errors
    /// When there is no message in it, or Parquet fails.
    pub fn finish(mut self) -> Result<(Bytes, Written), ArchiveError> {
        if self.totals.rows == 0 {
            return Err(ArchiveError::Misplaced("nothing: a file has at least one message".to_owned()));
        }
        self.flush()?;
        let mut metadata = head::metadata(&self.head, &self.totals);
        metadata.append(&mut self.gaps);
        let (rest, bytes, crc) = seal::finish(self.file, metadata)?;
        Ok((rest, Written::new(self.totals, bytes, crc)))
    }
}

/// The columns of the archive for these messages.
fn columns(batch: &RecordBatch, partition: i32, offsets: &[u64]) -> Vec<ArrayRef> {
    let rows = batch.num_rows();
    let kinds = batch.column(3).as_primitive::<UInt8Type>();
    let kinds = kinds.values().iter().map(|kind| kind_name(ValueKind::from_u8(*kind)));
    let attribute = |name: &str| match batch.column_by_name(name) {
        Some(column) if name == "priority" => {
            let priorities = column.as_primitive::<UInt8Type>();
            Arc::new(priorities.unary::<_, Int32Type>(i32::from))
        }
        Some(column) => column.clone(),
        None => {
            let schema = archive_schema();
            let field = schema.column_with_name(name).map(|(_, field)| field.data_type().clone());
            new_null_array(&field.expect("the archive has every attribute"), rows)
        }
    };
    vec![
        Arc::new(Int32Array::from(vec![partition; rows])),
        // Checked where they came in.
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(|offset| *offset as i64))),
        batch.column(0).clone(),
        batch.column(1).clone(),
        Arc::new(StringArray::from_iter_values(kinds)),
        batch.column(4).clone(),
        attribute("group"),
        attribute("priority"),
        attribute("deliver_at"),
        attribute("expires_at"),
        batch.column(2).clone(),
    ]
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Text => "text",
        ValueKind::Json => "json",
        ValueKind::Binary => "binary",
    }
}
