//! Headers of pages: a checksum is put into them when a file is written, and they are checked to the last byte when it
//! is read.
//!
//! The Parquet library verifies checksums of pages but does not write them, and no checksum covers a header. So pages
//! pass through a [`PageStore`] of ours on their way into the file, and a reader accepts only headers that say what the
//! footer, which has a checksum of its own, lets expect.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::{
    column::{
        page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory},
        writer::ColumnCloseResult,
    },
    errors::{ParquetError, Result},
};

use super::{ArchiveError, crc::crc32, schema::leaf};

/// Types of pages, as numbers in their headers.
const DATA: u32 = 0;
const DICTIONARY: u32 = 2;

/// The beginning of a field of a Thrift struct: a 32-bit number one further than the field before.
const NEXT_NUMBER: u8 = 0x15;
/// The same for a struct, without the distance in the upper half.
const STRUCT: u8 = 0x0c;

/// By how much the pages of a column chunk have grown.
#[derive(Debug, Default)]
struct Growth {
    dictionary: usize,
    data: Vec<u8>,
}

/// Makes stores that add checksums, and knows by how much the pages of each column have grown by that.
#[derive(Debug, Default)]
pub(super) struct Checksums(Arc<[Mutex<Growth>; leaf::COUNT]>);

impl PageStoreFactory for Checksums {
    fn create(&self, args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        let column = args.column_index();
        *self.0[column].lock() = Growth::default();
        Ok(Box::new(ChecksumStore { blobs: Vec::new(), resident: 0, growth: self.0.clone(), column }))
    }
}

impl Checksums {
    /// Corrects what the library thinks that it wrote.
    pub(super) fn correct(&self, column: usize, close: &mut ColumnCloseResult) -> Result<()> {
        let growth = std::mem::take(&mut *self.0[column].lock());
        let pages = close.offset_index.as_mut().map_or(&mut [][..], |index| &mut index.page_locations);
        if pages.len() != growth.data.len() {
            return Err(ParquetError::General("a column has other pages than its index".to_owned()));
        }
        // The library moves the data pages behind the dictionary as it wrote it; the checksum is on top.
        let mut shift = growth.dictionary;
        for (page, grown) in pages.iter_mut().zip(&growth.data) {
            page.offset += shift as i64;
            page.compressed_page_size += i32::from(*grown);
            shift += usize::from(*grown);
        }
        let metadata = &close.metadata;
        let (compressed, uncompressed) = (metadata.compressed_size(), metadata.uncompressed_size());
        let data = metadata.data_page_offset() + growth.dictionary as i64;
        let corrected = metadata.clone().into_builder().set_data_page_offset(data);
        let corrected = corrected.set_total_compressed_size(compressed + shift as i64);
        close.metadata = corrected.set_total_uncompressed_size(uncompressed + shift as i64).build()?;
        close.bytes_written += shift as u64;
        Ok(())
    }
}

/// Keeps the pages of a column chunk in memory. They come as header, data, header, data.
struct ChecksumStore {
    blobs: Vec<Bytes>,
    resident: usize,
    growth: Arc<[Mutex<Growth>; leaf::COUNT]>,
    column: usize,
}

impl PageStore for ChecksumStore {
    fn put(&mut self, value: Bytes) -> Result<PageKey> {
        let key = PageKey::new(self.blobs.len() as u64);
        if self.blobs.len() % 2 == 1 {
            // Its header came just before, and was not taken yet.
            let header = &mut self.blobs[key.get() as usize - 1];
            let (page_type, with_checksum) = add_checksum(header, crc32(&value))
                .ok_or_else(|| ParquetError::General("a page has an unknown header".to_owned()))?;
            let grown = with_checksum.len() - header.len();
            *header = with_checksum.into();
            self.resident += grown;
            let mut growth = self.growth[self.column].lock();
            match page_type {
                DICTIONARY => growth.dictionary += grown,
                _ => growth.data.push(grown as u8),
            }
        }
        self.resident += value.len();
        self.blobs.push(value);
        Ok(key)
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let blob = usize::try_from(key.get()).ok().and_then(|at| self.blobs.get_mut(at));
        let blob = blob.ok_or_else(|| ParquetError::General("a page is not there".to_owned()))?;
        self.resident -= blob.len();
        Ok(std::mem::take(blob))
    }

    fn memory_size(&self) -> usize {
        self.resident
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
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// Pages of data with this many rows, unless rows have several values.
    Data {
        /// Its number of values, where that is known.
        values: Option<u64>,
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
            header.page_type == DATA
                && values.is_none_or(|values| values == u64::from(header.values))
                && encodings.contains(&header.encoding)
        }
        Expected::Dictionary => header.page_type == DICTIONARY && header.encoding == 0,
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
