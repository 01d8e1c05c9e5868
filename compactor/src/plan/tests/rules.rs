//! Single rules.

use brigade_index::names::SubscriptionName;

use super::*;

#[test]
fn a_plan_is_the_same_again_and_nothing_overlaps_a_claim() {
    let mut world = World::new(100);
    let topic = world.topic("t", 3, Retention::default());
    for _ in 0..10 {
        world.publish(topic, 0..3, 8 * MIB);
    }
    let plan = world.plan(Demand::None);
    assert_eq!(plan, world.plan(Demand::None));
    let parts = |plan: &Plan| {
        let parts = plan.jobs.iter().filter_map(|job| match job {
            Job::Archive(job) => Some(job.parts.clone()),
            _ => None,
        });
        parts.flatten().collect::<Vec<_>>()
    };
    let claimed = parts(&plan);
    assert_eq!(claimed.len(), 3, "80 MiB of each wait");
    assert!(claimed.iter().all(|part| part.end == Offset(8 * 8 * MIB / 512)), "whole batches of 64 MiB");
    world.apply(Command::Claim(Claim { owner: Ballot::default(), parts: claimed[..1].to_vec() })).unwrap();
    assert_eq!(parts(&world.plan(Demand::None)), claimed[1..], "the other partitions");
}

#[test]
fn a_topic_with_many_partitions_leaves_room_for_another() {
    let mut world = World::new(100);
    let large = world.topic("large", 64, Retention::default());
    let small = world.topic("small", 1, Retention::default());
    for _ in 0..16 {
        world.publish(large, 0..64, 8 * MIB);
        world.publish(small, 0..1, 5 * MIB);
    }
    let plan = world.plan(Demand::None);
    let Some(Job::Archive(first)) = plan.jobs.first() else { panic!("{plan:?}") };
    assert_eq!(first.parts.iter().map(|part| part.topic).collect::<Vec<_>>(), [large, small]);
    assert_eq!(plan.jobs.len(), world.settings.jobs_of_a_kind);
}

#[test]
fn retention_by_bytes_keeps_what_it_says_and_drops_whole_pieces() {
    let mut world = World::new(100);
    let keep = 200 * MIB;
    let topic = world.topic("t", 1, Retention { bytes: keep, ..Retention::default() });
    for _ in 0..400 {
        world.now += SECOND;
        world.publish(topic, 0..1, 2 * MIB);
        world.settle(Demand::None);
        let stored = world.log(topic, 0).stored_bytes();
        assert!(stored <= keep + keep / 8 + 2 * MIB, "{stored}");
        assert!(world.log(topic, 0).log_start == Offset(0) || stored >= keep, "{stored}");
    }
    assert!(!world.log(topic, 0).files().is_empty() && world.log(topic, 0).log_start > Offset(0));
    // Of tiny runs there are few trims.
    let tiny = world.topic("tiny", 1, Retention { bytes: MIB, ..Retention::default() });
    let before = world.figures.trims;
    for _ in 0..4_096 {
        world.publish(tiny, 0..1, 1024);
        world.settle(Demand::None);
    }
    assert!(world.figures.trims - before <= 64);
    assert!((MIB..MIB + MIB / 16).contains(&world.log(tiny, 0).stored_bytes()));
}

#[test]
fn a_timestamp_of_the_future_delays_and_nothing_else() {
    let mut world = World::new(100);
    let topic = world.topic("t", 1, Retention { time_ms: DAY as u64, ..Retention::default() });
    world.publish(topic, 0..1, 1024);
    world.publish_at(topic, 0..1, 1024, world.now + 3 * DAY);
    world.publish(topic, 0..1, 1024);
    world.now += 2 * DAY;
    world.settle(Demand::All);
    assert_eq!(world.log(topic, 0).log_start, Offset(2), "the first");
    assert_eq!(world.log(topic, 0).messages(), 4);
    world.now += 3 * DAY;
    world.settle(Demand::None);
    assert_eq!(world.log(topic, 0).messages(), 0);
    assert_eq!(world.settle(Demand::None), None, "nothing is left that time could make due");
}

