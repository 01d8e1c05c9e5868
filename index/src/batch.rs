//! Batches: messages of one partition that are stored together, as Arrow record batches.

mod attributes;
mod codec;
mod columns;
mod schema;

pub use attributes::{AttributeSet, Attributes};
pub use codec::{BatchError, Compression, check_decoded_size, decode, encode};
pub use columns::{Columns, MessageRef, ValueKind};
pub use schema::{Messages, batch_schema, batch_schema_with};

#[cfg(test)]
mod tests;
