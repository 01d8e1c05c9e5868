use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff { min: SECOND, max: Duration::from_secs(60) };
const FAILED: Outcome = Outcome::Failed { asked: None };

/// Begins as many posts as there is room for, and ends them all in the same way.
fn round(pace: &mut Pace, outcome: Outcome, now: Duration) -> usize {
    let Room::Now(count) = pace.room(now) else { return 0 };
    pace.reserve(count, now);
    let tickets: Vec<_> = (0..count).map(|_| pace.begin()).collect();
    assert_eq!(pace.room(now), Room::Full);
    tickets.iter().for_each(|ticket| pace.end(ticket, outcome, now, u64::MAX));
    count
}

#[test]
fn an_endpoint_that_is_down_gets_ever_fewer_posts_and_ever_longer_pauses() {
    let mut pace = Pace::new(64, 0, BACKOFF);
    while pace.limit() < 64 {
        round(&mut pace, Outcome::Success, SECOND);
    }
    let mut now = SECOND;
    let mut rounds = Vec::new();
    for _ in 0..9 {
        if let Room::At(later) = pace.room(now) {
            now = later;
        }
        rounds.push((now.as_secs() - 1, round(&mut pace, FAILED, now)));
    }
    // Halved once a round however many fail together; no pause before the second round has failed too.
    assert_eq!(rounds, [(0, 64), (0, 32), (1, 16), (3, 8), (7, 4), (15, 2), (31, 1), (63, 1), (123, 1)]);
    now += 60 * SECOND;
    assert_eq!((round(&mut pace, Outcome::Success, now), pace.limit()), (1, 2));
    assert_eq!(pace.room(now), Room::Now(2), "a success ends the pauses");
    assert_eq!((round(&mut pace, Outcome::Success, now), pace.limit()), (2, 3));
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is() {
    let mut pace = Pace::new(64, 0, BACKOFF);
    assert_eq!(round(&mut pace, Outcome::Failed { asked: Some(20 * SECOND) }, SECOND), FIRST_LIMIT);
    assert_eq!((pace.room(SECOND), pace.pause(SECOND)), (Room::At(21 * SECOND), 20 * SECOND));
    assert_eq!(pace.room(21 * SECOND), Room::Now(FIRST_LIMIT / 2));
}

#[test]
fn single_bad_messages_slow_nothing_down_but_nothing_but_refusals_does() {
    let mut pace = Pace::new(10, 0, BACKOFF);
    for post in 0..200 {
        pace.reserve(1, SECOND);
        let ticket = pace.begin();
        let outcome = if post % 5 == 0 { Outcome::Success } else { Outcome::Rejected };
        pace.end(&ticket, outcome, SECOND, 0);
    }
    assert_eq!(pace.limit(), 10);
    round(&mut pace, Outcome::Rejected, SECOND);
    assert_eq!(pace.limit(), 5);
    let mut most = Pace::new(1, 0, BACKOFF);
    for _ in 0..4 {
        assert_eq!(round(&mut most, Outcome::Rejected, SECOND), 1);
    }
    assert_eq!(most.pause(SECOND), Duration::ZERO);
    assert_eq!((round(&mut most, Outcome::Unsent, SECOND), most.limit()), (1, 1));
}

proptest! {
    #[test]
    fn no_second_has_more_posts_than_the_rate_and_its_burst(
        per_second in 1..=2_000_u32,
        steps in prop::collection::vec((0..=200_000_u64, 1..=50_usize, any::<bool>()), 1..200),
    ) {
        let mut pace = Pace::new(1_000_000, per_second, BACKOFF);
        pace.limit = 1_000_000;
        let (mut now, mut posts) = (Duration::ZERO, Vec::new());
        for (micros, most, comes) in steps {
            now += Duration::from_micros(micros);
            match pace.room(now) {
                Room::Now(count) => {
                    let count = count.min(most);
                    pace.reserve(count, now);
                    if comes { posts.extend(std::iter::repeat_n(now, count)) } else { pace.give_back(count) }
                }
                Room::At(later) => {
                    prop_assert!(later > now, "what must wait would not wait");
                    prop_assert!(matches!(pace.room(later), Room::Now(_)));
                }
                Room::Full => prop_assert!(false, "there are places"),
            }
        }
        let burst = (per_second / BURST_PARTS).max(1) as usize;
        for (at, time) in posts.iter().enumerate() {
            let within = posts[at..].partition_point(|post| *post < *time + SECOND);
            prop_assert!(within <= per_second as usize + burst, "{within} posts from {time:?} on");
        }
    }

    #[test]
    fn places_are_never_more_than_allowed_and_are_all_given_back(
        most in 0..=40_usize, steps in prop::collection::vec((0..5_u8, 0..=5_000_u64), 1..300),
    ) {
        let mut pace = Pace::new(most, 0, BACKOFF);
        let (mut now, mut tickets) = (Duration::ZERO, Vec::new());
        for (what, millis) in steps {
            now += Duration::from_millis(millis);
            let outcome = match what {
                0 => Outcome::Success,
                1 => Outcome::Rejected,
                2 => Outcome::Failed { asked: (millis % 2 == 0).then(|| Duration::from_millis(millis)) },
                3 => Outcome::Unsent,
                _ => {
                    if let Room::Now(count) = pace.room(now) {
                        prop_assert!(count > 0 && tickets.len() + count <= most.max(1));
                        pace.reserve(count, now);
                        pace.give_back(count / 2);
                        tickets.extend((0..count - count / 2).map(|_| pace.begin()));
                    }
                    continue;
                }
            };
            if let Some(ticket) = tickets.pop() {
                pace.end(&ticket, outcome, now, millis);
            }
            prop_assert!((1..=most.max(1)).contains(&pace.limit()));
            prop_assert!(pace.pause(now) <= BACKOFF.max);
        }
        tickets.iter().for_each(|ticket| pace.end(ticket, Outcome::Success, now, 0));
        now += BACKOFF.max;
        prop_assert_eq!(pace.room(now), Room::Now(pace.limit()));
    }
}
