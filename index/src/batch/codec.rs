//! The stored form of a batch: one encapsulated Arrow IPC record-batch message, its buffers compressed.
//!
//! The schema message is not stored with every batch; it is constant ([`super::batch_schema`]), but for the columns of
//! attributes. A batch that has some of these ends with one byte behind its message that says which
//! ([`AttributeSet`]). A reader that wants an Arrow stream puts the schema message in front.

use std::collections::HashMap;

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    error::ArrowError,
    ipc::{
        CompressionType, MetadataVersion,
        reader::read_record_batch,
        root_as_message,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message},
    },
};
use bytes::Bytes;

use super::{
    attributes::AttributeSet,
    columns::Columns,
    schema::{Messages, attributes_of, batch_schema_with},
};

/// Compression of stored batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    None,
    /// LZ4 frames: the default, cheaper than the bytes it saves.
    #[default]
    Lz4,
    /// Zstandard: smaller and slower.
    Zstd,
}

/// Why a stored batch could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes are no Arrow IPC record batch.
    #[error("not an Arrow record batch: {0}")]
    Malformed(&'static str),
    /// Arrow refused it.
    #[error("Arrow refused the batch: {0}")]
    Arrow(#[from] ArrowError),
    /// The batch has other columns than those of stored batches.
    #[error("the batch has other columns than stored batches have")]
    Schema,
    /// A column has another type than in stored batches.
    #[error("column {0} of the batch has another type than in stored batches")]
    ColumnType(&'static str),
}

/// Buffers begin at multiples of this many bytes. Arrow recommends 64, which would add half a KiB to a batch of one
/// message; 8 is what its types need.
const ALIGNMENT: usize = 8;

/// Marks the start of an encapsulated Arrow IPC message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Refuses a record-batch message whose buffers claim to decompress to more than `limit` bytes in total.
///
/// Arrow allocates what a compressed buffer's length prefix claims, before it looks at the data; an unchecked prefix from
/// outside could ask for all memory there is.
///
/// # Errors
/// When the claim is larger, or a buffer lies outside the body.
pub fn check_decoded_size(header: &arrow::ipc::RecordBatch<'_>, body: &[u8], limit: usize) -> Result<(), BatchError> {
    let compressed = header.compression().is_some();
    let mut total = 0_usize;
    for buffer in header.buffers().into_iter().flatten() {
        let (at, len) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let (Ok(at), Ok(len)) = (at, len) else {
            return Err(BatchError::Malformed("a buffer has a negative place"));
        };
        let bytes = at.checked_add(len).and_then(|end| body.get(at..end));
        let bytes = bytes.ok_or(BatchError::Malformed("a buffer lies outside the body"))?;
        let claimed = match bytes.first_chunk::<8>() {
            Some(prefix) if compressed => i64::from_le_bytes(*prefix),
            None if compressed && len > 0 => return Err(BatchError::Malformed("a buffer is shorter than its prefix")),
            _ => -1,
        };
        total = total.saturating_add(usize::try_from(claimed).unwrap_or(len));
    }
    if total > limit { Err(BatchError::Malformed("it decompresses to more than is allowed")) } else { Ok(()) }
}

/// Encodes a record batch with one of the schemas of [`batch_schema_with`] as one encapsulated IPC message.
///
/// # Errors
/// When Arrow refuses the batch, or it has other columns.
pub fn encode(batch: &RecordBatch, compression: Compression) -> Result<Bytes, BatchError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let options = options.try_with_compression(match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    })?;
    let mut dictionaries = DictionaryTracker::new(true);
    let mut context = IpcWriteContext::default();
    let (_, encoded) = IpcDataGenerator::default().encode(batch, &mut dictionaries, &options, &mut context)?;
    let mut out = Vec::with_capacity(encoded.ipc_message.len() + encoded.arrow_data.len() + 16);
    write_message(&mut out, encoded, &options)?;
    let attributes = attributes_of(&batch.schema())?;
    if !attributes.is_empty() {
        out.push(attributes.0);
    }
    Ok(out.into())
}

/// Decodes what [`encode`] made. Never panics on foreign bytes; columns that were not compressed are not copied.
///
/// # Errors
/// When the bytes are not one whole record-batch message with the columns that they say.
pub fn decode(bytes: &Bytes) -> Result<Messages, BatchError> {
    let prefix = bytes.get(..8).ok_or(BatchError::Malformed("shorter than its prefix"))?;
    if prefix[..4] != CONTINUATION {
        return Err(BatchError::Malformed("no continuation marker"));
    }
    let metadata_len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
    let metadata = bytes.get(8..8 + metadata_len).ok_or(BatchError::Malformed("its metadata is cut off"))?;
    let message = root_as_message(metadata).map_err(|_| BatchError::Malformed("its metadata is no IPC message"))?;
    let header = message.header_as_record_batch().ok_or(BatchError::Malformed("not a record-batch message"))?;
    let body = Buffer::from(bytes.slice(8 + metadata_len..));
    let body_len = usize::try_from(message.bodyLength()).unwrap_or(usize::MAX);
    let attributes = match body.get(body_len..) {
        None => return Err(BatchError::Malformed("its body is cut off")),
        Some([]) => AttributeSet::default(),
        // Columns of attributes that only a newer version knows lie behind those known here, and are left unread.
        Some([bits]) => AttributeSet(bits & AttributeSet::ALL.0),
        Some(_) => return Err(BatchError::Malformed("there is something unknown behind it")),
    };
    check_decoded_size(&header, &body, Columns::MAX_BYTES)?;
    // Arrow asserts here and there what it should refuse. Stored batches are checked against their checksum before they
    // come here, so this is the second line of defence.
    let schema = batch_schema_with(attributes);
    let read = || read_record_batch(&body, header, schema, &HashMap::new(), None, &message.version());
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    Messages::new(read.map_err(|_| BatchError::Malformed("Arrow cannot read it"))??)
}
