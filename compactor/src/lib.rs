//! Work in the background on what is stored: snapshots, which keep recovery short, and the compactor, which moves
//! messages from the journal into the archive.

pub mod budget;
pub mod deletion;
pub mod job;
pub mod keys;
pub mod metrics;
pub mod plan;
pub mod repair;
pub mod snapshots;
pub mod status;
#[cfg(test)]
mod trial;
pub mod views;
pub mod worker;
