//! What it costs to look at a large state.

use std::hint::black_box;

use tokio::time::Instant;

use super::*;
use crate::status::backlog;

const PARTITIONS: u32 = 100;

/// A state of so many files, and so many runs behind them, in each partition.
fn large(files: usize, runs: usize, retention: Retention) -> World {
    let mut world = World::new(50);
    // Files are full: none of them is merged.
    world.settings.max_file_bytes = 1_000;
    let topic = world.topic("t", PARTITIONS, retention);
    for _ in 0..files {
        let first = world.log(topic, 0).high_watermark;
        world.publish(topic, 0..PARTITIONS, 10_000);
        let end = world.log(topic, 0).high_watermark;
        let part = |partition| ClaimPart { topic, partition: Partition(partition), first, end };
        let job = ArchiveJob { parts: (0..PARTITIONS).map(part).collect(), input_bytes: 0 };
        world.carry_out(&Plan { jobs: vec![Job::Archive(job)], ..Plan::default() });
    }
    for _ in 0..runs {
        world.publish(topic, 0..PARTITIONS, 1_000);
    }
    world
}

fn micros<T>(what: &str, mut look: impl FnMut() -> T) {
    let once = |_| {
        let start = Instant::now();
        black_box(look());
        start.elapsed()
    };
    let least = (0..50).map(once).min().unwrap();
    println!("{what}: {:.1} us", least.as_secs_f64() * 1e6);
}

/// 200,000 runs and 20,000 files in 100 partitions: what is done about once a second, under the lock of the state.
#[test]
#[ignore = "takes a while; prints figures"]
fn figures_of_a_look_at_a_large_state() {
    let kept = Retention { time_ms: 30 * DAY as u64, bytes: 1 << 40, ..Retention::default() };
    let compacted = Retention { key_compaction: true, compaction_lag_ms: DAY as u64, ..Retention::default() };
    for (name, retention) in [("kept", kept), ("compacted", compacted)] {
        let world = large(200, 2_000, retention);
        let state = &world.state;
        let logs = || state.topics().flat_map(|topic| &topic.partitions);
        let (files, runs): (usize, usize) =
            (logs().map(|log| log.files().len()).sum(), logs().map(|log| log.runs().len()).sum());
        println!("{name}: {files} files, {runs} runs");
        assert!(world.plan(Demand::None).is_empty(), "it is at rest");
        micros("  plan anew", || plan(state, world.now, &world.settings, Demand::None));
        micros("  plan", || world.plan_by_memory(Demand::None));
        micros("  backlog", || backlog(state));
        micros("  needed bodies, run by run", || {
            let mut bodies: Vec<_> = state.bodies().collect();
            bodies.sort_unstable();
            bodies.dedup();
            bodies.len()
        });
        micros("  needed bodies", || state.bodies_needed());
        let files = || logs().flat_map(|log| log.files()).map(|file| file.bytes).sum::<u64>();
        micros("  stored bytes, file by file", || logs().map(|log| log.journal_bytes()).sum::<u64>() + files());
        micros("  stored bytes", || logs().map(|log| log.journal_bytes() + log.archive_bytes()).sum::<u64>());
    }
}
