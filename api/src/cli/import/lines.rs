//! NDJSON: message objects as a publish takes them, or as a read gives them.

use std::io::{BufRead, BufReader};

use serde_json::value::RawValue;

use super::{Body, Gathered, Source, Stream, Wanted};
use crate::cli::CliError;

/// What a read says of a message and a publish does not take.
const READ_ONLY: [&str; 1] = ["offset"];

/// The lines of a file.
pub(super) struct Lines {
    input: BufReader<Stream>,
    what: String,
    keep_partitions: bool,
    expired_ms: i64,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(file: Stream, what: String, wanted: &Wanted) -> Self {
        let (input, line) = (BufReader::with_capacity(256 * 1024, file), Vec::new());
        let Wanted { keep_partitions, expired_ms, .. } = *wanted;
        Self { input, what, keep_partitions, expired_ms, number: 0, line }
    }

    /// Reads the next line that is not blank; gives how many bytes of the file that took, 0 at the end.
    fn read(&mut self) -> Result<u64, CliError> {
        let mut bytes = 0;
        loop {
            self.line.clear();
            let read = self.input.read_until(b'\n', &mut self.line);
            let read = read.map_err(|source| CliError::Io { what: self.what.clone(), source })? as u64;
            if read == 0 {
                return Ok(0);
            }
            self.number += 1;
            bytes += read;
            self.line.truncate(self.line.trim_ascii_end().len());
            if !self.line.is_empty() {
                return Ok(bytes);
            }
        }
    }

    /// The line as a publish takes it; `None` if the message has expired.
    fn object(&self) -> Result<Option<Vec<u8>>, CliError> {
        let refuse = |why: String| CliError::Input {
            message: format!("line {} of {} is no message object: {why}", self.number, self.what),
            hint: r#"each line is an object such as {"key":"k","value":"v"}"#.to_owned(),
        };
        let mut fields: Fields<'_> = serde_json::from_slice(&self.line).map_err(|error| refuse(error.to_string()))?;
        let expires = fields.0.iter().find(|(name, _)| name == "expires_at");
        let expires = expires.and_then(|(_, time)| time.get().parse::<i64>().ok());
        if expires.is_some_and(|time| time < self.expired_ms) {
            return Ok(None);
        }
        fields.0.retain(|(name, _)| {
            !READ_ONLY.contains(&name.as_ref()) && (self.keep_partitions || name.as_ref() != "partition")
        });
        serde_json::to_vec(&fields).map(Some).map_err(|error| refuse(error.to_string()))
    }
}

impl Source for Lines {
    fn skip(&mut self, messages: u64) -> Result<u64, CliError> {
        for skipped in 0..messages {
            if self.read()? == 0 {
                return Ok(skipped);
            }
        }
        Ok(messages)
    }

    fn next(&mut self) -> Result<Option<Body>, CliError> {
        let mut gathered = Gathered::default();
        while !gathered.is_full() {
            let bytes = self.read()?;
            if bytes == 0 {
                break;
            }
            match self.object()? {
                Some(object) => gathered.add(&object, bytes),
                None => gathered.expired += 1,
            }
        }
        Ok(gathered.body())
    }
}

/// The fields of an object as they are written, in their order, repeated ones included: what is wrong with them, the server
/// says.
struct Fields<'a>(Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl serde::Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
