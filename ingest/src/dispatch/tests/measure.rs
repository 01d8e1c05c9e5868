//! What ten million messages cost. Prints; run alone, with `--ignored --nocapture`, in release for the times.

use std::fs;

use super::*;

const COUNT: u64 = 10_000_000;
const RULES: Rules = Rules { ordered: true, fair: true, retry_delay_ms: 0 };
const GIB: u64 = 1 << 30;

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// The most that it ever had.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Fills a dispatcher and says what it took.
fn fill(what: &str, fill: impl FnOnce(&mut Dispatcher)) -> (Dispatcher, u64) {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (resident(), tokio::time::Instant::now());
    let mut dispatcher = Dispatcher::new(RULES);
    fill(&mut dispatcher);
    let (now, most) = (resident() - before, peak() - before);
    println!("{what}: {} MiB, at most {} MiB, {:?}", now >> 20, most >> 20, start.elapsed());
    (dispatcher, most)
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
#[ignore = "takes gigabytes and a while"]
fn ten_million() {
    let (_, most) = fill("in one run", |dispatcher| dispatcher.add_run(at(0, 0), COUNT));
    assert!(most < GIB / 64);

    let (mut one, most) = fill("in one group", |dispatcher| {
        (0..COUNT).for_each(|offset| {
            dispatcher.add(Found { group: Some(7), tenant: 7, ..Found::plain(at(0, offset * 2)) }, 0);
        });
        let first = dispatcher.take(0, 1)[0].at;
        dispatcher.deliver(first, 0, 30_000).unwrap();
    });
    assert!(most < GIB / 16);
    let beside = others(&mut one, 0);
    let alone = others(&mut Dispatcher::new(RULES), 0);
    println!("a message of another group beside it: {beside} ns, alone {alone} ns");
    drop(one);

    let grouped = |fair: u64| {
        move |dispatcher: &mut Dispatcher| {
            (0..COUNT).for_each(|offset| {
                let group = (offset + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
                dispatcher.add(Found { group: Some(group), tenant: group * fair, ..Found::plain(at(0, offset)) }, 0);
            });
        }
    };
    assert!(fill("in ten million groups", grouped(0)).1 < GIB);
    assert!(fill("in ten million groups, each a tenant", grouped(1)).1 < GIB);

    let delayed = |step: u64| {
        move |dispatcher: &mut Dispatcher| {
            (0..COUNT).for_each(|offset| {
                let ready_ms = 1 + (offset.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 30) as i64;
                dispatcher.add(Found { ready_ms, ..Found::plain(at(0, offset * step)) }, 0);
            });
        }
    };
    assert!(fill("delayed", delayed(1)).1 < GIB);
    assert!(fill("delayed, one in a hundred", delayed(100)).1 < GIB);

    let in_flight = |dispatcher: &mut Dispatcher| {
        dispatcher.add_run(at(0, 0), COUNT);
        for now in 0..COUNT as i64 / 1_000 {
            for taken in dispatcher.take(now, 1_000) {
                dispatcher.deliver(taken.at, now, now + 43_200_000).unwrap();
            }
        }
    };
    assert!(fill("in flight", in_flight).1 < GIB);
}
