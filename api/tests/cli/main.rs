//! The client and the command line against a small server that behaves as the HTTP interface says, and misbehaves on
//! demand.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod client;
mod commands;
mod mock;
mod transfer;
