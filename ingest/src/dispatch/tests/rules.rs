//! Each rule by itself.

use super::*;

const ORDERED: Rules = Rules { ordered: true, fair: false, retry_delay_ms: 0 };
const FAIR: Rules = Rules { ordered: true, fair: true, retry_delay_ms: 0 };

fn plain(offset: u64) -> Found {
    Found::plain(at(0, offset))
}

fn of_tenant(tenant: u64, offset: u64) -> Found {
    Found { tenant, ..plain(offset) }
}

fn of_group(group: u64, offset: u64) -> Found {
    Found { group: Some(group), ..plain(offset) }
}

fn with(rules: Rules, found: impl IntoIterator<Item = Found>) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(rules);
    found.into_iter().for_each(|found| dispatcher.add(found, 0));
    dispatcher
}

/// Offsets of what is taken.
fn take(dispatcher: &mut Dispatcher, now: i64, max: usize) -> Vec<u64> {
    dispatcher.take(now, max).iter().map(|taken| taken.at.offset().0).collect()
}

/// Takes one message and delivers it.
fn deliver(dispatcher: &mut Dispatcher, now: i64, deadline: i64) -> (At, Delivered) {
    let at = dispatcher.take(now, 1)[0].at;
    (at, dispatcher.deliver(at, now, deadline).unwrap())
}

fn tick(dispatcher: &mut Dispatcher, now: i64) -> Vec<TimedOut> {
    let mut timed_out = Vec::new();
    dispatcher.tick(now, &mut timed_out);
    timed_out
}

#[test]
fn nine_comes_first_and_what_was_delivered_before_comes_before_younger_ones() {
    let priorities = [4, 9, 0, 4, 9].into_iter().zip(0..);
    let mut dispatcher = with(ORDERED, priorities.map(|(priority, offset)| Found { priority, ..plain(offset) }));
    let (first, receipt) = deliver(&mut dispatcher, 0, 100);
    assert_eq!(take(&mut dispatcher, 0, 2), [4, 0]);
    dispatcher.add(Found { priority: 9, ..plain(5) }, 0);
    dispatcher.nack(first, receipt.number, 1, 1).unwrap();
    assert_eq!(take(&mut dispatcher, 1, 9), [1, 5, 3, 2]);
}

#[test]
fn the_oldest_is_delivered_again_first_whatever_its_partition() {
    let mut dispatcher = Dispatcher::new(ORDERED);
    dispatcher.add_run(at(0, 5), 2);
    dispatcher.add_run(at(7, 4), 2);
    let receipts: Vec<_> = (0..4).map(|_| deliver(&mut dispatcher, 0, 100)).collect();
    receipts.iter().for_each(|(at, receipt)| dispatcher.nack(*at, receipt.number, 1, 0).unwrap());
    let again: Vec<_> = dispatcher.take(1, 9).iter().map(|taken| taken.at).collect();
    assert_eq!(again, [at(7, 4), at(0, 5), at(7, 5), at(0, 6)]);
}

#[test]
fn a_noisy_tenant_delays_a_quiet_one_by_one_turn() {
    let noisy = (0..100_000).map(|offset| of_tenant(offset % 2, offset));
    let mut dispatcher = with(FAIR, noisy);
    take(&mut dispatcher, 0, 10);
    dispatcher.add(of_tenant(7, 200_000), 0);
    dispatcher.add(of_tenant(7, 200_001), 0);
    let next = take(&mut dispatcher, 0, 6);
    assert_eq!((next[2], next[5]), (200_000, 200_001));
}

#[test]
fn what_is_put_back_keeps_its_turn() {
    let found = || (0..12).map(|offset| of_tenant(offset % 3, offset / 3 * 3 + offset % 3));
    let expected = take(&mut with(FAIR, found()), 0, 12);
    let mut dispatcher = with(FAIR, found());
    let mut delivered = Vec::new();
    while delivered.len() < 12 {
        let taken = dispatcher.take(0, 5);
        delivered.push(taken[0].at.offset().0);
        taken[1..].iter().rev().for_each(|taken| dispatcher.put_back(taken.at));
    }
    assert_eq!(delivered, expected);
}

