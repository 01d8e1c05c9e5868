//! The lease in a toy world: nodes, one path, and a network that can be cut.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, nonce: 0 }
}

fn leader(node: &str) -> Leader {
    Leader { node: node.to_owned(), address: format!("http://{node}"), time_ms: 0 }
}

fn lease(node: &str) -> Lease {
    let config = LeaseConfig {
        timeout: ms(1_000),
        probe: ms(250),
        node: node.to_owned(),
        address: format!("http://{node}"),
        usurp: false,
    };
    Lease::new(config)
}

fn sees(lease: &mut Lease, now: u64, round: u64, node: Option<&str>, moved: bool) {
    let event = Event::Looked { ballot: ballot(round), leader: node.map(leader), moved, quorum: true };
    lease.event(ms(now), event, 0);
}

#[test]
fn an_empty_cluster_is_led_at_once() {
    let mut a = lease("a");
    assert_eq!(a.next(ms(0)), Next::Look);
    sees(&mut a, 5, 0, None, true);
    assert_eq!(a.next(ms(5)), Next::Stand);
    a.event(ms(9), Event::Won, 0);
    assert_eq!(a.next(ms(9)), Next::Lead);
}

#[test]
fn an_earlier_process_of_this_node_and_a_leader_without_an_address_are_gone() {
    for gone in [leader("a"), Leader { address: String::new(), ..leader("b") }] {
        let mut a = lease("a");
        assert_eq!(a.next(ms(0)), Next::Look);
        a.event(ms(5), Event::Looked { ballot: ballot(4), leader: Some(gone), moved: true, quorum: true }, 0);
        assert_eq!(a.next(ms(5)), Next::Stand);
    }
}

#[test]
fn a_living_leader_is_followed_for_ever() {
    let mut a = lease("a");
    a.next(ms(0));
    a.event(ms(1), Event::Deposed { reigned: ms(10) }, u64::MAX);
    let Next::Look = a.next(ms(1)) else { panic!() };
    sees(&mut a, 2, 7, Some("b"), true);
    let mut now = ms(2);
    for _ in 0..10_000 {
        match a.next(now) {
            Next::Probe => a.event(now, Event::Answered(ballot(7)), 0),
            Next::Wait(until) => now = until,
            other => panic!("{other:?} at {now:?}"),
        }
        assert!(a.leader_lives());
    }
    assert!(now > ms(1_000_000));
}

#[test]
fn a_silent_leader_is_challenged_after_the_lease_time_and_two_looks() {
    let mut a = lease("a");
    let (mut now, mut looks, mut probes) = (ms(0), 0, 0);
    loop {
        match a.next(now) {
            Next::Look => {
                sees(&mut a, now.as_millis() as u64, 3, Some("b"), looks == 0);
                looks += 1;
            }
            Next::Probe => {
                probes += 1;
                a.event(now, Event::Silent, u64::MAX / 2);
            }
            Next::Wait(until) => now = until,
            Next::Stand => break,
            Next::Lead => panic!(),
        }
    }
    assert!((ms(1_000)..ms(1_300)).contains(&now), "{now:?}");
    assert!(looks == 3 && probes >= 4, "{looks} looks, {probes} probes");
}

#[test]
fn one_lost_question_costs_a_look_and_nothing_else() {
    let mut a = lease("a");
    a.next(ms(0));
    sees(&mut a, 0, 3, Some("b"), true);
    assert_eq!(a.next(ms(10)), Next::Probe);
    a.event(ms(10), Event::Answered(ballot(3)), 0);
    assert_eq!(a.next(ms(10)), Next::Wait(ms(260)));
    assert_eq!(a.next(ms(260)), Next::Probe);
    a.event(ms(260), Event::Silent, 0);
    assert_eq!(a.next(ms(260)), Next::Look);
    sees(&mut a, 261, 3, Some("b"), false);
    assert_eq!(a.next(ms(261)), Next::Wait(ms(510)));
    assert_eq!(a.next(ms(510)), Next::Probe);
    a.event(ms(510), Event::Answered(ballot(3)), 0);
    assert_eq!(a.next(ms(510)), Next::Wait(ms(760)));
}

