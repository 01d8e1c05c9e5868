//! Whole clusters in simulation.

use std::ops::Range;

use brigade_tests::sim;

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [0, 3, 7, 11] {
        if let Some(difference) = sim::run(seed).trace.difference(&sim::run_slowly(seed).trace) {
            panic!("seed {seed}: {difference}");
        }
    }
    assert_ne!(sim::run(1).trace.hash(), sim::run(2).trace.hash());
}

/// Runs seeds that run with every change; `simulate` runs others.
fn histories_are_right(seeds: Range<u64>) {
    let mut failed = Vec::new();
    let mut acknowledged = 0;
    for seed in seeds {
        match sim::run(seed).verdict {
            Ok(summary) => acknowledged += summary.acknowledged,
            Err(problems) => failed.push(format!("seed {seed}: {}", problems[..problems.len().min(5)].join("\n  "))),
        }
    }
    println!("{acknowledged} messages acknowledged");
    assert!(failed.is_empty(), "{}\nhave the whole story: simulate --from SEED --seeds 1 --trace", failed.join("\n"));
    assert!(acknowledged > 1_000, "there was load");
}

#[test]
fn histories_of_many_seeds_are_right() {
    histories_are_right(0..20);
}

#[test]
fn histories_of_further_seeds_are_right() {
    histories_are_right(20..40);
}