#[test]
fn a_group_is_delivered_one_after_the_other() {
    let mut dispatcher = with(ORDERED, [of_group(1, 0), of_group(1, 1), of_group(2, 2), of_group(1, 3)]);
    assert_eq!(take(&mut dispatcher, 0, 9), [0, 2]);
    // Put back, in flight, nacked with a delay, timed out: the next one waits through all of it.
    dispatcher.put_back(at(0, 0));
    let (first, receipt) = deliver(&mut dispatcher, 0, 10);
    assert!(take(&mut dispatcher, 0, 9).is_empty());
    dispatcher.nack(first, receipt.number, 0, 50).unwrap();
    assert!(take(&mut dispatcher, 0, 9).is_empty());
    assert_eq!(tick(&mut dispatcher, 52), []);
    let (_, receipt) = deliver(&mut dispatcher, 52, 60);
    assert_eq!((receipt.deliveries, receipt.first_ms), (2, 0));
    assert_eq!(tick(&mut dispatcher, 60), [TimedOut { at: first, deliveries: 2, first_ms: 0, ready_ms: 0 }]);
    let (_, receipt) = deliver(&mut dispatcher, 60, 90);
    dispatcher.hold(first, receipt.number, 60).unwrap();
    assert!(take(&mut dispatcher, 60, 9).is_empty());
    dispatcher.settled(first, 60);
    assert_eq!(take(&mut dispatcher, 60, 9), [1]);
    dispatcher.settled(at(0, 1), 60);
    assert_eq!(take(&mut dispatcher, 60, 9), [3]);
}

#[test]
fn a_group_waits_for_its_delayed_first_message_and_no_longer() {
    let delayed = Found { ready_ms: 1_000_000, ..of_group(1, 0) };
    let mut dispatcher = with(ORDERED, [delayed, of_group(1, 1)]);
    assert!(take(&mut dispatcher, 0, 9).is_empty());
    assert_eq!(dispatcher.counts(), Counts { delayed: 1, waiting: 1, ..Counts::default() });
    dispatcher.adopt(at(0, 0)).unwrap();
    dispatcher.settled(at(0, 0), 5);
    assert_eq!(take(&mut dispatcher, 5, 9), [1]);
}

#[test]
fn rules_that_are_off_change_nothing() {
    let found = (0..4).map(|offset| Found { group: Some(1), tenant: offset / 2, ..plain(offset) });
    let mut dispatcher = with(Rules::default(), found);
    assert_eq!(take(&mut dispatcher, 0, 9), [0, 1, 2, 3]);
}

#[test]
fn a_receipt_is_good_for_one_delivery_until_its_deadline() {
    let mut dispatcher = with(ORDERED, [plain(0)]);
    let (at, first) = deliver(&mut dispatcher, 0, 100);
    assert_eq!(dispatcher.check(at, first.number, 99), Ok(()));
    assert_eq!(dispatcher.hold(at, first.number, 100), Err(Problem::Expired));
    dispatcher.extend(at, first.number, 50, 200).unwrap();
    assert_eq!(tick(&mut dispatcher, 100), []);
    dispatcher.hold(at, first.number, 150).unwrap();
    assert_eq!(dispatcher.hold(at, first.number, 150), Err(Problem::BeingSettled));
    assert_eq!(dispatcher.next_timer(), None);
    dispatcher.release(at, 300);
    assert_eq!(tick(&mut dispatcher, 300).len(), 1);
    assert_eq!(dispatcher.check(at, first.number, 300), Err(Problem::NotInFlight));
    let (_, second) = deliver(&mut dispatcher, 300, 400);
    assert!(second.number > first.number);
    assert_eq!(dispatcher.check(at, first.number, 300), Err(Problem::Superseded));
    dispatcher.settled(at, 300);
    assert_eq!(dispatcher.check(at, second.number, 300), Err(Problem::NotInFlight));
    assert!(dispatcher.is_idle());
}

#[test]
fn extends_leave_one_timer() {
    let mut dispatcher = with(ORDERED, [plain(0)]);
    let (at, receipt) = deliver(&mut dispatcher, 0, 1_000);
    for deadline in (1..500).chain((1..500).rev()) {
        dispatcher.extend(at, receipt.number, 0, deadline * 10).unwrap();
    }
    assert_eq!((dispatcher.timers.len(), dispatcher.next_timer()), (1, Some(12)));
}

#[test]
fn what_expires_is_said_so_even_before_it_is_ready() {
    let found = Found { ready_ms: 500, expires_ms: Some(100), ..plain(0) };
    let mut dispatcher = with(ORDERED, [found, Found { expires_ms: Some(100), ..plain(1) }]);
    let taken = dispatcher.take(99, 9);
    assert_eq!((taken.len(), taken[0].expired), (1, false));
    dispatcher.put_back(taken[0].at);
    assert_eq!(dispatcher.next_timer(), Some(100));
    tick(&mut dispatcher, 100);
    let taken = dispatcher.take(100, 9);
    assert!(taken.len() == 2 && taken.iter().all(|taken| taken.expired));
}

