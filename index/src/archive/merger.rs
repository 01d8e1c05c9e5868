//! Makes one archive file of several: their row groups are copied as they are, nothing is decoded.

use std::ops::Range;

use bytes::Bytes;
use parquet::{
    bloom_filter::Sbbf,
    column::writer::ColumnCloseResult,
    file::{metadata::KeyValue, writer::SerializedFileWriter},
};

use super::{
    ArchiveError, Footer, WriterSettings,
    error::guarded,
    fetched::Fetched,
    head::{self, FileHead, Totals, Written},
    output::Output,
    schema::{descriptor, leaf},
    seal,
};
use crate::ids::Offset;

/// Puts whole archive files behind each other.
pub struct FileMerger {
    head: FileHead,
    file: SerializedFileWriter<Output>,
    totals: Totals,
    next: Offset,
    gaps: Vec<KeyValue>,
    /// The file whose row groups are being copied, and which of them comes next.
    current: Option<(Footer, usize)>,
}

impl FileMerger {
    /// Begins a file.
    ///
    /// # Errors
    /// When the settings are none that Parquet takes.
    pub fn new(head: FileHead, settings: &WriterSettings) -> Result<Self, ArchiveError> {
        let properties = settings.properties()?;
        let file = SerializedFileWriter::new(Output::default(), descriptor().root_schema_ptr(), properties)?;
        Ok(Self { next: head.first, head, file, totals: Totals::NONE, gaps: Vec::new(), current: None })
    }

    /// Adds the next row group of a file: `bytes` are those of [`Footer::row_group_range`]. All row groups of a file must
    /// come in order, and the files in order of their offsets.
    ///
    /// # Errors
    /// When it is not its turn, or is of another partition, or the bytes are not those of the row group.
    pub fn append(&mut self, footer: &Footer, row_group: usize, bytes: Bytes) -> Result<(), ArchiveError> {
        self.admit(footer, row_group)?;
        let range = footer.row_group_range(row_group);
        if bytes.len() as u64 != range.end - range.start {
            return Err(ArchiveError::Missing(range.start, range.end));
        }
        let fetched = Fetched::new(footer.file_bytes(), &[(range, bytes)]);
        let ordinal = self.file.flushed_row_groups().len();
        guarded(|| copy(&mut self.file, footer, row_group, &fetched))?;
        let pairs = footer.metadata().file_metadata();
        let gaps = head::lookup(pairs, &seal::page_offsets_name(row_group));
        self.gaps.extend(gaps.map(|value| seal::page_offsets_pair(ordinal, value)));
        Ok(())
    }

    /// Checks that it is the turn of this row group.
    fn admit(&mut self, footer: &Footer, row_group: usize) -> Result<(), ArchiveError> {
        let whole = self.current.as_ref().is_none_or(|(current, next)| *next == current.row_groups());
        if whole {
            let (ours, theirs) = (&self.head, footer.head());
            let place = (&ours.cluster, ours.topic_id, ours.partition);
            if place != (&theirs.cluster, theirs.topic_id, theirs.partition) {
                return Err(ArchiveError::Misplaced("a file of another partition".to_owned()));
            }
            if theirs.first < self.next || theirs.end > ours.end {
                let Range { start, end } = theirs.first..theirs.end;
                return Err(ArchiveError::Misplaced(format!("offsets {start} to {end} where {} go on", self.next)));
            }
            self.next = theirs.end;
            self.totals = self.totals.and(*footer.totals());
            self.current = Some((footer.clone(), 0));
        }
        match &mut self.current {
            Some((current, next)) if current.is(footer) && *next == row_group && row_group < current.row_groups() => {
                *next += 1;
                Ok(())
            }
            _ => Err(ArchiveError::Misplaced("a row group whose turn it is not".to_owned())),
        }
    }

    /// Bytes of memory held: output that was not taken.
    pub fn memory(&self) -> usize {
        self.file.inner().memory()
    }

    /// Output so far that was not taken before.
    pub fn take(&mut self) -> Bytes {
        seal::take(&mut self.file)
    }

    /// Ends the file; returns the rest of the output.
    ///
    /// # Errors
    /// When a file is not whole or there is none.
    pub fn finish(self) -> Result<(Bytes, Written), ArchiveError> {
        if self.current.is_none_or(|(current, next)| next != current.row_groups()) {
            return Err(ArchiveError::Misplaced("a part of a file".to_owned()));
        }
        let mut metadata = head::metadata(&self.head, &self.totals);
        metadata.extend(self.gaps);
        let (rest, bytes, crc) = seal::finish(self.file, metadata)?;
        Ok((rest, Written::new(self.totals, bytes, crc)))
    }
}

fn copy(
    file: &mut SerializedFileWriter<Output>,
    footer: &Footer,
    row_group: usize,
    fetched: &Fetched,
) -> Result<(), ArchiveError> {
    let group = footer.metadata().row_group(row_group);
    let mut out = file.next_row_group()?;
    for (column, chunk) in group.columns().iter().enumerate() {
        let index = footer.metadata().page_index();
        let filter = column == leaf::KEY;
        let close = ColumnCloseResult {
            bytes_written: chunk.compressed_size() as u64,
            rows_written: group.num_rows() as u64,
            metadata: chunk.clone(),
            bloom_filter: if filter { Sbbf::read_from_column_chunk(chunk, fetched)? } else { None },
            column_index: index.and_then(|index| index.column_index(row_group, column)).cloned(),
            offset_index: index.and_then(|index| index.offset_index(row_group, column)).cloned(),
        };
        out.append_column(fetched, close)?;
    }
    out.close()?;
    Ok(())
}
