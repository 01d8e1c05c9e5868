//! Batches: messages of one partition that are stored together, as Arrow record batches.

mod codec;
mod columns;
mod schema;

pub use codec::{BatchError, Compression, check_decoded_size, decode, encode};
pub use columns::{Columns, MessageRef, ValueKind};
pub use schema::{Messages, batch_schema};

#[cfg(test)]
mod tests;
