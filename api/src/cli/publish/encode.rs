//! Turns lines into NDJSON publish bodies of bounded size. Pure: bytes in, requests out.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;

use super::PublishArgs;
use crate::cli::CliError;

/// Bytes that the envelope of a value takes at most, besides the fields common to all messages.
const ENVELOPE_BYTES: usize = 32;

/// Most of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) messages: u32,
    pub(super) bytes: usize,
}

/// One publish request and where its messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// NDJSON.
    pub(super) body: Bytes,
    /// Messages in it.
    pub(super) messages: u64,
    /// Bytes of input, for progress.
    pub(super) input_bytes: u64,
    /// First input line, from 1.
    pub(super) first_line: u64,
    /// Last input line.
    pub(super) last_line: u64,
}

/// How a line becomes a message object.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    /// The opening brace and the fields common to all messages, each with its comma.
    prefix: Vec<u8>,
    key_field: Option<String>,
    ndjson: bool,
}

impl Encoder {
    /// # Errors
    /// When the place of the key is no JSON pointer, or several messages would have one deduplication id.
    pub(super) fn new(args: &PublishArgs) -> Result<Self, CliError> {
        if let Some(pointer) = &args.key_field
            && !pointer.is_empty()
            && !pointer.starts_with('/')
        {
            return Err(CliError::Usage(format!("--key-field {pointer:?} is no JSON pointer: it begins with /")));
        }
        let mut prefix = String::from("{");
        if let Some(key) = &args.key {
            prefix += &format!("\"key\":{},", Value::from(key.as_str()));
        }
        if !args.header.is_empty() {
            let header =
                |(name, value): &(String, String)| format!("{}:{}", Value::from(&name[..]), Value::from(&value[..]));
            let headers: Vec<_> = args.header.iter().map(header).collect();
            prefix += &format!("\"headers\":{{{}}},", headers.join(","));
        }
        if let Some(partition) = args.partition {
            prefix += &format!("\"partition\":{partition},");
        }
        if let Some(timestamp) = args.timestamp {
            prefix += &format!("\"timestamp\":{timestamp},");
        }
        prefix += &attributes(args)?;
        Ok(Self { prefix: prefix.into_bytes(), key_field: args.key_field.clone(), ndjson: args.ndjson })
    }

    /// Appends a line's message object; says whether there was one.
    fn encode(&self, line: &[u8], number: u64, out: &mut Vec<u8>) -> Result<bool, CliError> {
        if self.ndjson {
            if line.trim_ascii().is_empty() {
                return Ok(false);
            }
            out.extend_from_slice(line);
            out.push(b'\n');
            return Ok(true);
        }
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        if let Some(pointer) = &self.key_field {
            let key = key_of(line, pointer, number).inspect_err(|_| out.truncate(start))?;
            out.extend_from_slice(b"\"key\":");
            json_string(&key, out)?;
            out.push(b',');
        }
        match std::str::from_utf8(line) {
            Ok(text) => {
                out.extend_from_slice(b"\"value\":");
                json_string(text, out)?;
            }
            Err(_) => {
                out.extend_from_slice(b"\"value_base64\":\"");
                out.extend_from_slice(STANDARD.encode(line).as_bytes());
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(true)
    }
}

fn json_string(text: &str, out: &mut Vec<u8>) -> Result<(), CliError> {
    serde_json::to_writer(out.by_ref(), text).map_err(|e| CliError::Failed(e.to_string()))
}

/// The key in a JSON line: a string as it is, any other JSON as its text.
fn key_of(line: &[u8], pointer: &str, number: u64) -> Result<String, CliError> {
    let refused = |why: String| CliError::Input {
        message: format!("line {number}: {why}"),
        hint: format!("--key-field takes the key at {pointer} from each line's JSON."),
    };
    let value: Value = serde_json::from_slice(line).map_err(|e| refused(format!("not JSON: {e}")))?;
    match value.pointer(pointer) {
        Some(Value::String(key)) => Ok(key.clone()),
        Some(Value::Null) | None => Err(refused(format!("it has no value at {pointer}"))),
        Some(other) => Ok(other.to_string()),
    }
}

/// The fields of attributes, each with its comma.
fn attributes(args: &PublishArgs) -> Result<String, CliError> {
    let mut fields = String::new();
    if let Some(group) = &args.group {
        fields += &format!("\"group\":{},", Value::from(group.as_str()));
    }
    if let Some(priority) = args.priority {
        fields += &format!("\"priority\":{priority},");
    }
    if let Some(delay_ms) = args.delay {
        fields += &format!("\"delay_ms\":{delay_ms},");
    }
    if let Some(ttl_ms) = args.ttl {
        fields += &format!("\"ttl_ms\":{ttl_ms},");
    }
    if let Some(id) = &args.deduplication_id {
        if args.values.len() != 1 {
            let problem = "--deduplication-id is for one VALUE: of several with the same id only the first is stored";
            return Err(CliError::Usage(problem.to_owned()));
        }
        fields += &format!("\"deduplication_id\":{},", Value::from(id.as_str()));
    }
    Ok(fields)
}

/// Collects lines into requests.
#[derive(Debug)]
pub(super) struct Batcher {
    encoder: Encoder,
    limits: Limits,
    body: Vec<u8>,
    messages: u64,
    input_bytes: u64,
    first_line: u64,
    lines: u64,
}

impl Batcher {
    pub(super) fn new(encoder: Encoder, limits: Limits) -> Self {
        Self { encoder, limits, body: Vec::new(), messages: 0, input_bytes: 0, first_line: 1, lines: 0 }
    }

    /// Whether nothing waits to be sealed.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds a line without its line end, which stood in `input_bytes` bytes of the input. Returns a request when this
    /// line opened another one, which may be full at once: see [`Self::take_full`].
    pub(super) fn add(&mut self, line: &[u8], input_bytes: u64) -> Result<Option<Request>, CliError> {
        let size = line.len() + self.encoder.prefix.len() + ENVELOPE_BYTES;
        let sealed = if self.body.len() + size > self.limits.bytes { self.seal() } else { None };
        if self.body.capacity() == 0 {
            self.body.reserve(size);
        }
        self.lines += 1;
        self.input_bytes += input_bytes;
        if self.encoder.encode(line, self.lines, &mut self.body)? {
            self.messages += 1;
        }
        Ok(sealed)
    }

    /// The open request if it has all the messages it may have.
    pub(super) fn take_full(&mut self) -> Option<Request> {
        (self.messages >= u64::from(self.limits.messages)).then(|| self.seal()).flatten()
    }

    /// The open request, if it has any message.
    pub(super) fn seal(&mut self) -> Option<Request> {
        if self.messages == 0 {
            return None;
        }
        // The next body will be about as large.
        let next = Vec::with_capacity(self.body.len() + self.body.len() / 8);
        let request = Request {
            body: Bytes::from(std::mem::replace(&mut self.body, next)),
            messages: self.messages,
            input_bytes: self.input_bytes,
            first_line: self.first_line,
            last_line: self.lines,
        };
        self.first_line = self.lines + 1;
        self.messages = 0;
        self.input_bytes = 0;
        Some(request)
    }
}

#[cfg(test)]
mod tests;
