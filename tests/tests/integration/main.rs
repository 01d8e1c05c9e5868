//! Brigade from outside: every test starts a node of its own, as a process or in simulation.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

mod archive;
mod attributes;
mod bad_clients;
mod bad_input;
mod bench_queue;
mod cli;
mod corruption;
mod crash;
mod engines;
mod idempotence;
mod idle;
mod many_topics;
mod members;
mod operations;
mod overload;
mod publish;
mod push;
mod queue;
mod read;
mod regions;
mod s3;
mod scrub;
mod seats;
mod simulation;
mod store_down;
mod subscriptions;
mod tidy;
mod topics;
mod transactions;
mod transfer;
