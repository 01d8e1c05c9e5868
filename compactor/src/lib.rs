//! Work in the background on what is stored: snapshots, which keep recovery short; the compactor, which moves messages from
//! the journal into the archive; deletion of what nothing refers to any more; repair of regions; views of the archive for
//! other programs. And, by hand, scrubbing, which proves that everything is there, and restoring a cluster from one region.

pub mod budget;
pub mod deletion;
pub mod job;
pub mod keys;
pub mod metrics;
pub mod plan;
pub mod repair;
pub mod restore;
pub mod scrub;
pub mod snapshots;
pub mod status;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod trial;
pub mod views;
pub mod worker;
