//! Runs simulations with many seeds, and tells the whole story of those that fail.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use brigade_tests::sim::{self, Report};
use clap::Parser;

/// Lines of a failed run's trace that are shown without --trace.
const SHOWN: usize = 100;

/// Simulates whole clusters on failing stores and networks
///
/// A cluster of several nodes over one, three or five regional stores is put under load and trouble: nodes die, pause, take
/// over and lose their sense of time; regions are away, slow, full, or lose what they held; the set of regions changes.
/// Afterwards all is put right, and the history of what clients saw is judged, with the contents of each region alone. Time
/// is virtual, everything is drawn from the seed, and the same seed gives the same run.
///
/// A failing seed N is told line by line (time in seconds, who, what) by: simulate --from N --seeds 1 --trace
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs at the same time; as many as there are processors when not given
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Show the whole trace of every run
    #[arg(long)]
    trace: bool,
    /// Run every seed twice, the second time with pauses in real time: the traces must be the same
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, jobs, trace, twice } = Arguments::parse();
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let (next, end) = (AtomicU64::new(from), from.saturating_add(seeds));
    let mut failed = 0;
    thread::scope(|scope| {
        let (reports, reported) = mpsc::channel();
        for _ in 0..jobs {
            let (next, reports) = (&next, reports.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    // Nobody listens any more when the main thread has failed.
                    if seed >= end || reports.send(run(seed, twice)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        let (mut waiting, mut shown) = (BTreeMap::new(), from);
        for report in reported {
            waiting.insert(report.seed, report);
            while let Some(report) = waiting.remove(&shown) {
                failed += u64::from(!show(&report, trace));
                shown += 1;
            }
        }
    });
    println!("{failed} of {seeds} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seed: u64, twice: bool) -> Report {
    let mut report = sim::run(seed);
    if twice && let Some(difference) = report.trace.difference(&sim::run_slowly(seed).trace) {
        let problems = report.verdict.err().unwrap_or_default();
        report.verdict = Err(std::iter::once(difference).chain(problems).collect());
    }
    report
}

/// Whether the run went well.
fn show(report: &Report, trace: bool) -> bool {
    let Report { seed, .. } = report;
    if trace {
        print!("{}", report.trace);
    }
    match &report.verdict {
        Ok(summary) => println!("seed {seed}: {summary:?}, trace {:016x}", report.trace.hash()),
        Err(problems) => {
            let lines = report.trace.lines();
            if !trace {
                println!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
            }
            println!("seed {seed} FAILED:\n  {}", problems.join("\n  "));
        }
    }
    report.verdict.is_ok()
}
