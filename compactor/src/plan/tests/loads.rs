//! Steady loads: what the archive costs, and what waits.

use super::*;

/// Says what came of a load; the documents quote it
/// (`cargo test -p brigade-compactor --lib loads -- --nocapture --test-threads 1`).
fn report(name: &str, world: &World) -> f64 {
    let Figures { archived, input, entries, written, copied, most_files, most_waiting, most_runs, .. } = &world.figures;
    let amplification = world.figures.amplification();
    let gib = (*input as f64 / (1_u64 << 30) as f64).max(0.001);
    let of_gib = |count: u64| count as f64 / gib;
    println!(
        "{name}: {} MiB archived, written {amplification:.2} times; of a GiB of batches {:.0} entries read, {:.0} files written, {:.0} copied; at most {most_files} files a partition, {} MiB and {most_runs} runs in the journal",
        archived / MIB,
        of_gib(*entries),
        of_gib(*written),
        of_gib(*copied),
        most_waiting / MIB,
    );
    amplification
}

/// One partition, in batches of 8 MiB a second.
fn fast(left: u64) -> World {
    let mut world = World::new(left);
    let topic = world.topic("fast", 1, Retention::default());
    for _ in 0..8_000 {
        world.now += SECOND;
        world.publish(topic, 0..1, 8 * MIB);
        world.settle(Demand::None);
    }
    world
}

#[test]
fn a_fast_partition_is_written_twice() {
    for (name, left) in
        [("one fast partition", 100), ("one fast partition, JSON", 40), ("one fast partition, grows", 110)]
    {
        let world = fast(left);
        assert!(report(name, &world) <= 2.2);
        assert!(world.figures.most_waiting <= 80 * MIB && world.figures.most_runs <= 10, "{name}");
        let bound = world.figures.archived / (64 * MIB) + 16;
        assert!(world.figures.most_files as u64 <= bound, "{name}");
    }
}

#[test]
fn a_thousand_trickles_are_written_twice_and_leave_few_files() {
    let mut world = World::new(60);
    let topic = world.topic("trickles", 1_000, Retention::default());
    // Ten weeks of 2 KiB every six hours: too little for any rule but the last.
    for _ in 0..70 * 4 {
        world.now += 6 * HOUR;
        world.publish(topic, 0..1_000, 2 * 1024);
        world.settle(Demand::None);
    }
    assert!(report("1,000 trickles", &world) <= 2.2);
    assert!(world.figures.most_files <= 36, "a file a day, and merged in thirty-twos");
    assert!(world.figures.most_runs <= 5_000 && world.figures.most_waiting <= 16 * MIB);
}

#[test]
fn many_equal_partitions_share_the_pass_over_their_entries() {
    let mut world = World::new(60);
    let topic = world.topic("equal", 16, Retention::default());
    for _ in 0..8_000 {
        world.now += SECOND;
        world.publish(topic, 0..16, MIB / 2);
        world.settle(Demand::None);
    }
    assert!(report("16 equal partitions", &world) <= 2.2);
    assert!(world.figures.most_waiting <= 136 * MIB);
    let gib = world.figures.input as f64 / (1_u64 << 30) as f64;
    assert!(world.figures.entries as f64 / gib <= 130.0, "each entry once");
}

#[test]
fn a_fast_partition_leaves_room_for_a_thousand_trickles() {
    let mut world = World::new(60);
    let fast = world.topic("fast", 2, Retention::default());
    let slow = world.topic("slow", 500, Retention::default());
    for step in 0..6_000_i64 {
        world.now += 30 * SECOND;
        world.publish(fast, 0..2, 4 * MIB);
        if step % 10 == 0 {
            world.publish(slow, 0..500, 1024);
        }
        world.settle(Demand::None);
    }
    assert!(report("2 fast, 500 trickles", &world) <= 2.2);
    assert!(world.figures.most_waiting <= 400 * MIB);
    assert!((0..500).all(|partition| !world.log(slow, partition).files().is_empty()), "they are archived at last");
}

#[test]
fn retention_is_precise_to_a_tenth_and_merges_respect_it() {
    let mut world = World::new(60);
    let keep = 10 * DAY;
    let topic = world.topic("kept", 4, Retention { time_ms: keep as u64, ..Retention::default() });
    let mut published = Vec::new();
    for step in 0..40 * 24 * 2_i64 {
        world.now += HOUR / 2;
        // A fast one and three slow ones.
        world.publish(topic, 0..1, 8 * MIB);
        world.publish(topic, 1..4, if step % 3 == 0 { 900 * 1024 } else { 1024 });
        published.push((world.now, world.log(topic, 0).high_watermark));
        world.settle(Demand::None);
        for partition in 0..4 {
            let log = world.log(topic, partition);
            let oldest = log.files().first().map(|file| file.min_timestamp_ms);
            let oldest = oldest.or(log.runs().first().map(|run| run.min_timestamp_ms)).unwrap();
            assert!(oldest >= world.now - keep - keep / 10 - 2 * HOUR, "something is kept for too long");
        }
        let still_kept = published.iter().find(|(time, _)| *time > world.now - keep).unwrap().1;
        assert!(world.log(topic, 0).log_start <= still_kept, "something was dropped too early");
    }
    assert!(report("4 partitions, kept ten days", &world) <= 2.2);
    assert!(world.figures.most_files <= 120);
    let spans = |partition| {
        let files = world.log(topic, partition).files().iter();
        files.map(|file| file.max_timestamp_ms - file.min_timestamp_ms).max().unwrap()
    };
    assert!((0..4).all(|partition| spans(partition) <= keep / 10));
}

#[test]
fn what_is_dropped_soon_is_not_archived() {
    let mut world = World::new(60);
    let topic = world.topic("brief", 2, Retention { time_ms: HOUR as u64 / 2, ..Retention::default() });
    for _ in 0..5_000 {
        world.now += 10 * SECOND;
        world.publish(topic, 0..1, 4 * MIB);
        world.publish(topic, 1..2, 1024);
        world.settle(Demand::None);
    }
    report("kept half an hour", &world);
    assert_eq!(world.figures.archived, 0);
    assert!(world.figures.most_runs <= 400 && world.figures.trims < 5_000 / 2, "{}", world.figures.trims);
}
