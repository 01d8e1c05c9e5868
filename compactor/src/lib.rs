//! Work in the background on what is stored: snapshots, which keep recovery short; deletion of what nothing refers to any
//! more; repair of regions; views of the archive for other programs. And, by hand, scrubbing, which proves that everything is
//! there, and restoring a cluster from one region.

pub mod budget;
pub mod deletion;
pub mod repair;
pub mod restore;
pub mod scrub;
pub mod snapshots;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod trial;
pub mod views;
