//! Footer and page index of an archive file: where which messages are in it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parquet::{
    DecodeResult,
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder},
};

use super::{
    ArchiveError, ArchiveFile,
    blocks::{self, Block},
    error::guarded,
    head::{self, FileHead, Totals},
    schema::descriptor,
    seal,
};
use crate::ids::Offset;

/// What comes first when a file is opened: enough for footer and page index of most.
const FIRST_BYTES: u64 = 64 << 10;

/// Footer and page index of an archive file, read and checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Footer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file_bytes: u64,
    reader: ArrowReaderMetadata,
    head: FileHead,
    totals: Totals,
    blocks: Vec<Block>,
    memory: usize,
}

/// What reading a footer came to.
#[derive(Debug)]
pub enum FooterStep {
    /// These bytes, up to the end of the file, are needed.
    Need(Range<u64>),
    /// It is read.
    Ready(Footer),
}

impl Footer {
    /// What to read first of a file of this size.
    pub fn first_range(file_bytes: u64) -> Range<u64> {
        file_bytes.saturating_sub(FIRST_BYTES)..file_bytes
    }

    /// Reads the footer from the end of the file, from position `at` on. When that is too little, it says what is needed.
    ///
    /// # Errors
    /// When it is damaged, or no footer of an archive file.
    pub fn decode(file_bytes: u64, at: u64, tail: Bytes) -> Result<FooterStep, ArchiveError> {
        if at.checked_add(tail.len() as u64) != Some(file_bytes) {
            return Err(ArchiveError::damaged("it has another size than it should have"));
        }
        let range = seal::locate(file_bytes, &tail)?;
        if range.start < at {
            return Ok(FooterStep::Need(range));
        }
        let tail = tail.slice((range.start - at) as usize..);
        seal::check(&tail)?;
        guarded(|| Self::parse(file_bytes, range, tail)).map(FooterStep::Ready)
    }

    fn parse(file_bytes: u64, range: Range<u64>, tail: Bytes) -> Result<Self, ArchiveError> {
        let incomplete = || ArchiveError::damaged("its page index is not in front of its footer");
        let mut decoder =
            ParquetMetaDataPushDecoder::try_new(file_bytes)?.with_page_index_policy(PageIndexPolicy::Skip);
        decoder.push_range(range.clone(), tail.clone())?;
        let DecodeResult::Data(metadata) = decoder.try_decode()? else { return Err(incomplete()) };
        if metadata.file_metadata().schema_descr().root_schema() != descriptor().root_schema() {
            return Err(ArchiveError::damaged("it has other columns than an archive file has"));
        }
        let (head, totals) = head::parse(metadata.file_metadata())?;
        blocks::check_index(&metadata, &range, &tail)?;
        let mut decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(file_bytes, metadata)?
            .with_page_index_policy(PageIndexPolicy::Required);
        decoder.push_range(range.clone(), tail)?;
        let DecodeResult::Data(metadata) = decoder.try_decode()? else { return Err(incomplete()) };
        let blocks = blocks::blocks(&metadata, &head, &totals)?;
        let memory = metadata.memory_size() + blocks.len() * size_of::<Block>() + size_of::<Inner>();
        // A hint at other Arrow types, which nothing of ours writes, is not followed.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let reader = ArrowReaderMetadata::try_new(Arc::new(metadata), options)?;
        Ok(Self(Arc::new(Inner { file_bytes, reader, head, totals, blocks, memory })))
    }

    /// Checks that it is the file that the index means: `head` is what the caller knows of its place, `file` is the
    /// index's word for it.
    ///
    /// # Errors
    /// When it is a file of something else.
    pub fn check(&self, file: &ArchiveFile, head: &FileHead) -> Result<(), ArchiveError> {
        head::check((&self.0.head, &self.0.totals), head, file)
    }

    /// What the file says that it is.
    pub fn head(&self) -> &FileHead {
        &self.0.head
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.0.file_bytes
    }

    /// Messages in the file.
    pub fn rows(&self) -> u64 {
        self.0.totals.rows
    }

    /// Bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        self.0.memory
    }

    /// The blocks of the file, in order; they have all of its messages.
    pub fn blocks(&self) -> &[Block] {
        &self.0.blocks
    }

    /// The block with the first message at `offset` or behind it; `None` behind the last message.
    pub fn block_at(&self, offset: Offset) -> Option<usize> {
        let block = self.0.blocks.partition_point(|block| block.end <= offset);
        (block < self.0.blocks.len()).then_some(block)
    }

    /// Blocks that may have messages with this timestamp or a later one, in order.
    pub fn blocks_at_time(&self, timestamp_ms: i64) -> impl Iterator<Item = usize> + '_ {
        let blocks = self.0.blocks.iter().enumerate();
        blocks.filter(move |(_, block)| block.max_timestamp_ms >= timestamp_ms).map(|(at, _)| at)
    }

    /// Number of row groups.
    pub fn row_groups(&self) -> usize {
        self.metadata().num_row_groups()
    }

    /// The bytes of a row group: its columns and its Bloom filter. Panics when there is no such row group.
    pub fn row_group_range(&self, row_group: usize) -> Range<u64> {
        blocks::row_group_range(self.metadata().row_group(row_group))
    }

    /// Whether this is a clone of the other one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.0.totals
    }

    pub(super) fn metadata(&self) -> &ParquetMetaData {
        self.0.reader.metadata()
    }

    pub(super) fn reader(&self) -> &ArrowReaderMetadata {
        &self.0.reader
    }
}
