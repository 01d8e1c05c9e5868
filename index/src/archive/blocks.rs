//! Blocks: the parts of a file that are read at once.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use parquet::file::{
    metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData},
    page_index::{
        column_index::ColumnIndexMetaData,
        offset_index::{OffsetIndexMetaData, PageLocation},
    },
    statistics::Statistics,
};

use super::{
    ArchiveError, Footer,
    head::{FileHead, Totals},
    schema::leaf,
    seal,
};
use crate::ids::Offset;

/// A block ends with the page of values with which it has as many bytes of them.
const BLOCK_BYTES: i64 = 4 << 20;

/// Ranges that are not further apart are read as one: a request costs more than so many bytes.
const MAX_GAP: u64 = 32 << 10;

/// Most rows of a row group that is read: 64 times as many as are written.
const MAX_GROUP_ROWS: i64 = 16 << 20;

/// Consecutive messages of a file that are read at once, all of one row group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The row group that it is a part of.
    pub row_group: usize,
    /// Its rows, counted from the first of the row group.
    pub rows: Range<usize>,
    /// Offset of its first message.
    pub first: Offset,
    /// The offset after its last message.
    pub end: Offset,
    /// No timestamp in it is smaller, milliseconds since the Unix epoch.
    pub min_timestamp_ms: i64,
    /// No timestamp in it is larger, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// Bytes of its values.
    pub value_bytes: u64,
}

impl Footer {
    /// What must be read of the file for a block, ascending. Panics when there is no such block.
    pub fn ranges(&self, block: usize) -> Vec<Range<u64>> {
        let columns = used_columns(self.metadata().row_group(self.blocks()[block].row_group));
        self.column_ranges(block, columns)
    }

    /// Where all that is read for the blocks of a row group is. Panics when there is no such row group.
    pub fn group_range(&self, row_group: usize) -> Range<u64> {
        columns_range(self.metadata().row_group(row_group))
    }

    /// What must be read of the file for some columns of a block, which are given in their order.
    pub(super) fn column_ranges(&self, block: usize, columns: impl Iterator<Item = usize>) -> Vec<Range<u64>> {
        let block = &self.blocks()[block];
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let columns = columns.filter_map(|column| {
            let (chunk, pages) = self.pages(block.row_group, column)?;
            let pages = overlapping(pages, &block.rows);
            let data = page_range(pages.first()?).start..page_range(pages.last()?).end;
            Some((dictionary_range(chunk), data))
        });
        for range in columns.flat_map(|(dictionary, data)| dictionary.into_iter().chain([data])) {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(MAX_GAP) => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// A column of a row group and its pages.
    pub(super) fn pages(&self, row_group: usize, column: usize) -> Option<(&ColumnChunkMetaData, &[PageLocation])> {
        let index = self.metadata().page_index()?.offset_index(row_group, column)?;
        Some((self.metadata().row_group(row_group).column(column), index.page_locations()))
    }
}

/// Columns of a row group that messages are made of: all but the partition, and attributes that no message has.
pub(super) fn used_columns(group: &RowGroupMetaData) -> impl Iterator<Item = usize> + '_ {
    (leaf::OFFSET..leaf::COUNT).filter(|column| {
        let chunk = group.column(*column);
        let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
        !leaf::ATTRIBUTES.contains(column) || nulls.map(i64::try_from) != Some(Ok(chunk.num_values()))
    })
}

/// The pages that have some of these rows.
pub(super) fn overlapping<'a>(pages: &'a [PageLocation], rows: &Range<usize>) -> &'a [PageLocation] {
    let pages_before = pages.partition_point(|page| page.first_row_index <= rows.start as i64);
    let end = pages.partition_point(|page| page.first_row_index < rows.end as i64);
    pages.get(pages_before.saturating_sub(1)..end).unwrap_or_default()
}

/// Where a page is.
pub(super) fn page_range(page: &PageLocation) -> Range<u64> {
    page.offset as u64..page.offset as u64 + page.compressed_page_size as u64
}

/// Where the dictionary of a column is, if it has one.
pub(super) fn dictionary_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    Some(chunk.dictionary_page_offset()? as u64..chunk.data_page_offset() as u64)
}

/// The bytes of a row group: its columns, and the Bloom filter behind them.
pub(super) fn row_group_range(group: &RowGroupMetaData) -> Range<u64> {
    let columns = columns_range(group);
    let filter = filter_range(group.column(leaf::KEY));
    columns.start..filter.map_or(columns.end, |filter| filter.end)
}

