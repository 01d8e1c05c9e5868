//! The harness with which Brigade is tested from outside: real processes over real HTTP, and whole nodes in simulation.
//!
//! - [`process`] runs `brigade serve` as a child that may be killed, [`binary`] finds or builds it,
//! - [`http`] and [`raw`] talk to it, well-behaved and not,
//! - [`webhook`] is posted to by it,
//! - [`history`] remembers what was sent and checks what is stored against it,
//! - [`load`] publishes and consumes like real clients, through crashes,
//! - [`dataset`] makes log lines to send, [`metrics`] reads the node's own counters,
//! - [`sim`] runs nodes on a simulated store in virtual time: the same seed gives the same trace.

pub mod bench;
pub mod binary;
pub mod dataset;
pub mod history;
pub mod http;
pub mod load;
pub mod metrics;
pub mod process;
pub mod raw;
pub mod sim;
pub mod webhook;
