//! CSV under a line of names: what `brigade export` writes, or any file with a column for the value.

use csv::{Reader, ReaderBuilder, StringRecord};
use serde_json::value::RawValue;

use super::{Body, Gathered, Source, Stream, Wanted};
use crate::{
    cli::{CliError, transfer::CSV_COLUMNS},
    wire::write_string,
};

/// Columns with a number.
const NUMBERS: [&str; 5] = ["partition", "timestamp", "priority", "deliver_at", "expires_at"];

/// The rows of a file.
pub(super) struct Rows {
    reader: Reader<Stream>,
    what: String,
    columns: Columns,
    expired_ms: i64,
    record: StringRecord,
}

/// Where the columns are.
struct Columns {
    key: Option<usize>,
    value: usize,
    /// Those of an exported file that are there.
    others: Vec<(&'static str, usize)>,
}

impl Columns {
    fn other(&self, name: &str) -> Option<usize> {
        self.others.iter().find(|(other, _)| *other == name).map(|(_, at)| *at)
    }
}

impl Rows {
    pub(super) fn new(file: Stream, what: String, wanted: Wanted) -> Result<Self, CliError> {
        let mut reader = ReaderBuilder::new().buffer_capacity(256 * 1024).from_reader(file);
        let header = reader.headers().map_err(|error| refuse(&what, &error))?.clone();
        let place = |name: &str| header.iter().position(|column| column == name);
        let value = place(&wanted.value_column).ok_or_else(|| CliError::Input {
            message: format!("{what} has no column {:?}", wanted.value_column),
            hint: format!("name the one that is the value with --value-column; there are {}", list(&header)),
        })?;
        let key = place(&wanted.key_column);
        if key.is_none() && wanted.key_column != "key" {
            let message = format!("{what} has no column {:?}", wanted.key_column);
            return Err(CliError::Input { message, hint: format!("there are {}", list(&header)) });
        }
        let known = CSV_COLUMNS.into_iter().filter(|name| !matches!(*name, "key" | "value" | "offset"));
        let known = known.filter(|name| wanted.keep_partitions || *name != "partition");
        let others = known.filter_map(|name| Some((name, place(name)?))).collect();
        let columns = Columns { key, value, others };
        let expired_ms = wanted.expired_ms;
        Ok(Self { reader, what, columns, expired_ms, record: StringRecord::new() })
    }

    fn read(&mut self) -> Result<bool, CliError> {
        self.reader.read_record(&mut self.record).map_err(|error| refuse(&self.what, &error))
    }

    /// The row as a message object; `None` if the message has expired.
    fn object(&self) -> Result<Option<Vec<u8>>, CliError> {
        let cell = |at: usize| self.record.get(at).unwrap_or_default();
        let other = |name: &str| self.columns.other(name).map(cell).filter(|text| !text.is_empty());
        let mut object = Object::default();
        let key = self.columns.key.map(cell);
        match (key, self.columns.other("key_encoding").map(cell)) {
            (Some(key), Some("base64")) => object.text("key_base64", key),
            // Without a column that tells, nothing is no key.
            (Some(key), Some("text")) => object.text("key", key),
            (Some(key), None) if !key.is_empty() => object.text("key", key),
            _ => {}
        }
        let value = cell(self.columns.value);
        match other("kind").unwrap_or("text") {
            "text" => object.text("value", value),
            "binary" => object.text("value_base64", value),
            "tombstone" => object.raw("value", b"null"),
            "json" => object.raw("value", self.json("value", value)?.as_bytes()),
            kind => return Err(self.wrong("kind", kind, "text, json, binary or tombstone")),
        }
        if let Some(headers) = other("headers") {
            object.raw("headers", self.json("headers", headers)?.as_bytes());
        }
        if let Some(group) = other("group") {
            object.text("group", group);
        }
        for name in NUMBERS {
            if let Some(text) = other(name) {
                let number: i64 = text.parse().map_err(|_| self.wrong(name, text, "a whole number"))?;
                if name == "expires_at" && number < self.expired_ms {
                    return Ok(None);
                }
                object.raw(name, number.to_string().as_bytes());
            }
        }
        Ok(Some(object.end()))
    }

    fn json(&self, name: &str, text: &str) -> Result<String, CliError> {
        let parsed: Result<&RawValue, _> = serde_json::from_str(text);
        // A line of NDJSON must be one line: outside of strings, where they are escaped, line breaks mean nothing.
        parsed.map(|json| json.get().replace(['\n', '\r'], " ")).map_err(|_| self.wrong(name, text, "JSON"))
    }

    fn wrong(&self, name: &str, text: &str, wanted: &str) -> CliError {
        let line = self.record.position().map_or(0, csv::Position::line);
        let shown: String = text.chars().take(40).collect();
        CliError::Input {
            message: format!("line {line} of {}: {name} {shown:?} is not {wanted}", self.what),
            hint: "brigade export --help describes the columns".to_owned(),
        }
    }
}

impl Source for Rows {
    fn skip(&mut self, messages: u64) -> Result<u64, CliError> {
        for skipped in 0..messages {
            if !self.read()? {
                return Ok(skipped);
            }
        }
        Ok(messages)
    }

    fn next(&mut self) -> Result<Option<Body>, CliError> {
        let mut gathered = Gathered::default();
        while !gathered.is_full() {
            let before = self.reader.position().byte();
            if !self.read()? {
                break;
            }
            let bytes = self.reader.position().byte() - before;
            match self.object()? {
                Some(object) => gathered.add(&object, bytes),
                None => gathered.expired += 1,
            }
        }
        Ok(gathered.body())
    }
}

fn list(header: &StringRecord) -> String {
    header.iter().take(30).collect::<Vec<_>>().join(", ")
}

fn refuse(what: &str, error: &csv::Error) -> CliError {
    CliError::Input {
        message: format!("{what} is no CSV file: {error}"),
        hint: "values with commas, quotes or line breaks stand in double quotes".to_owned(),
    }
}

/// A JSON object that is being written.
#[derive(Default)]
struct Object(Vec<u8>);

impl Object {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        write_string(&mut self.0, name);
        self.0.push(b':');
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(&mut self.0, text);
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
