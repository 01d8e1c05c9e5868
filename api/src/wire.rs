//! Wire formats: what clients send and get, as synchronous code over bytes.
//!
//! Parsers push one message after the other into a [`MessageSink`] and borrow from the body as far as they can, so a
//! published message is copied once, from the body into its column. Encoders write straight from the columns of a
//! stored batch. Parsers check syntax and fields; the sink checks sizes and placement. No HTTP in here.

mod arrow_in;
mod arrow_out;
mod attributes;
mod deliveries;
mod document;
mod encode;
mod error;
mod escape;
mod fields;
mod json;
mod message;
mod ndjson;
mod raw;

use brigade_index::batch::{MessageRef, Messages};

pub use arrow_in::parse_arrow;
pub use arrow_out::{encode_arrow, read_schema};
pub use attributes::GivenAttributes;
pub use deliveries::{Verdict, encode_dead_letters, encode_deliveries, write_delivery, write_error, write_verdicts};
pub use encode::{
    encode_json, encode_ndjson, encode_placements, encode_poll, encode_sse, write_message, write_messages,
    write_positions,
};
pub use error::{Refusal, WireError, codes};
pub use escape::{write_i64, write_string, write_u64};
pub use json::{parse_json, parse_message_list};
pub use ndjson::parse_ndjson;
pub use raw::{RawMeta, parse_raw};

/// Takes messages as they are parsed.
pub trait MessageSink {
    /// Takes one message; `partition` is the one that the client asked for, if it did. With a deduplication id it is to be
    /// stored only once.
    ///
    /// # Errors
    /// When the message is refused, for its size or its partition. Parsing stops, and the refusal becomes a
    /// [`WireError`] that names the message.
    fn push(
        &mut self,
        message: MessageRef<'_>,
        partition: Option<u32>,
        deduplication_id: Option<&str>,
    ) -> Result<(), Refusal>;
}

/// Consecutive messages of one partition, to be encoded for a reader.
#[derive(Clone, Debug)]
pub struct MessageSlice {
    /// Partition that the messages are in.
    pub partition: u32,
    /// Offset of row `first`.
    pub base_offset: u64,
    /// The stored batch, or what is left of it.
    pub messages: Messages,
    /// First row of the slice.
    pub first: usize,
    /// Number of rows. Rows beyond the end of `messages` do not exist and are left out.
    pub rows: usize,
}

impl MessageSlice {
    /// The rows that exist.
    fn range(&self) -> std::ops::Range<usize> {
        let end = self.first.saturating_add(self.rows).min(self.messages.rows());
        self.first.min(end)..end
    }

    /// Offset of row `row`, which is not before `first`.
    fn offset(&self, row: usize) -> u64 {
        self.base_offset + (row - self.first) as u64
    }
}

#[cfg(test)]
mod tests;
