//! `brigade-model list | check NAME | check all --quick | walk NAME --seconds N --seed S`

use std::{process::ExitCode, time::Duration};

use brigade_model::{
    run::{self, Order, Outcome},
    scenario::Scenario,
    scenarios,
};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Model checking of Brigade's journal on its own pure core")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Names all scenarios.
    List,
    /// Explores a scenario, or `all` of them.
    Check {
        /// Name of a scenario, or `all`.
        name: String,
        /// Of all only those that are exhausted soon.
        #[arg(long)]
        quick: bool,
        /// Stop each after so many seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Breadth first: shortest counterexamples, much more memory.
        #[arg(long)]
        breadth: bool,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Walks at random through a scenario.
    Walk {
        /// Name of a scenario.
        name: String,
        /// For so many seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Equal seeds walk the same ways.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::List => {
            for scenario in scenarios::all() {
                println!("{:42} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        Command::Check { name, quick, seconds, breadth, threads } => {
            let order = if breadth { Order::Breadth } else { Order::Depth };
            let limit = Duration::from_secs(seconds);
            chosen(&name, quick, |scenario| run::check(scenario, order, limit, threads))
        }
        Command::Walk { name, seconds, seed } => {
            chosen(&name, false, |scenario| run::walk(scenario, Duration::from_secs(seconds), seed))
        }
    }
}

fn chosen(name: &str, quick: bool, run: impl Fn(&Scenario) -> Outcome) -> ExitCode {
    let mut chosen = scenarios::all();
    chosen.retain(|scenario| if name == "all" { scenario.quick || !quick } else { scenario.name == name });
    if chosen.is_empty() {
        eprintln!("no scenario is called {name}; `list` names them");
        return ExitCode::FAILURE;
    }
    let mut whole = true;
    for scenario in &chosen {
        whole &= report(scenario, &run(scenario));
    }
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(scenario: &Scenario, outcome: &Outcome) -> bool {
    let Outcome { states, took, exhausted, flaw, progress } = outcome;
    let end = if *exhausted { "exhausted" } else { "not exhausted" };
    if let Some((way, flaw)) = flaw {
        run::print(way, flaw);
    }
    let result = if flaw.is_some() { "VIOLATED" } else { "no violation" };
    println!(
        "{:42} {states:>10} states {:>8.1} s  {end}, {result}, progress {progress}",
        scenario.name,
        took.as_secs_f64()
    );
    flaw.is_none()
}
