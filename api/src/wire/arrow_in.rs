//! `application/vnd.apache.arrow.stream`: messages as record batches.
//!
//! The stream is taken apart here rather than by Arrow's stream reader, because that allocates what lengths in the
//! stream claim. Here every length is compared with what there is before anything is allocated for it.

mod columns;
mod schema;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::SchemaRef,
    ipc::{self, Message, reader::read_record_batch, root_as_message_with_opts},
};
use brigade_index::{
    batch::{BatchError, check_decoded_size},
    limits::MAX_MESSAGES_PER_PUBLISH,
};
use bytes::Bytes;

use super::{
    MessageSink,
    error::{Place, Refusal, WireError, codes},
    message::too_many_messages,
};

const STREAM_HINT: &str = "Send an Arrow IPC stream (not a file): a schema, record batches, then the end.";

/// Largest metadata of one IPC message. Ours are small; the rest is room for what other writers put into a schema.
const MAX_METADATA_BYTES: usize = 256 * 1024;

/// Parses an Arrow IPC stream and pushes its rows in their order; those without a timestamp get `now_ms`, milliseconds
/// since the Unix epoch. All record batches together may decompress to `max_bytes`. Returns how many messages there were.
///
/// Columns: `value` (Utf8, LargeUtf8, Binary or LargeBinary), and optional `key` (the same types), `timestamp`
/// (Timestamp or Int64 milliseconds), `partition` (Int32, Int64 or UInt32), `kind` (UInt8: 0 text, 1 JSON, 2 bytes),
/// `headers` (Map of Utf8 to Utf8), `group` and `deduplication_id` (Utf8 or LargeUtf8), `priority` (UInt8, Int32, Int64
/// or UInt32), `deliver_at` and `expires_at` (like `timestamp`). Without a kind, strings are text and binaries are bytes. A value of kind 1 means
/// what it means as `value` in a JSON body.
///
/// # Errors
/// When the stream is damaged, has other columns or types, or decompresses to more than is allowed; otherwise like
/// [`super::parse_json`].
pub fn parse_arrow(
    body: &Bytes,
    now_ms: i64,
    max_bytes: usize,
    sink: &mut impl MessageSink,
) -> Result<usize, WireError> {
    let mut stream = Stream { body, at: 0 };
    let mut schema: Option<SchemaRef> = None;
    let (mut count, mut bytes_left) = (0, max_bytes);
    while let Some((message, data)) = stream.next()? {
        if message.version() < ipc::MetadataVersion::V4 {
            return Err(malformed("its metadata version is too old"));
        }
        match (&schema, message.header_as_schema(), message.header_as_record_batch()) {
            (None, Some(header), _) => schema = Some(schema::read(&header)?),
            (Some(schema), _, Some(header)) => {
                let rows = usize::try_from(header.length()).map_err(|_| malformed("a batch has a negative length"))?;
                if rows > MAX_MESSAGES_PER_PUBLISH - count {
                    return Err(WireError::at(Place::default(), too_many_messages()));
                }
                check_decoded_size(&header, &data, bytes_left).map_err(|error| refuse_size(&error, max_bytes))?;
                bytes_left = bytes_left.saturating_sub(claimed_size(&header, &data));
                let batch = decode(&data, header, schema, message.version())?;
                columns::push_rows(&batch, &mut count, now_ms, sink)?;
            }
            (None, ..) => return Err(malformed("it does not begin with a schema")),
            (Some(_), Some(_), _) => return Err(malformed("it has two schemas")),
            _ => return Err(malformed("it has a message that is no record batch (dictionaries are not supported)")),
        }
    }
    if schema.is_none() {
        return Err(malformed("it is empty"));
    }
    if count == 0 { Err(WireError::no_messages("Send at least one row.")) } else { Ok(count) }
}

fn malformed(problem: impl std::fmt::Display) -> WireError {
    WireError::new(codes::INVALID_ARROW, format!("the body is no usable Arrow stream: {problem}"), STREAM_HINT)
}

