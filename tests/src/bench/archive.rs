//! Benchmarks of the archive: how fast the compactor is, what it costs, whether it is in the way, and how fast old messages
//! are read. Run them with `cargo run --release -p brigade-tests --bin archive -- SCENARIO`.
//!
//! Servers are processes on a directory of their own under the system's directory for temporary files, with the default
//! settings but for what a scenario names. Speed for a core is taken from processor time, which suffers least from what
//! else a machine does.

mod amplification;
mod beside;
mod catch_up;
mod compact;
mod format;
mod load;
mod requests;
mod slow;

pub use self::{
    amplification::AmplificationArgs, beside::BesideArgs, catch_up::CatchUpArgs, compact::CompactArgs,
    format::FormatArgs, requests::RequestsArgs,
};
use super::Report;

/// A scenario with its arguments.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// The format alone, on one core: writing, merging, reading, and size
    Format(FormatArgs),
    /// A backlog that is archived and merged: MiB a second and core, memory, size beside the journal's
    Compact(CompactArgs),
    /// Bytes of archive files written for each byte archived, under a steady load
    Amplification(AmplificationArgs),
    /// A reader of old messages over bare GETs of the same ranges, one after the other
    CatchUp(CatchUpArgs),
    /// Store requests for each GiB published, from the first publish to the last deletion; then none
    Requests(RequestsArgs),
    /// Publishing beside a busy compactor over publishing without one
    Beside(BesideArgs),
}

/// Runs a scenario. Panics when something does not work that has to.
pub async fn run(scenario: &Scenario) -> Report {
    match scenario {
        Scenario::Format(args) => format::run(args),
        Scenario::Compact(args) => compact::run(args).await,
        Scenario::Amplification(args) => amplification::run(args).await,
        Scenario::CatchUp(args) => catch_up::run(args).await,
        Scenario::Requests(args) => requests::run(args).await,
        Scenario::Beside(args) => beside::run(args).await,
    }
}
