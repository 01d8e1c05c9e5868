//! Where exported messages go.

use std::io::{self, Write};

use arrow::{
    array::AsArray,
    datatypes::{UInt32Type, UInt64Type},
    ipc::reader::StreamReader,
};
use brigade_index::batch::Messages;

use super::{csv::CsvSink, parquet::ParquetSink};
use crate::{
    cli::{CliError, transfer::FileFormat},
    client::Page,
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

    /// Writes the messages of a page; gives their number.
    pub(super) fn page(&mut self, page: &Page) -> Result<u64, CliError> {
        let understood = |why| CliError::Failed(format!("an answer of the server was not understood: {why}"));
        let mut rows = 0;
        for (partition, offsets, messages) in batches(page).map_err(understood)? {
            rows += offsets.len() as u64;
            match self {
                Self::Ndjson(output) => {
                    let mut lines = Vec::new();
                    for (row, offset) in offsets.iter().enumerate() {
                        write_message(&mut lines, partition, *offset, &messages, row, |_| {});
                        lines.push(b'\n');
                    }
                    output.write_all(&lines)?;
                }
                Self::Csv(csv) => csv.write(partition, &offsets, &messages)?,
                Self::Parquet(parquet) => parquet.write(partition, &offsets, &messages)?,
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

/// The messages of a page in Arrow format: partition, offsets, and what is stored.
pub(super) fn batches(page: &Page) -> Result<Vec<(u32, Vec<u64>, Messages)>, String> {
    if page.body.is_empty() {
        return Ok(Vec::new());
    }
    let reader = StreamReader::try_new(&page.body[..], None).map_err(|error| error.to_string())?;
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let partition = batch.column(0).as_primitive_opt::<UInt32Type>().ok_or("no partition")?;
        let offsets = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or("no offset")?;
        if batch.num_rows() == 0 {
            continue;
        }
        let columns: Vec<_> = (2..batch.num_columns()).collect();
        let stored = batch.project(&columns).map_err(|error| error.to_string())?;
        let messages = Messages::new(stored).map_err(|error| error.to_string())?;
        batches.push((partition.value(0), offsets.values().to_vec(), messages));
    }
    Ok(batches)
}
