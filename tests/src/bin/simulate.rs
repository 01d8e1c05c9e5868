//! Runs simulations with many seeds, and tells the whole story of those that fail.

use std::process::ExitCode;

use brigade_tests::sim;
use clap::Parser;

/// Lines of a failed run's trace that are shown without --trace.
const SHOWN: usize = 100;

/// Simulates whole nodes on a failing store; the same seed gives the same run
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Show the whole trace of every run
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, trace } = Arguments::parse();
    let mut failed = 0;
    for seed in from..from.saturating_add(seeds) {
        let report = sim::run(seed);
        if trace {
            print!("{}", report.trace);
        }
        match &report.verdict {
            Ok(summary) => println!("seed {seed}: {summary:?}, trace {:016x}", report.trace.hash()),
            Err(problems) => {
                failed += 1;
                let lines = report.trace.lines();
                if !trace {
                    println!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
                }
                println!("seed {seed} FAILED:\n  {}", problems.join("\n  "));
            }
        }
    }
    println!("{failed} of {seeds} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
