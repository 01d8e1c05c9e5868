//! Messages out of the blocks of a file.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, MapArray, RecordBatch, StructArray, UInt8Array},
    buffer::Buffer,
    datatypes::{DataType, Int32Type, Int64Type},
};
use bytes::Bytes;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy, RowSelector},
    },
    basic::Encoding,
};

use super::{
    ArchiveError, Block, Footer,
    blocks::{dictionary_range, overlapping, page_range, used_columns},
    error::guarded,
    fetched::Fetched,
    pages::{self, Expected},
    schema::{descriptor, leaf},
};
use crate::{
    batch::{AttributeSet, BatchError, Messages, ValueKind, batch_schema_with},
    ids::Offset,
    limits::MAX_MESSAGE_BYTES,
};

/// Largest page that is unpacked: one message of the largest size more than a page has, with room for larger pages than
/// are written now.
const MAX_PAGE_BYTES: usize = 2 * MAX_MESSAGE_BYTES + (16 << 20);

/// Messages of an archive file with their offsets.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The messages.
    pub messages: Messages,
    /// Their offsets, ascending, as many as there are messages.
    pub offsets: Vec<u64>,
}

impl Rows {
    /// Row of the first message at this offset or behind it; the number of rows when there is none.
    pub fn row_at(&self, offset: Offset) -> usize {
        self.offsets.partition_point(|found| *found < offset.0)
    }

    /// The rows in parts without gaps, each with the offset of its first message.
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, Offset)> + '_ {
        let mut begin = 0;
        std::iter::from_fn(move || {
            let (first, last) = (*self.offsets.get(begin)?, *self.offsets.last()?);
            // Offsets rise, so that row and offset are apart by the same up to the first gap, and further behind it.
            let rest = &self.offsets[begin..];
            let rows = if last - first + 1 == rest.len() as u64 {
                rest.len()
            } else {
                let dense = |row: usize| rest[row] - first == row as u64;
                let (mut low, mut high) = (1, rest.len());
                while low < high {
                    let middle = low + (high - low) / 2;
                    if dense(middle) { low = middle + 1 } else { high = middle }
                }
                low
            };
            begin += rows;
            Some((begin - rows..begin, Offset(first)))
        })
    }

    /// Bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        self.messages.memory() + 8 * self.offsets.capacity()
    }
}

impl Footer {
    /// Decodes a block from what was read of the file; [`Self::ranges`] says what that must be. Panics when there is no
    /// such block.
    ///
    /// # Errors
    /// When bytes are missing, or are not those that were written.
    pub fn decode_block(&self, block: usize, fetched: &[(Range<u64>, Bytes)]) -> Result<Rows, ArchiveError> {
        let columns = used_columns(self.metadata().row_group(self.blocks()[block].row_group)).collect();
        to_rows(&self.decode_columns(block, columns, fetched)?, &self.blocks()[block])
    }

    /// Decodes some columns of a block.
    pub(super) fn decode_columns(
        &self,
        block: usize,
        columns: Vec<usize>,
        fetched: &[(Range<u64>, Bytes)],
    ) -> Result<RecordBatch, ArchiveError> {
        let block = &self.blocks()[block];
        let fetched = Fetched::new(self.file_bytes(), fetched);
        let group = self.metadata().row_group(block.row_group);
        for column in &columns {
            self.check_pages(&fetched, block, *column)?;
        }
        guarded(|| {
            let rows = &block.rows;
            let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(fetched, self.reader().clone())
                .with_row_groups(vec![block.row_group])
                .with_projection(ProjectionMask::leaves(&descriptor(), columns))
                .with_batch_size(rows.len());
            if rows.len() as i64 != group.num_rows() {
                let selection = vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())];
                reader = reader.with_row_selection(RowSelection::from(selection));
                // Another one would want pages that were not read.
                reader = reader.with_row_selection_policy(RowSelectionPolicy::Selectors);
            }
            let batch = reader.build()?.next().transpose().map_err(BatchError::from)?;
            let batch = batch.filter(|batch| batch.num_rows() == rows.len());
            batch.ok_or_else(|| ArchiveError::damaged("a block has other rows than the footer says"))
        })
    }

    /// Checks every byte of the pages of a column that a block needs.
    fn check_pages(&self, fetched: &Fetched, block: &Block, column: usize) -> Result<(), ArchiveError> {
        let lost = || ArchiveError::damaged("a column has no index");
        let (chunk, pages) = self.pages(block.row_group, column).ok_or_else(lost)?;
        let number = |encoding: Encoding| encoding as u32;
        let encodings = match column {
            leaf::OFFSET | leaf::TIMESTAMP => [number(Encoding::DELTA_BINARY_PACKED); 2],
            leaf::VALUE => [number(Encoding::DELTA_LENGTH_BYTE_ARRAY); 2],
            // A dictionary that grows too large is left behind.
            _ => [number(Encoding::RLE_DICTIONARY), number(Encoding::PLAIN)],
        };
        if let Some(dictionary) = dictionary_range(chunk) {
            pages::check(&fetched.get(dictionary)?, Expected::Dictionary, MAX_PAGE_BYTES)?;
        }
        let rows = self.metadata().row_group(block.row_group).num_rows();
        let wanted = overlapping(pages, &block.rows);
        let behind = wanted.last().map(|last| last.first_row_index);
        let ends = pages.iter().map(|page| page.first_row_index).find(|first| Some(*first) > behind).unwrap_or(rows);
        let ends = wanted.iter().skip(1).map(|page| page.first_row_index).chain([ends]);
        let is_list = [leaf::HEADER_NAME, leaf::HEADER_VALUE].contains(&column);
        for (page, end) in wanted.iter().zip(ends) {
            // An empty list counts as a value.
            let rows = (end - page.first_row_index) as u64;
            let values = rows..=if is_list { u64::MAX } else { rows };
            pages::check(&fetched.get(page_range(page))?, Expected::Data { values, encodings }, MAX_PAGE_BYTES)?;
        }
        Ok(())
    }
}

