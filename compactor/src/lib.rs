//! Work in the background on what is stored. So far: snapshots, which keep recovery short.

pub mod snapshots;
pub mod views;
