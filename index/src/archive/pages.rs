//! Headers of pages: a checksum is put into them when a file is written, and they are checked to the last byte when it
//! is read.
//!
//! The Parquet library verifies checksums of pages but does not write them, and no checksum covers a header. So pages
//! pass through a [`PageStore`] of ours on their way into the file, and a reader accepts only headers that say what the
//! footer, which has a checksum of its own, lets expect.

use std::{collections::VecDeque, io::Read, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::{
    column::{
        page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory},
        writer::ColumnCloseResult,
    },
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};

use super::{ArchiveError, crc::crc32, schema::leaf};

/// Types of pages, as numbers in their headers.
const DATA: u32 = 0;
const DICTIONARY: u32 = 2;

/// The beginning of a field of a Thrift struct: a 32-bit number one further than the field before.
const NEXT_NUMBER: u8 = 0x15;
/// The same for a struct, without the distance in the upper half.
const STRUCT: u8 = 0x0c;

/// Pages of a column chunk as they go into the file: header, data, header, data.
#[derive(Debug, Default)]
struct Pages {
    dictionary: Vec<Bytes>,
    data: Vec<Bytes>,
    /// A header whose data comes next.
    header: Option<Bytes>,
    bytes: usize,
}

/// The pages of the row group in progress. The library puts them in while it encodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Checksums(Arc<[Mutex<Pages>; leaf::COUNT]>);

impl PageStoreFactory for Checksums {
    fn create(&self, args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        let column = args.column_index();
        *self.0[column].lock() = Pages::default();
        Ok(Box::new(ChecksumStore { pages: self.0.clone(), column, count: 0 }))
    }
}

impl Checksums {
    /// The pages of a column, and what the library says of them, corrected for the checksums.
    pub(super) fn take(&self, column: usize, close: &ColumnCloseResult) -> Result<(Chunk, ColumnCloseResult)> {
        let pages = std::mem::take(&mut *self.0[column].lock());
        let length = |blobs: &[Bytes]| blobs.iter().map(Bytes::len).sum::<usize>();
        let mut close = close.clone();
        let index = close.offset_index.as_mut().map_or(&mut [][..], |index| &mut index.page_locations);
        if 2 * index.len() != pages.data.len() {
            return Err(ParquetError::General("a column has other pages than its index".to_owned()));
        }
        // The dictionary is made last and stands first.
        let dictionary = length(&pages.dictionary);
        let mut at = dictionary;
        for (location, page) in index.iter_mut().zip(pages.data.chunks(2)) {
            location.offset = at as i64;
            location.compressed_page_size = length(page) as i32;
            at += length(page);
        }
        let grown = at as i64 - close.metadata.compressed_size();
        let uncompressed = close.metadata.uncompressed_size() + grown;
        let metadata = close.metadata.clone().into_builder().set_data_page_offset(dictionary as i64);
        let metadata = metadata.set_dictionary_page_offset((dictionary > 0).then_some(0));
        let metadata = metadata.set_total_compressed_size(at as i64).set_total_uncompressed_size(uncompressed);
        close.metadata = metadata.build()?;
        close.bytes_written = at as u64;
        Ok((Chunk([pages.dictionary, pages.data].concat()), close))
    }
}

/// Puts checksums into the headers of the pages of a column.
struct ChecksumStore {
    pages: Arc<[Mutex<Pages>; leaf::COUNT]>,
    column: usize,
    count: u64,
}

impl PageStore for ChecksumStore {
    fn put(&mut self, value: Bytes) -> Result<PageKey> {
        let mut pages = self.pages[self.column].lock();
        let pages = &mut *pages;
        pages.bytes += value.len();
        match pages.header.take() {
            None => pages.header = Some(value),
            Some(header) => {
                let (page_type, header) = add_checksum(&header, crc32(&value))
                    .ok_or_else(|| ParquetError::General("a page has an unknown header".to_owned()))?;
                let page = [header.into(), value];
                if page_type == DICTIONARY { pages.dictionary.extend(page) } else { pages.data.extend(page) }
            }
        }
        self.count += 1;
        Ok(PageKey::new(self.count))
    }

    fn take(&mut self, _: PageKey) -> Result<Bytes> {
        Err(ParquetError::General("pages are taken from the checksums".to_owned()))
    }

    fn memory_size(&self) -> usize {
        self.pages[self.column].lock().bytes
    }
}

/// The bytes of a column chunk, from its beginning on.
pub(super) struct Chunk(Vec<Bytes>);

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.0.iter().map(|blob| blob.len() as u64).sum()
    }
}

