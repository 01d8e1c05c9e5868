//! Benchmarks of the archive.

use std::process::ExitCode;

use brigade_tests::bench::archive::{self, Scenario};
use clap::{Parser, ValueEnum};

/// Measures the compactor and reading from the archive
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Format of the output
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { scenario, output } = Arguments::parse();
    let report = archive::run(&scenario).await;
    match output {
        Output::Text => println!("{report}"),
        Output::Json => println!("{}", report.json),
    }
    if report.met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