/// From the columns of the archive to those of a batch.
fn to_rows(batch: &RecordBatch, block: &Block) -> Result<Rows, ArchiveError> {
    let column = |name: &str| {
        let missing = || ArchiveError::damaged("a column is missing");
        batch.column_by_name(name).ok_or_else(missing)
    };
    let offsets = offsets(column("offset")?, block)?;
    let kinds = column("kind")?.as_string::<i32>();
    let kinds: Result<UInt8Array, ArchiveError> = kinds.iter().map(|name| kind(name).map(|kind| kind as u8)).collect();
    let mut columns: Vec<ArrayRef> = vec![
        column("timestamp")?.clone(),
        exact(column("key")?),
        exact(column("value")?),
        Arc::new(kinds?),
        Arc::new(headers(column("headers")?.as_map())?),
    ];
    let names = ["group", "priority", "deliver_at", "expires_at"];
    let sets = [AttributeSet::GROUP, AttributeSet::PRIORITY, AttributeSet::DELAY, AttributeSet::EXPIRY];
    let mut attributes = AttributeSet::default();
    for (name, set) in names.into_iter().zip(sets) {
        let Some(array) = batch.column_by_name(name).filter(|array| array.null_count() < array.len()) else { continue };
        attributes = attributes.union(set);
        columns.push(if name == "priority" { Arc::new(priorities(array)?) } else { array.clone() });
    }
    let batch = RecordBatch::try_new(batch_schema_with(attributes), columns).map_err(BatchError::from)?;
    Ok(Rows { messages: Messages::new(batch)?, offsets })
}

/// The same bytes in no more memory than they need. The library doubles its room when it runs out, and blocks are kept.
fn exact(column: &ArrayRef) -> ArrayRef {
    let array = column.as_binary::<i32>();
    let values = array.values();
    if values.capacity() <= values.len() + values.len() / 8 {
        return column.clone();
    }
    let values = Buffer::from(values.as_slice());
    Arc::new(BinaryArray::new(array.offsets().clone(), values, array.nulls().cloned()))
}

/// Offsets of the messages of a block.
pub(super) fn offsets(column: &ArrayRef, block: &Block) -> Result<Vec<u64>, ArchiveError> {
    let offsets: Vec<u64> = column.as_primitive::<Int64Type>().values().iter().map(|at| *at as u64).collect();
    let inside = offsets.first() == Some(&block.first.0)
        && offsets.last().and_then(|last| last.checked_add(1)) == Some(block.end.0);
    if !inside || !offsets.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(ArchiveError::damaged("a block has other offsets than the footer says"));
    }
    Ok(offsets)
}

fn kind(name: Option<&str>) -> Result<ValueKind, ArchiveError> {
    match name {
        Some("text") => Ok(ValueKind::Text),
        Some("json") => Ok(ValueKind::Json),
        Some("binary") => Ok(ValueKind::Binary),
        _ => Err(ArchiveError::damaged("a message has an unknown kind")),
    }
}

/// The same map with the field names of a batch.
fn headers(map: &MapArray) -> Result<MapArray, ArchiveError> {
    let schema = batch_schema_with(AttributeSet::default());
    let DataType::Map(entries, _) = schema.field(4).data_type() else {
        return Err(ArchiveError::damaged("headers are no map"));
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArchiveError::damaged("headers are no map of pairs"));
    };
    let pairs: Vec<ArrayRef> = vec![map.keys().clone(), map.values().clone()];
    let pairs = StructArray::try_new(fields.clone(), pairs, None).map_err(BatchError::from)?;
    MapArray::try_new(entries.clone(), map.offsets().clone(), pairs, None, false)
        .map_err(|error| BatchError::from(error).into())
}

fn priorities(array: &ArrayRef) -> Result<UInt8Array, ArchiveError> {
    let narrow = |priority| u8::try_from(priority).map_err(|_| arrow::error::ArrowError::CastError("priority".into()));
    let narrowed = array.as_primitive::<Int32Type>().try_unary(narrow);
    narrowed.map_err(|_| ArchiveError::damaged("a message has a priority that there is not"))
}