#[test]
fn a_leader_that_says_it_has_ended_is_followed_up_sooner() {
    let mut a = lease("a");
    a.next(ms(0));
    sees(&mut a, 0, 3, Some("b"), true);
    a.event(ms(100), Event::Answered(ballot(3)), 0);
    a.event(ms(350), Event::Ended, 0);
    assert_eq!(a.next(ms(350)), Next::Look);
    sees(&mut a, 355, 3, Some("b"), true);
    assert_eq!(a.next(ms(355)), Next::Stand);
}

#[test]
fn without_a_quorum_nobody_stands() {
    let mut a = lease("a");
    let mut now = ms(0);
    let mut looks = 0;
    while now < ms(60_000) {
        match a.next(now) {
            Next::Look => {
                looks += 1;
                now += MS;
                a.event(now, Event::Looked { ballot: ballot(0), leader: None, moved: true, quorum: looks > 40 }, 0);
            }
            Next::Wait(until) => now = until,
            Next::Stand if looks > 40 => return,
            other => panic!("{other:?}"),
        }
    }
    assert!((10..20).contains(&looks), "looking backs off: {looks}");
}

#[test]
fn a_leader_that_takes_over_is_waited_for_but_not_for_ever() {
    let mut a = lease("a");
    a.next(ms(0));
    sees(&mut a, 0, 3, Some("b"), true);
    let mut now = ms(0);
    let stood = loop {
        match a.next(now) {
            Next::Probe => a.event(now, Event::TakingOver, 0),
            Next::Look => sees(&mut a, now.as_millis() as u64, 3, Some("b"), false),
            Next::Wait(until) => now = until,
            Next::Stand => break now,
            Next::Lead => panic!(),
        }
    };
    assert!((ms(20_000)..ms(23_000)).contains(&stood), "{stood:?}");
}

#[test]
fn rivals_without_addresses_leave_each_other_alone_for_a_while() {
    let mut a = lease("a");
    a.next(ms(0));
    sees(&mut a, 0, 0, None, true);
    assert_eq!(a.next(ms(0)), Next::Stand);
    a.event(ms(1), Event::Won, 0);
    a.event(ms(100_000), Event::Deposed { reigned: ms(99_999) }, 0);
    assert_eq!(a.next(ms(100_000)), Next::Look);
    let mute = Some(Leader { address: String::new(), ..leader("b") });
    a.event(ms(100_001), Event::Looked { ballot: ballot(9), leader: mute, moved: true, quorum: true }, 0);
    assert_eq!(a.next(ms(100_001)), Next::Wait(ms(130_001)));
}

/// A world of `n` nodes without a leader that answers: who stands wins when nobody stood within the last 200 ms, and
/// deposes whoever was standing then otherwise.
#[derive(Debug, Default)]
struct World {
    round: u64,
    moved_at: Duration,
    leader: Option<usize>,
}