fn refuse_size(error: &BatchError, max_bytes: usize) -> WireError {
    match error {
        BatchError::Malformed(problem) if problem.starts_with("it decompresses") => {
            let message = format!("the record batches decompress to more than {max_bytes} bytes");
            WireError::new(codes::REQUEST_TOO_LARGE, message, "Split them over several requests.")
        }
        other => malformed(other),
    }
}

/// What the buffers say they decompress to; [`check_decoded_size`] has seen that they lie inside of `data`.
fn claimed_size(header: &ipc::RecordBatch<'_>, data: &[u8]) -> usize {
    let compressed = header.compression().is_some();
    let of = |buffer: &ipc::Buffer| {
        let len = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        let at = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let prefix = data.get(at..).and_then(<[u8]>::first_chunk::<8>).filter(|_| compressed);
        prefix.and_then(|prefix| usize::try_from(i64::from_le_bytes(*prefix)).ok()).unwrap_or(len)
    };
    header.buffers().into_iter().flatten().map(of).fold(0, usize::saturating_add)
}

/// Has Arrow decode a record batch. Arrow validates what it decodes, but some of its checks are assertions.
fn decode(
    data: &Buffer,
    header: ipc::RecordBatch<'_>,
    schema: &SchemaRef,
    version: ipc::MetadataVersion,
) -> Result<RecordBatch, WireError> {
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        read_record_batch(data, header, schema.clone(), &HashMap::new(), None, &version)
    }));
    match decoded {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(error)) => Err(malformed(error)),
        Err(_) => Err(malformed("a record batch contradicts itself")),
    }
}

/// The messages of an IPC stream, one after the other.
struct Stream<'a> {
    body: &'a Bytes,
    at: usize,
}

impl<'a> Stream<'a> {
    /// The next message and its data; `None` at the end.
    fn next(&mut self) -> Result<Option<(Message<'a>, Buffer)>, WireError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let Some(prefix) = rest.first_chunk::<8>() else {
            return Err(malformed("it is cut off"));
        };
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *prefix;
        if [c0, c1, c2, c3] != [0xff; 4] {
            return Err(malformed("a message does not begin with a continuation marker"));
        }
        let metadata_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if metadata_len == 0 {
            return if rest.len() == 8 { Ok(None) } else { Err(malformed("there is something behind its end")) };
        }
        if metadata_len > MAX_METADATA_BYTES {
            return Err(malformed("the metadata of a message is too large"));
        }
        let metadata = rest.get(8..8 + metadata_len).ok_or_else(|| malformed("it is cut off"))?;
        let message = verified(metadata)?;
        let data_len = usize::try_from(message.bodyLength()).map_err(|_| malformed("a length is negative"))?;
        let data_at = self.at + 8 + metadata_len;
        let end = data_at.checked_add(data_len).filter(|end| *end <= self.body.len());
        let end = end.ok_or_else(|| malformed("it is cut off"))?;
        self.at = end;
        Ok(Some((message, Buffer::from(self.body.slice(data_at..end)))))
    }
}

/// The metadata of a message, all of its references checked.
fn verified(metadata: &[u8]) -> Result<Message<'_>, WireError> {
    // The options' type belongs to a crate that we do not otherwise need; it is taken from the function's signature.
    fn default_options<O: Default, R>(_: fn(&O, &'static [u8]) -> R) -> O {
        O::default()
    }
    let mut options = default_options(root_as_message_with_opts);
    // References may share their targets, so that a few bytes could make the check itself take long.
    options.max_depth = 32;
    options.max_tables = 10_000;
    options.max_apparent_size = 8 * MAX_METADATA_BYTES;
    root_as_message_with_opts(&options, metadata).map_err(|_| malformed("the metadata of a message is damaged"))
}

pub(super) fn refuse_row(index: usize, refusal: Refusal) -> WireError {
    WireError::at(Place { index: Some(index), line: None }, refusal)
}
