//! CSV: a line a message, under a line of names.

use base64::{Engine, engine::general_purpose::STANDARD};
use brigade_index::batch::{Messages, ValueKind};
use csv::Writer;

use super::sink::Output;
use crate::{
    cli::{CliError, transfer::CSV_COLUMNS},
    wire::write_string,
};

/// A CSV file in the making.
pub(super) struct CsvSink(Writer<Output>);

impl CsvSink {
    pub(super) fn new(output: Output) -> Result<Self, CliError> {
        let mut writer = Writer::from_writer(output);
        writer.write_record(CSV_COLUMNS).map_err(failed)?;
        Ok(Self(writer))
    }

    pub(super) fn write(&mut self, partition: u32, offsets: &[u64], messages: &Messages) -> Result<(), CliError> {
        for (row, offset) in offsets.iter().enumerate() {
            let (key, encoding) = text_or_base64(messages.key(row));
            let (value, kind) = value(messages, row);
            let attributes = messages.attributes(row);
            let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
            let record = [
                partition.to_string(),
                offset.to_string(),
                messages.timestamps()[row].to_string(),
                key,
                encoding.to_owned(),
                value,
                kind.to_owned(),
                headers(messages, row),
                attributes.group.unwrap_or_default().to_owned(),
                number(attributes.priority.map(i64::from)),
                number(attributes.deliver_at_ms),
                number(attributes.expires_at_ms),
            ];
            self.0.write_record(&record).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn written(&self) -> u64 {
        self.0.get_ref().written()
    }

    pub(super) fn finish(mut self) -> Result<u64, CliError> {
        self.0.flush()?;
        Ok(self.written())
    }
}

fn failed(error: csv::Error) -> CliError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => CliError::Failed(format!("{other:?}")),
    }
}

fn text_or_base64(bytes: Option<&[u8]>) -> (String, &'static str) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (String::new(), ""),
        Some((_, Ok(text))) => (text.to_owned(), "text"),
        Some((bytes, Err(_))) => (STANDARD.encode(bytes), "base64"),
    }
}

fn value(messages: &Messages, row: usize) -> (String, &'static str) {
    let Some(value) = messages.value(row) else { return (String::new(), "tombstone") };
    let kind = match messages.kind(row) {
        ValueKind::Text => "text",
        ValueKind::Json => "json",
        ValueKind::Binary => "binary",
    };
    match std::str::from_utf8(value) {
        Ok(text) if kind != "binary" => (text.to_owned(), kind),
        _ => (STANDARD.encode(value), "binary"),
    }
}

/// A JSON object; empty when there is no header.
fn headers(messages: &Messages, row: usize) -> String {
    let mut out = Vec::new();
    for (name, value) in messages.headers(row) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        write_string(&mut out, name);
        out.push(b':');
        write_string(&mut out, value);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    String::from_utf8(out).unwrap_or_default()
}
