//! The index: words as types, stored formats, regional stores, the journal and the state of a shard.

pub mod batch;
pub mod command;
pub mod env;
pub mod format;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod names;
pub mod shard;
pub mod state;
pub mod store;
