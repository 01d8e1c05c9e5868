//! Work in the background on what is stored: snapshots, which keep recovery short; and scrubbing, which proves that it is
//! all there.

pub mod budget;
pub mod scrub;
pub mod snapshots;
