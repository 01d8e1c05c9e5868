//! Provisioning and inspection of buckets, and (beside this crate, as scripts and compose files) local S3 servers to
//! develop against.
//!
//! The data path never goes through here: it uses `brigade_index::store` alone.

mod client;
mod create;
mod error;
mod inspect;

pub use create::{Provisioned, create_bucket};
pub use error::{BucketError, BucketErrorKind};
pub use inspect::{Finding, inspect_bucket};
