//! The outside of Brigade: its server, its client and its command line. This library is what the binary is made of.

pub mod bench;
pub mod cli;
pub mod client;
pub mod serve;
pub mod wire;
