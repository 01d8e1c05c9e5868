//! The commit protocol of one shard as a pure core: values in, decisions out. No async, no clock, no store.
//!
//! - [`Fold`]: what the path of one region says, object by object; [`Extents`]: where its entries are.
//! - [`Candidate`]: how one region is taken over, step by step; [`Election`]: all regions under one ballot.
//! - [`merge`], [`needed_sets`]: what a leader starts from, and whose promises it needs.
//! - [`Lane`]: appends to one region; [`Reign`]: all regions, what is committed, who votes, where a path may be cut.
//! - [`Dead`]: what may be deleted where a path was cut.
//!
//! The driver that carries the decisions out is in [`crate::shard`].

mod append;
mod election;
mod extents;
mod fold;
mod merge;
mod reign;
mod takeover;
mod truncation;

pub use append::{Append, Cargo, Lane};
pub use election::{Elected, Election, Promise};
pub use extents::{Extents, Place};
pub use fold::{Accepted, Fold, FoldError};
pub use merge::{Merged, merge, needed_sets};
pub use reign::Reign;
pub use takeover::{Abandoned, Candidate, Want};
pub use truncation::{Dead, Verdict};

#[cfg(test)]
mod tests;
