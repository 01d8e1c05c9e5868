//! What ten million messages cost. Each test prints; run them one by one, because what one frees another would use:
//! `cargo test --release -p brigade-ingest ten_million_in_flight -- --ignored --nocapture`.

use std::fs;

use super::*;

const COUNT: u64 = 10_000_000;
const RULES: Rules = Rules { ordered: true, fair: true, retry_delay_ms: 0 };
const GIB: u64 = 1 << 30;

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Fills a dispatcher, and says what the process took at most, which has to be below `limit` bytes.
fn fill(what: &str, limit: u64, fill: impl FnOnce(&mut Dispatcher)) -> Dispatcher {
    let start = tokio::time::Instant::now();
    let mut dispatcher = Dispatcher::new(RULES);
    fill(&mut dispatcher);
    println!("{what}: {} MiB at most, {:?}", peak() >> 20, start.elapsed());
    assert!(peak() < limit);
    dispatcher
}

/// Spreads numbers over all words, like a hash.
const fn spread(number: u64) -> u64 {
    (number + 1).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Nanoseconds to add, take, deliver and settle one message of another group, the least of several rounds.
fn others(dispatcher: &mut Dispatcher, from: u64) -> u128 {
    let rounds = (0..15).map(|round| {
        let start = tokio::time::Instant::now();
        for offset in (0..20_000).map(|message| from + round * 20_000 + message) {
            let at = at(1, offset);
            dispatcher.add(Found { group: Some(COUNT + offset % 100), ..Found::plain(at) }, 0);
            assert_eq!(dispatcher.take(0, 1)[0].at, at);
            let receipt = dispatcher.deliver(at, 0, 30_000).unwrap();
            dispatcher.hold(at, receipt.number, 1).unwrap();
            dispatcher.settled(at, 1);
        }
        start.elapsed().as_nanos() / 20_000
    });
    rounds.min().unwrap()
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_in_one_run() {
    fill("in one run", GIB / 64, |dispatcher| dispatcher.add_run(at(0, 0), COUNT));
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_in_one_group() {
    let mut one = fill("in one group", GIB / 16, |dispatcher| {
        for offset in 0..COUNT {
            dispatcher.add(Found { group: Some(7), tenant: 7, ..Found::plain(at(0, offset * 2)) }, 0);
        }
        let first = dispatcher.take(0, 1)[0].at;
        dispatcher.deliver(first, 0, 30_000).unwrap();
    });
    let mut none = Dispatcher::new(RULES);
    others(&mut none, 0);
    let (alone, beside) = (others(&mut none, COUNT), others(&mut one, COUNT));
    println!("a message of another group: {beside} ns beside it, {alone} ns alone");
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_groups() {
    fill("in ten million groups", GIB, |dispatcher| {
        for offset in 0..COUNT {
            dispatcher.add(Found { group: Some(spread(offset)), ..Found::plain(at(0, offset)) }, 0);
        }
    });
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_tenants() {
    fill("in ten million groups, each a tenant", GIB, |dispatcher| {
        for offset in 0..COUNT {
            let group = spread(offset);
            dispatcher.add(Found { group: Some(group), tenant: group, ..Found::plain(at(0, offset)) }, 0);
        }
    });
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_delayed() {
    let dispatcher = fill("delayed up to 198 days, one in a hundred", GIB, |dispatcher| {
        for offset in 0..COUNT {
            let ready_ms = 1 + (spread(offset) >> 30) as i64;
            dispatcher.add(Found { ready_ms, ..Found::plain(at(0, offset * 100)) }, 0);
        }
    });
    assert_eq!(dispatcher.counts().delayed, COUNT);
}

#[test]
#[ignore = "to be run alone"]
fn ten_million_in_flight() {
    let dispatcher = fill("in flight", GIB, |dispatcher| {
        dispatcher.add_run(at(0, 0), COUNT);
        for now in 0..COUNT as i64 / 1_000 {
            for taken in dispatcher.take(now, 1_000) {
                dispatcher.deliver(taken.at, now, now + 43_200_000).unwrap();
            }
        }
    });
    assert_eq!(dispatcher.counts().in_flight, COUNT);
}