proptest! {
    /// L1 and L2, under any answers and any movements of the path.
    #[test]
    fn nobody_stands_on_a_leader_that_answers_or_a_path_that_moves(
        steps in proptest::collection::vec((0_u8..4, 0_u64..400, any::<bool>(), any::<u64>()), 1..400),
    ) {
        let mut a = lease("a");
        let (mut now, mut answered, mut moved_at, mut looked_at) = (ms(1), None, ms(0), None::<Duration>);
        a.next(now);
        sees(&mut a, 1, 5, Some("b"), true);
        for (answer, step, moves, random) in steps {
            if moves {
                moved_at = now;
            }
            match a.next(now) {
                Next::Probe => {
                    let event = if answer == 0 { Event::Answered(ballot(5)) } else { Event::Silent };
                    answered = (answer == 0).then_some(now).or(answered);
                    a.event(now, event, random);
                }
                Next::Look => {
                    let moved = looked_at.is_none_or(|at| moved_at >= at);
                    let event = Event::Looked { ballot: ballot(5), leader: Some(leader("b")), moved, quorum: answer != 1 };
                    a.event(now, event, random);
                    looked_at = Some(now);
                    continue;
                }
                Next::Stand => {
                    prop_assert!(answered.is_none_or(|at| now >= at + ms(1_000)), "answered at {answered:?}, stood at {now:?}");
                    let seen = looked_at.is_some_and(|at| moved_at < at);
                    prop_assert!(!seen || now >= moved_at + ms(1_000), "moved at {moved_at:?}, stood at {now:?}");
                    a.event(now, Event::Lost, random);
                    looked_at = None;
                    let Next::Look = a.next(now) else { return Ok(()) };
                    sees(&mut a, now.as_millis() as u64, 5, Some("b"), true);
                }
                Next::Wait(until) => prop_assert!(until > now),
                Next::Lead => prop_assert!(false),
            }
            now += ms(step) + MS;
        }
    }

    /// Many challengers at once come to rest with one leader, after few takeovers.
    #[test]
    fn storms_end(seed in any::<u64>(), count in 2_usize..12) {
        let mut nodes: Vec<_> = (0..count).map(|number| lease(&format!("n{number}"))).collect();
        let mut world = World { round: 1, ..World::default() };
        let (mut seen, mut since) = (vec![Duration::ZERO; count], vec![Duration::ZERO; count]);
        let (mut random, mut takeovers) = (seed, Vec::new());
        for step in 0_u64..60_000 {
            let now = ms(step);
            for at in 0..count {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let event = match nodes[at].next(now) {
                    Next::Wait(_) => continue,
                    Next::Lead if world.leader == Some(at) => continue,
                    Next::Lead => Event::Deposed { reigned: now - since[at] },
                    Next::Probe => match world.leader {
                        // It answers once it has recovered its state.
                        Some(leader) if now >= since[leader] + ms(100) => Event::Answered(ballot(world.round)),
                        Some(_) => Event::TakingOver,
                        None => Event::Silent,
                    },
                    Next::Look => {
                        let moved = seen[at] <= world.moved_at;
                        seen[at] = now;
                        // The first leader has died.
                        let name = world.leader.map_or("dead".to_owned(), |leader| format!("n{leader}"));
                        Event::Looked { ballot: ballot(world.round), leader: Some(leader(&name)), moved, quorum: true }
                    }
                    Next::Stand => {
                        world = World { round: world.round + 1, moved_at: now, leader: Some(at) };
                        since[at] = now;
                        takeovers.push(now);
                        Event::Won
                    }
                };
                nodes[at].event(now, event, random);
            }
        }
        prop_assert!(!takeovers.is_empty() && takeovers.len() <= count, "{takeovers:?}");
        prop_assert!(takeovers.iter().all(|at| *at < ms(5_000)), "{takeovers:?}");
        prop_assert!(world.leader.is_some());
    }

    /// Whatever happens, what comes next is never in the past, and pauses stay within bounds.
    #[test]
    fn waiting_is_bounded(losses in 1_u32..40, random in any::<u64>()) {
        let mut a = lease("a");
        let mut now = ms(0);
        let mut pause = Duration::ZERO;
        for _ in 0..losses {
            a.next(now);
            a.event(now, Event::Looked { ballot: ballot(0), leader: None, moved: false, quorum: true }, random);
            match a.next(now) {
                Next::Wait(until) => {
                    pause = until - now;
                    prop_assert!(pause <= LONGEST_PAUSE);
                    now = until;
                }
                Next::Stand | Next::Look => {}
                other => prop_assert!(false, "{other:?}"),
            }
            a.event(now, Event::Lost, random);
        }
        prop_assert!(losses < 10 || pause >= LONGEST_PAUSE / 2);
    }
}
