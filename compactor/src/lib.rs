//! Work in the background on what is stored. So far: snapshots, which keep recovery short.

pub mod deletion;
pub mod repair;
pub mod snapshots;
#[cfg(test)]
mod trial;
pub mod views;
