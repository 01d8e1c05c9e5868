//! Work in the background on what is stored: the archive, and snapshots, which keep recovery short.

pub mod plan;
pub mod snapshots;
