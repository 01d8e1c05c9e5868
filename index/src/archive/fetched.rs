//! Parts of a file that were read, for the library to find its pages in.

use std::{io::Cursor, ops::Range};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};

use super::ArchiveError;

/// Parts of a file.
pub(super) struct Fetched {
    file_bytes: u64,
    parts: Vec<(Range<u64>, Bytes)>,
}

impl Fetched {
    pub(super) fn new(file_bytes: u64, parts: &[(Range<u64>, Bytes)]) -> Self {
        Self { file_bytes, parts: parts.to_vec() }
    }

    /// The bytes of a range, which must lie in one part.
    pub(super) fn get(&self, range: Range<u64>) -> std::result::Result<Bytes, ArchiveError> {
        let part = self.parts.iter().find(|(part, _)| part.start <= range.start && range.end <= part.end);
        let bytes = part.and_then(|(part, bytes)| {
            let (start, end) = ((range.start - part.start) as usize, (range.end - part.start) as usize);
            (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
        });
        bytes.ok_or(ArchiveError::Missing(range.start, range.end))
    }
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Fetched {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let part = self.parts.iter().find(|(part, _)| part.contains(&start));
        let bytes = part.and_then(|(part, bytes)| {
            let start = (start - part.start) as usize;
            (start <= bytes.len()).then(|| bytes.slice(start..))
        });
        bytes.map(Cursor::new).ok_or_else(|| ParquetError::External(Box::new(ArchiveError::Missing(start, start + 1))))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.saturating_add(length as u64);
        self.get(start..end).map_err(|error| ParquetError::External(Box::new(error)))
    }
}