fn columns_range(group: &RowGroupMetaData) -> Range<u64> {
    let (last, length) = group.column(leaf::VALUE).byte_range();
    group.column(0).byte_range().0..last + length
}

fn filter_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let at = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
    let length = u64::try_from(chunk.bloom_filter_length()?).ok()?;
    Some(at..at.checked_add(length)?)
}

fn damaged<T>(what: &str) -> Result<T, ArchiveError> {
    Err(ArchiveError::damaged(what))
}

/// Checks that columns and indices are where they can be, before the library makes room for what they say.
pub(super) fn check_index(metadata: &ParquetMetaData, footer: &Range<u64>, bytes: &Bytes) -> Result<(), ArchiveError> {
    let mut at = 4;
    for group in metadata.row_groups() {
        if group.num_columns() != leaf::COUNT || !(1..=MAX_GROUP_ROWS).contains(&group.num_rows()) {
            return damaged("a row group is larger than it can be, or has too few columns");
        }
        for chunk in group.columns() {
            let (start, length) = chunk.byte_range();
            if start != at || length == 0 || length > footer.start {
                return damaged("its columns do not lie end to end");
            }
            at = start + length;
            for index in [chunk.column_index_range(), chunk.offset_index_range()].into_iter().flatten() {
                if index.start < footer.start || index.end > footer.end {
                    return damaged("its page index is not in front of its footer");
                }
            }
            let index = chunk.offset_index_range().and_then(|index| {
                bytes.get((index.start - footer.start) as usize..(index.end - footer.start) as usize)
            });
            if !index.is_some_and(is_short_list) {
                return damaged("its page index has more pages than there is room for");
            }
        }
        if let Some(filter) = filter_range(group.column(leaf::KEY)) {
            if filter.start != at || filter.end > footer.start {
                return damaged("its Bloom filter is not behind its columns");
            }
            at = filter.end;
        }
    }
    if at == footer.start { Ok(()) } else { damaged("there is something else in it than row groups") }
}

/// Whether an offset index claims no more pages than it has bytes: a list of structs in field 1.
fn is_short_list(index: &[u8]) -> bool {
    let [0x19, list, rest @ ..] = index else { return false };
    let size = match list >> 4 {
        15 => {
            let digits = rest.iter().take(5).enumerate();
            let end = rest.iter().take(5).position(|byte| byte & 0x80 == 0);
            let Some(end) = end else { return false };
            digits.take(end + 1).map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at)).sum()
        }
        size => u64::from(size),
    };
    list & 0x0f == 0x0c && size <= index.len() as u64
}

/// Cuts the row groups into blocks; checks everything that reading them relies on.
pub(super) fn blocks(metadata: &ParquetMetaData, head: &FileHead, totals: &Totals) -> Result<Vec<Block>, ArchiveError> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut rows, mut next) = (0, head.first.0);
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let Some(index) = metadata.page_index() else { return damaged("it has no page index") };
        // Bounded by [`check_index`].
        let group_rows = group.num_rows() as usize;
        for (column, chunk) in group.columns().iter().enumerate() {
            let pages = index.offset_index(at, column).map_or(&[][..], |index| index.page_locations());
            if !tile(chunk, pages, group_rows) {
                return damaged("the pages of a column do not lie end to end");
            }
        }
        let (first, last) = match group.column(leaf::OFFSET).statistics() {
            Some(Statistics::Int64(statistics)) => (statistics.min_opt().copied(), statistics.max_opt().copied()),
            _ => (None, None),
        };
        let range = first.zip(last).and_then(|(a, b)| Some((u64::try_from(a).ok()?, u64::try_from(b).ok()?)));
        let Some((first, last)) = range.filter(|(first, last)| next <= *first && first <= last && *last < head.end.0)
        else {
            return damaged("the offsets of a row group are outside of the file's range");
        };
        rows += group_rows as u64;
        next = last + 1;
        let Some(values) = index.offset_index(at, leaf::VALUE) else { return damaged("it has no index of values") };
        let gaps = last - first + 1 != group_rows as u64;
        let offsets = if gaps {
            seal::read_page_offsets(metadata.file_metadata(), at, first)
        } else {
            Some(dense_offsets(values.page_locations(), first, last))
        };
        let offsets = offsets.unwrap_or_default();
        let ordered = offsets.len() == values.page_locations().len()
            && offsets.iter().all(|page| page.start() <= page.end())
            && offsets.windows(2).all(|pair| pair[0].end() < pair[1].start())
            && offsets.first().map(RangeInclusive::start) == Some(&first)
            && offsets.last().map(RangeInclusive::end) == Some(&last);
        if !ordered {
            return damaged("it does not say which offsets are in which page");
        }
        let times = Times::new(index.column_index(at, leaf::TIMESTAMP), index.offset_index(at, leaf::TIMESTAMP))?;
        cut(at, values, &offsets, group_rows, &times, &mut blocks);
    }
    if rows != totals.rows || rows == 0 {
        return damaged("it has another number of messages than it says");
    }
    Ok(blocks)
}

