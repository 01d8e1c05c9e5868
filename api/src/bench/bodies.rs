//! Publish bodies, built before the clock starts and shared by all connections.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, StringArray},
    ipc::writer::StreamWriter,
};
use bytes::Bytes;

use super::{args::Format, generate::LogLines};
use crate::cli::CliError;

/// Most bytes of values in all bodies together: many times an entry, so that no compression sees a value twice.
const POOL_BYTES: usize = 192 * 1024 * 1024;

/// Most values in all bodies together.
const POOL_MESSAGES: usize = 100_000;

/// Distinct bodies of the same number of messages.
#[derive(Debug)]
pub(super) struct Bodies {
    bodies: Vec<Bytes>,
    format: Format,
}

impl Bodies {
    /// Builds bodies of `messages` values of `message_bytes` each.
    pub(super) fn build(seed: u64, messages: usize, message_bytes: usize, format: Format) -> Result<Self, CliError> {
        let in_pool = (POOL_BYTES / message_bytes.max(1)).min(POOL_MESSAGES);
        let count = (in_pool / messages).max(4);
        let mut lines = LogLines::new(seed, message_bytes);
        let bodies = (0..count).map(|_| body(&mut lines, messages, format)).collect::<Result<_, _>>()?;
        Ok(Self { bodies, format })
    }

    /// How many different bodies there are.
    pub(super) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// The body at a place; places go on for ever.
    pub(super) fn at(&self, place: usize) -> Bytes {
        self.bodies[place % self.bodies.len()].clone()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }
}

fn body(lines: &mut LogLines, messages: usize, format: Format) -> Result<Bytes, CliError> {
    let mut body = Vec::new();
    match format {
        Format::Json => {
            body.extend_from_slice(b"{\"messages\":[");
            for number in 0..messages {
                if number > 0 {
                    body.push(b',');
                }
                object(lines.next_line(), &mut body)?;
            }
            body.extend_from_slice(b"]}");
        }
        Format::Ndjson => {
            for _ in 0..messages {
                object(lines.next_line(), &mut body)?;
                body.push(b'\n');
            }
        }
        Format::Arrow => body = arrow_stream(lines, messages).map_err(|e| CliError::Failed(e.to_string()))?,
    }
    Ok(Bytes::from(body))
}

fn object(line: &[u8], body: &mut Vec<u8>) -> Result<(), CliError> {
    body.extend_from_slice(b"{\"value\":");
    // Generated lines are ASCII.
    let text = std::str::from_utf8(line).map_err(|e| CliError::Failed(e.to_string()))?;
    serde_json::to_writer(&mut *body, text).map_err(|e| CliError::Failed(e.to_string()))?;
    body.push(b'}');
    Ok(())
}

fn arrow_stream(lines: &mut LogLines, messages: usize) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let values: StringArray =
        (0..messages).map(|_| Some(String::from_utf8_lossy(lines.next_line()).into_owned())).collect();
    let batch = RecordBatch::try_from_iter([("value", Arc::new(values) as _)])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Bodies, Format};

    #[test]
    fn bodies_hold_the_asked_messages_and_differ() {
        let bodies = Bodies::build(1, 10_000, 600, Format::Json).unwrap();
        assert_eq!(bodies.len(), 10);
        let parsed: Value = serde_json::from_slice(&bodies.at(3)).unwrap();
        assert_eq!(parsed["messages"].as_array().unwrap().len(), 10_000);
        assert_eq!(parsed["messages"][0]["value"].as_str().unwrap().len(), 600);
        assert_ne!(bodies.at(0), bodies.at(1));
        assert_eq!(bodies.at(0), bodies.at(10));
    }

    #[test]
    fn lines_and_arrow_hold_the_same_messages() {
        let lines = Bodies::build(1, 50_000, 100, Format::Ndjson).unwrap();
        assert_eq!(lines.at(0).iter().filter(|byte| **byte == b'\n').count(), 50_000);
        let arrow = Bodies::build(1, 50_000, 100, Format::Arrow).unwrap();
        let body = arrow.at(0);
        let mut reader = arrow::ipc::reader::StreamReader::try_new(&body[..], None).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().num_rows(), 50_000);
    }
}
