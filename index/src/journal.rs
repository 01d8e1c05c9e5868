//! The commit protocol of one shard as a pure core: values in, decisions out. No async, no clock, no store.
//!
//! - [`Fold`]: what the path of one region says, object by object.
//! - [`Candidate`]: how one region is taken over, step by step.
//! - [`merge`]: what a leader starts from, given the promises of a majority.
//! - [`Lane`] and [`Quorum`]: which appends are in flight, accepted, and committed.
//!
//! The driver that carries the decisions out is in [`crate::shard`].

mod append;
mod extents;
mod fold;
mod merge;
mod takeover;

pub use append::{Lane, Quorum};
pub use extents::{Extents, Place};
pub use fold::{Accepted, Fold, FoldError};
pub use merge::{Merged, merge};
pub use takeover::{Abandoned, Candidate, Want};

#[cfg(test)]
mod tests;