impl ChunkReader for Chunk {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead> {
        if start != 0 {
            return Err(ParquetError::General("a column chunk is copied from its beginning".to_owned()));
        }
        Ok(ChunkRead(self.0.clone().into()))
    }

    fn get_bytes(&self, _: u64, _: usize) -> Result<Bytes> {
        Err(ParquetError::General("a column chunk is copied as a whole".to_owned()))
    }
}

/// Reads a column chunk from its beginning to its end.
pub(super) struct ChunkRead(VecDeque<Bytes>);

impl Read for ChunkRead {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(blob) = self.0.front_mut() else { return Ok(0) };
        let part = blob.split_to(blob.len().min(out.len()));
        out[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

/// The header with a checksum in it, and its page type.
fn add_checksum(header: &[u8], crc: u32) -> Option<(u32, Vec<u8>)> {
    let mut read = Reader(header);
    let numbers = [read.number(NEXT_NUMBER)?, read.number(NEXT_NUMBER)?, read.number(NEXT_NUMBER)?];
    let (field, rest) = read.0.split_first()?;
    // Its distance to the field before becomes one less.
    let field = field.checked_sub(0x10).filter(|field| field & 0x0f == STRUCT && *field > 0x0f)?;
    let mut out = header[..header.len() - read.0.len()].to_vec();
    out.push(NEXT_NUMBER);
    let crc = crc as i32;
    let mut zigzag = (crc << 1 ^ crc >> 31) as u32;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
    out.push(field);
    out.extend_from_slice(rest);
    Some((numbers[0] as u32, out))
}

/// What a page must be.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// A page of data.
    Data {
        /// How many values it may have: one a row, or at least one where a row may have several.
        values: RangeInclusive<u64>,
        /// Number of its encoding, or that of pages with a dictionary.
        encodings: [u32; 2],
    },
    Dictionary,
}

/// Checks a whole page: every field of its header, and its checksum.
pub(super) fn check(page: &[u8], expected: Expected, max_bytes: usize) -> std::result::Result<(), ArchiveError> {
    let header = Header::read(page).ok_or_else(|| ArchiveError::damaged("a page has an unknown header"))?;
    let fits = match expected {
        Expected::Data { values, encodings } => {
            header.page_type == DATA && values.contains(&header.values.into()) && encodings.contains(&header.encoding)
        }
        // The library divides by the number of values.
        Expected::Dictionary => {
            let empty = header.uncompressed == 0;
            header.page_type == DICTIONARY && header.encoding == 0 && (header.values == 0) == empty
        }
    };
    if !fits {
        return Err(ArchiveError::damaged("a page has other values than the footer says"));
    }
    if header.data.len() != header.compressed as usize || header.uncompressed as usize > max_bytes {
        return Err(ArchiveError::damaged("a page has another size than the footer says"));
    }
    if crc32(header.data) != header.crc {
        return Err(ArchiveError::damaged("the checksum of a page differs"));
    }
    Ok(())
}

struct Header<'a> {
    page_type: u32,
    uncompressed: u32,
    compressed: u32,
    crc: u32,
    values: u32,
    encoding: u32,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a header as [`add_checksum`] leaves it; `None` when anything is otherwise.
    fn read(page: &'a [u8]) -> Option<Self> {
        let mut read = Reader(page);
        let mut positive = || read.number(NEXT_NUMBER).and_then(|number| u32::try_from(number).ok());
        let [page_type, uncompressed, compressed] = [positive()?, positive()?, positive()?];
        let crc = read.number(NEXT_NUMBER)? as u32;
        read.byte(if page_type == DATA { 0x1c } else { 0x3c })?;
        let values = u32::try_from(read.number(NEXT_NUMBER)?).ok()?;
        let encoding = u32::try_from(read.number(NEXT_NUMBER)?).ok()?;
        if page_type == DATA {
            // Levels are run-length encoded, and there are no statistics.
            for _ in 0..2 {
                (read.number(NEXT_NUMBER)? == 3).then_some(())?;
            }
        } else {
            // Whether it is sorted.
            (read.0.first()? == &0x12).then(|| read.0 = &read.0[1..])?;
        }
        read.byte(0)?;
        read.byte(0)?;
        Some(Self { page_type, uncompressed, compressed, crc, values, encoding, data: read.0 })
    }
}

/// Reads Thrift's compact protocol, as much of it as headers need.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self, expected: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == expected).then_some(())
    }

    fn number(&mut self, field: u8) -> Option<i32> {
        self.byte(field)?;
        let mut zigzag = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            zigzag |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32));
            }
        }
        None
    }
}
