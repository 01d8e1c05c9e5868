//! Work in the background on what is stored: snapshots, which keep recovery short; scrubbing, which proves that it is all
//! there; and restoring a cluster from one region.

pub mod budget;
pub mod restore;
pub mod scrub;
pub mod snapshots;
#[cfg(test)]
mod testbed;
