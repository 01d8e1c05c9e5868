//! Benchmarks of several regions: what they cost, and how fast a shard comes back. Those of the archive are in [`archive`].
//!
//! Every figure that has a target is a ratio of two things measured in the same run, in turn, so that whatever else the
//! machine does hits both alike. Absolute figures stand beside them for people. Run them with
//! `cargo run --release -p brigade-tests --bin regions -- SCENARIO`.

mod ack;
pub mod archive;
mod cluster;
mod compare;
mod figures;
mod pipelining;
mod recovery;
mod takeover;

use std::fmt;

use serde_json::Value;

pub use self::{
    ack::AckArgs, compare::CompareArgs, pipelining::PipeliningArgs, recovery::RecoveryArgs, takeover::TakeoverArgs,
};

/// A scenario with its arguments.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// Publish latency of three regions over that of one: all well, one down, one hanging, one ten times slower
    Ack(AckArgs),
    /// Throughput of one shard at a slow store over that at a fast one
    Pipelining(PipeliningArgs),
    /// Time from killing the leader to the next acknowledged publish, and whether anything was lost
    Takeover(TakeoverArgs),
    /// Time to start on a long journal without a snapshot
    Recovery(RecoveryArgs),
    /// Publish figures of this binary over those of another one
    Compare(CompareArgs),
}

/// What a scenario found.
#[derive(Clone, Debug)]
pub struct Report {
    /// For programs.
    pub json: Value,
    /// For people.
    pub lines: Vec<String>,
    /// Whether every target was met.
    pub met: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.lines.join("\n"))?;
        write!(f, "{}", if self.met { "every target met" } else { "A TARGET IS MISSED" })
    }
}

/// Runs a scenario. Panics when something does not work that has to.
pub async fn run(scenario: &Scenario) -> Report {
    match scenario {
        Scenario::Ack(args) => ack::run(args).await,
        Scenario::Pipelining(args) => pipelining::run(args).await,
        Scenario::Takeover(args) => takeover::run(args).await,
        Scenario::Recovery(args) => recovery::run(args).await,
        Scenario::Compare(args) => compare::run(args).await,
    }
}
