//! The outside of Brigade: its server, its client and its command line.

pub mod bench;
mod calendar;
pub mod cli;
pub mod client;
mod cost;
mod exposition;
pub mod http;
pub mod peers;
pub mod push;
pub mod serve;
pub mod settings;
pub mod wire;