#[test]
fn what_every_subscription_is_done_with_goes_when_it_is_worthwhile() {
    let mut world = World::new(100);
    let topic = world.topic("t", 1, Retention { after_ack: true, ..Retention::default() });
    let name = SubscriptionName::new("s").unwrap();
    world.publish(topic, 0..1, 1024);
    world.now += HOUR;
    world.settle(Demand::None);
    assert_eq!(world.log(topic, 0).log_start, Offset(0), "nobody has read it");
    world.apply(Command::CreateSubscription { topic, name: name.clone(), positions: Vec::new() }).unwrap();
    let commit = |world: &mut World, to| {
        let positions = vec![(Partition(0), to)];
        world.apply(Command::CommitPositions { topic, name: name.clone(), positions, seek: false }).unwrap();
    };
    let mut trims = Vec::new();
    for step in 0..1_200_i64 {
        world.now += SECOND / 2;
        world.publish(topic, 0..1, 1024);
        let end = world.log(topic, 0).high_watermark;
        commit(&mut world, end);
        let before = world.figures.trims;
        world.settle(Demand::None);
        trims.extend((world.figures.trims > before).then_some(step));
    }
    assert!((9..=12).contains(&trims.len()), "about one a minute: {trims:?}");
    let look = world.settle(Demand::None).unwrap();
    assert!(look <= world.now + MINUTE);
    world.now = look;
    world.settle(Demand::None);
    assert_eq!(world.log(topic, 0).messages(), 0);
    assert_eq!((world.settle(Demand::None), world.figures.archived), (None, 0));
}

#[test]
fn many_runs_are_archived_whatever_their_size() {
    let mut world = World::new(100);
    world.settings.max_runs = 3_000;
    let topic = world.topic("t", 2, Retention { time_ms: MINUTE as u64, ..Retention::default() });
    for _ in 0..10_001 {
        world.publish(topic, 0..1, 64);
    }
    world.publish(topic, 1..2, 64);
    world.settle(Demand::None);
    assert_eq!(world.log(topic, 0).runs().len(), 0);
    assert_eq!(world.log(topic, 1).runs().len(), 1, "the others stay");
}

#[test]
fn age_counts_from_when_messages_came() {
    let mut world = World::new(100);
    let topic = world.topic("t", 1, Retention::default());
    // Old messages are copied from somewhere else.
    for step in 0..7_200_i64 {
        world.now += SECOND;
        world.publish_at(topic, 0..1, 4 * 1024, step);
        world.settle(Demand::None);
    }
    assert_eq!(world.log(topic, 0).files().len(), 1, "after an hour");
    let look = world.settle(Demand::None);
    assert_eq!(look, world.log(topic, 0).waiting_since_ms().map(|since| since + HOUR));
}

#[test]
fn everything_is_archived_on_demand_and_only_what_is_meant() {
    let mut world = World::new(100);
    let (one, other) = (world.topic("one", 2, Retention::default()), world.topic("other", 1, Retention::default()));
    for topic in [one, other] {
        world.publish(topic, 0..1, 100);
    }
    world.settle(Demand::Topic(one));
    assert_eq!((world.log(one, 0).runs().len(), world.log(other, 0).runs().len()), (0, 1));
    world.settle(Demand::All);
    assert_eq!(world.log(other, 0).runs().len(), 0);
    assert_eq!(world.settle(Demand::All), None);
}

#[test]
fn key_compaction_waits_for_the_lag_and_for_enough_and_comes_to_rest() {
    let mut world = World::new(100);
    world.kept = 50;
    let lag = 2 * HOUR;
    let retention = Retention { key_compaction: true, compaction_lag_ms: lag as u64, ..Retention::default() };
    let topic = world.topic("t", 1, retention);
    let mut compacted_before = 0;
    for _ in 0..3_000 {
        world.now += MINUTE;
        world.publish(topic, 0..1, 4 * MIB);
        let young = world.now - lag;
        let look = world.settle(Demand::None);
        let files = world.log(topic, 0).files();
        let clean = files.iter().take_while(|file| file.compacted).count();
        assert!(files[clean..].iter().all(|file| !file.compacted), "the clean part is the beginning");
        assert!(files[..clean].iter().all(|file| file.min_timestamp_ms <= young));
        let eligible = files[clean..].iter().take_while(|file| file.max_timestamp_ms <= young);
        let dirty: u64 = eligible.map(|file| file.bytes).sum();
        let bytes: u64 = files[..clean].iter().map(|file| file.bytes).sum();
        assert!(dirty == 0 || dirty < bytes / 2, "{dirty} of {bytes}");
        assert!(look.is_some() || files.len() == clean, "somebody looks when the lag is over");
        compacted_before = compacted_before.max(clean);
    }
    assert!(compacted_before > 0 && world.log(topic, 0).files().len() < 100);
    world.now += DAY;
    world.settle(Demand::All);
    assert!(world.log(topic, 0).files().iter().all(|file| file.compacted));
    assert_eq!(world.settle(Demand::All), None);
}

