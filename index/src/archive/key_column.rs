//! Keys out of the blocks of a file, for key compaction: nothing else of the messages is read.

use std::ops::Range;

use arrow::array::{AsArray, BinaryArray};
use bytes::Bytes;

use super::{ArchiveError, Footer, decode::offsets, schema::leaf};

const COLUMNS: [usize; 2] = [leaf::OFFSET, leaf::KEY];

/// Keys of messages of an archive file with their offsets.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The keys; null where a message has none.
    pub keys: BinaryArray,
    /// The offsets of the messages, ascending, as many as there are keys.
    pub offsets: Vec<u64>,
}

impl Footer {
    /// What must be read of the file for the keys of a block, ascending. Panics when there is no such block.
    pub fn key_ranges(&self, block: usize) -> Vec<Range<u64>> {
        self.column_ranges(block, COLUMNS.into_iter())
    }

    /// Decodes the keys of a block from what was read of the file; [`Self::key_ranges`] says what that must be. Panics when
    /// there is no such block.
    ///
    /// # Errors
    /// When bytes are missing, or are not those that were written.
    pub fn decode_keys(&self, block: usize, fetched: &[(Range<u64>, Bytes)]) -> Result<Keys, ArchiveError> {
        let batch = self.decode_columns(block, COLUMNS.to_vec(), fetched)?;
        let column = |name: &str| {
            let missing = || ArchiveError::damaged("a column is missing");
            batch.column_by_name(name).ok_or_else(missing)
        };
        let keys = column("key")?.as_binary_opt::<i32>().cloned();
        let keys = keys.ok_or_else(|| ArchiveError::damaged("its keys are no bytes"))?;
        Ok(Keys { keys, offsets: offsets(column("offset")?, &self.blocks()[block])? })
    }
}
