#![doc = include_str!("../README.md")]

pub mod batch;
pub mod command;
pub mod env;
pub mod filter;
pub mod format;
pub mod founding;
pub mod ids;
pub mod journal;
pub mod keys;
pub mod lease;
pub mod limits;
pub mod names;
pub mod region;
pub mod shard;
pub mod state;
pub mod store;