#[test]
fn old_tombstones_go_some_time_after_their_time_and_then_it_is_quiet() {
    let mut world = World::new(100);
    world.tombstones = true;
    let retention = Retention { key_compaction: true, tombstones_ms: DAY as u64, ..Retention::default() };
    let topic = world.topic("t", 1, retention);
    for _ in 0..6 {
        world.publish(topic, 0..1, MIB);
        world.now += HOUR;
    }
    world.settle(Demand::All);
    let oldest = |world: &World| world.log(topic, 0).files()[0].oldest_tombstone_ms;
    let (first, last) = (world.now - 6 * HOUR, world.now - HOUR);
    assert_eq!((world.log(topic, 0).files().len(), oldest(&world)), (1, Some(first)));
    // A file is not written again for every tombstone, unless it is asked for.
    world.now = first + DAY + 1;
    assert_eq!(world.settle(Demand::None), Some(first + DAY + DAY / 2));
    let jobs = world.figures.jobs;
    world.settle(Demand::All);
    assert_eq!((oldest(&world), world.figures.jobs), (Some(first + 1), jobs + 1));
    let look = world.settle(Demand::None);
    assert_eq!(look, Some(first + 1 + DAY + DAY / 2));
    world.now = look.unwrap();
    let job = world.plan(Demand::None).jobs.pop();
    let Some(Job::Compact(CompactJob { dirty_from, until, .. })) = job else { panic!("{job:?}") };
    assert_eq!(dirty_from, until, "nothing is dirty");
    assert!(world.now - DAY > last, "the time of all is over");
    assert_eq!((world.settle(Demand::None), oldest(&world)), (None, None));
    assert_eq!((world.settle(Demand::All), world.figures.jobs), (None, jobs + 2));
}

#[test]
fn what_is_left_alone_takes_no_place_and_what_comes_later_is_not_asked_for() {
    let mut world = World::new(100);
    let topics: Vec<_> = (0..6).map(|n| world.topic(&format!("t{n}"), 1, Retention::default())).collect();
    for _ in 0..16 {
        topics[..5].iter().for_each(|topic| world.publish(*topic, 0..1, 16 * MIB));
    }
    (0..4).for_each(|_| world.publish(topics[5], 0..1, 16 * MIB));
    let planned = |world: &World, left_alone: &[TopicId], until: Offset| {
        let wanted = |topic, _| Wanted { until, jobs: !left_alone.contains(&topic) };
        let plan = plan_wanted(&world.state, world.now, &world.settings, wanted, &mut Memory::default());
        let topics = |job: &Job| match job {
            Job::Archive(job) => job.parts.iter().map(|part| part.topic).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        plan.jobs.iter().flat_map(topics).collect::<BTreeSet<_>>()
    };
    world.settings.jobs_of_a_kind = 2;
    assert_eq!(planned(&world, &[], Offset(0)), topics[..4].iter().copied().collect(), "as many as fit");
    assert_eq!(planned(&world, &topics[..5], Offset(0)), BTreeSet::from([topics[5]]));
    // Too little to be archived for itself, and published after it was asked for.
    let mut world = World::new(100);
    let topic = world.topic("t", 1, Retention::default());
    world.publish(topic, 0..1, MIB);
    let end = world.log(topic, 0).high_watermark;
    assert_eq!(planned(&world, &[], Offset(0)), BTreeSet::new());
    assert_eq!(planned(&world, &[], end), BTreeSet::from([topic]));
    world.publish(topic, 0..1, MIB);
    assert_eq!(planned(&world, &[], end), BTreeSet::from([topic]), "some of it was asked for");
    world.settle(Demand::All);
    world.publish(topic, 0..1, MIB);
    assert_eq!(planned(&world, &[], end), BTreeSet::new());
}
