//! Where exported messages go.

use std::io::{self, Write};

use super::{csv::CsvSink, fetch::Batch, parquet::ParquetSink};
use crate::{
    cli::{CliError, transfer::FileFormat},
    wire::write_message,
};

/// Counts what is written.
pub(super) struct Counting<W> {
    inner: W,
    written: u64,
}

impl<W> Counting<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, written: 0 }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(super) type Output = Counting<Box<dyn Write + Send>>;

/// A file in the making.
pub(super) enum Sink {
    Ndjson(Output),
    Csv(Box<CsvSink>),
    Parquet(Box<ParquetSink>),
}

impl Sink {
    pub(super) fn new(format: FileFormat, topic: &str, output: Output) -> Result<Self, CliError> {
        Ok(match format {
            FileFormat::Ndjson => Self::Ndjson(output),
            FileFormat::Csv => Self::Csv(Box::new(CsvSink::new(output)?)),
            FileFormat::Parquet => Self::Parquet(Box::new(ParquetSink::new(topic, output)?)),
        })
    }

    /// Writes messages; gives their number.
    pub(super) fn write(&mut self, batches: &[Batch]) -> Result<u64, CliError> {
        let mut rows = 0;
        for (partition, offsets, messages) in batches {
            rows += offsets.len() as u64;
            match self {
                Self::Ndjson(output) => {
                    let mut lines = Vec::new();
                    for (row, offset) in offsets.iter().enumerate() {
                        write_message(&mut lines, *partition, *offset, messages, row, |_| {});
                        lines.push(b'\n');
                    }
                    output.write_all(&lines)?;
                }
                Self::Csv(csv) => csv.write(*partition, offsets, messages)?,
                Self::Parquet(parquet) => parquet.write(*partition, offsets, messages)?,
            }
        }
        Ok(rows)
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        match self {
            Self::Ndjson(output) => output.written(),
            Self::Csv(csv) => csv.written(),
            Self::Parquet(parquet) => parquet.written(),
        }
    }

    /// Writes what is left; gives the size of the file in bytes.
    pub(super) fn finish(self) -> Result<u64, CliError> {
        match self {
            Self::Ndjson(mut output) => {
                output.flush()?;
                Ok(output.written())
            }
            Self::Csv(csv) => csv.finish(),
            Self::Parquet(parquet) => parquet.finish(),
        }
    }
}