#[test]
fn a_receipt_of_an_earlier_reign_takes_a_message_that_waits_anywhere() {
    let mut dispatcher = with(ORDERED, [of_group(1, 0), of_group(1, 1), Found { ready_ms: 900, ..plain(2) }]);
    dispatcher.add_run(at(0, 10), 10);
    // One behind in its group, one delayed, one within a run, and one that is not found yet.
    for offset in [1, 2, 14, 20] {
        dispatcher.adopt(at(0, offset)).unwrap();
        assert_eq!(dispatcher.adopt(at(0, offset)), Err(Problem::BeingSettled));
    }
    dispatcher.add_run(at(0, 20), 2);
    tick(&mut dispatcher, 900);
    assert_eq!(take(&mut dispatcher, 900, 99), [0, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21]);
    assert_eq!(dispatcher.counts(), Counts { held: 15, ..Counts::default() });
    dispatcher.settled(at(0, 14), 900);
    dispatcher.release(at(0, 2), 900);
    dispatcher.retry(at(0, 20), 900, 1_000);
    assert_eq!(take(&mut dispatcher, 900, 99), [2]);
    tick(&mut dispatcher, 1_000);
    assert_eq!(take(&mut dispatcher, 1_000, 99), [20]);
    // Settled while it was behind: its group passes over it.
    dispatcher.settled(at(0, 1), 1_000);
    dispatcher.settled(at(0, 0), 1_000);
    assert!(take(&mut dispatcher, 1_000, 99).is_empty());
    dispatcher.deliver(at(0, 2), 1_000, 1_001).unwrap();
    assert_eq!(dispatcher.adopt(at(0, 2)), Err(Problem::Superseded));
}

#[test]
fn a_nack_with_an_old_receipt_keeps_its_delay() {
    let mut dispatcher = with(ORDERED, [plain(0), plain(1)]);
    dispatcher.adopt(at(0, 0)).unwrap();
    dispatcher.retry(at(0, 0), 0, 80);
    assert_eq!(dispatcher.counts(), Counts { waiting: 2, ..Counts::default() });
    assert_eq!(take(&mut dispatcher, 0, 9), [1]);
    assert_eq!(dispatcher.next_timer(), Some(80));
    tick(&mut dispatcher, 80);
    assert_eq!(take(&mut dispatcher, 80, 9), [0]);
}

#[test]
fn the_first_of_a_group_that_was_found_adopted_keeps_its_delay() {
    let mut dispatcher = Dispatcher::new(ORDERED);
    dispatcher.adopt(at(0, 0)).unwrap();
    dispatcher.add(Found { ready_ms: 80, ..of_group(1, 0) }, 0);
    dispatcher.release(at(0, 0), 0);
    assert!(take(&mut dispatcher, 0, 9).is_empty());
    tick(&mut dispatcher, 80);
    assert_eq!(take(&mut dispatcher, 80, 9), [0]);
}

#[test]
fn one_tick_does_not_fire_everything() {
    let mut dispatcher = Dispatcher::new(ORDERED);
    let count = TICK as u64 * 5 / 2;
    dispatcher.add_run(at(0, 0), count);
    for taken in dispatcher.take(0, count as usize) {
        dispatcher.deliver(taken.at, 0, 10).unwrap();
    }
    let mut fired = Vec::new();
    while dispatcher.next_timer().is_some_and(|due| due <= 12) {
        fired.push(tick(&mut dispatcher, 12).len());
    }
    assert_eq!(fired, [TICK, TICK, TICK / 2]);
}

#[test]
fn a_long_run_that_was_cut_off_is_skipped_at_once() {
    let mut dispatcher = Dispatcher::new(ORDERED);
    dispatcher.add_run(at(3, 0), 1 << 26);
    dispatcher.add_run(at(4, 0), 1);
    dispatcher.remove_below(Partition(3), Offset((1 << 26) - 2), 0);
    assert_eq!(dispatcher.counts().waiting, 3);
    assert_eq!(take(&mut dispatcher, 0, 9), [(1 << 26) - 2, (1 << 26) - 1, 0]);
    assert!(dispatcher.floors.contains_key(&Partition(3)));
}