/// Offsets of the pages of a row group without gaps.
fn dense_offsets(pages: &[PageLocation], first: u64, last: u64) -> Vec<RangeInclusive<u64>> {
    let begin = |page: &PageLocation| first + page.first_row_index as u64;
    let ends = pages.iter().skip(1).map(|next| begin(next) - 1).chain([last]);
    pages.iter().zip(ends).map(|(page, end)| begin(page)..=end).collect()
}

/// Whether these pages make up the column, and have all rows.
fn tile(chunk: &ColumnChunkMetaData, pages: &[PageLocation], rows: usize) -> bool {
    let (start, length) = chunk.byte_range();
    let Ok(data) = u64::try_from(chunk.data_page_offset()) else { return false };
    let mut at = data;
    let mut row = 0;
    let in_order = pages.iter().enumerate().all(|(number, page)| {
        let rises = (number == 0 && page.first_row_index == 0) || (number > 0 && page.first_row_index > row);
        let place = page.offset == at as i64 && page.compressed_page_size > 0;
        row = page.first_row_index;
        at += u64::from(page.compressed_page_size.unsigned_abs());
        rises && place
    });
    let begins = data == start || data > start && chunk.dictionary_page_offset() == Some(start as i64);
    in_order && begins && at == start + length && !pages.is_empty() && row < rows as i64
}

/// Cuts a row group, whose pages of values have these offsets.
fn cut(
    row_group: usize,
    values: &OffsetIndexMetaData,
    offsets: &[RangeInclusive<u64>],
    rows: usize,
    times: &Times<'_>,
    blocks: &mut Vec<Block>,
) {
    let pages = values.page_locations();
    let bytes = values.unencoded_byte_array_data_bytes();
    let (mut begin, mut value_bytes) = (0, 0_i64);
    for page in 0..pages.len() {
        let of_page = bytes.and_then(|bytes| bytes.get(page).copied()).unwrap_or_default();
        value_bytes = value_bytes.saturating_add(of_page.max(0));
        let is_last = page + 1 == pages.len();
        if !is_last && value_bytes < BLOCK_BYTES {
            continue;
        }
        let until = pages.get(page + 1).map_or(rows, |next| next.first_row_index as usize);
        let rows = pages[begin].first_row_index as usize..until;
        let (min_timestamp_ms, max_timestamp_ms) = times.range(&rows);
        blocks.push(Block {
            row_group,
            rows,
            first: Offset(*offsets[begin].start()),
            end: Offset(offsets[page].end() + 1),
            min_timestamp_ms,
            max_timestamp_ms,
            value_bytes: value_bytes as u64,
        });
        (begin, value_bytes) = (page + 1, 0);
    }
}

/// Pages of timestamps of a row group, with the least and the largest timestamp of each.
struct Times<'a> {
    pages: &'a [PageLocation],
    ranges: Vec<(i64, i64)>,
}

impl<'a> Times<'a> {
    fn new(index: Option<&ColumnIndexMetaData>, pages: Option<&'a OffsetIndexMetaData>) -> Result<Self, ArchiveError> {
        let (Some(ColumnIndexMetaData::INT64(index)), Some(pages)) = (index, pages) else {
            return damaged("it has no index of timestamps");
        };
        let pages = pages.page_locations();
        let ranges = index.min_values_iter().zip(index.max_values_iter());
        let ranges: Option<Vec<_>> = ranges.map(|(min, max)| Some((*min?, *max?))).collect();
        match ranges.filter(|ranges| ranges.len() == pages.len()) {
            Some(ranges) => Ok(Self { pages, ranges }),
            None => damaged("its index of timestamps has other pages than there are"),
        }
    }

    fn range(&self, rows: &Range<usize>) -> (i64, i64) {
        let first = overlapping(self.pages, rows).first().map_or(0, |page| page.first_row_index);
        let begin = self.pages.partition_point(|page| page.first_row_index < first);
        let end = self.pages.partition_point(|page| page.first_row_index < rows.end as i64);
        let ranges = self.ranges.get(begin..end).unwrap_or_default();
        let none = (i64::MAX, i64::MIN);
        ranges.iter().fold(none, |(low, high), (min, max)| (low.min(*min), high.max(*max)))
    }
}
