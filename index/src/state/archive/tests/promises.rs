//! Nothing is dropped by what a topic does not say any more.

use super::*;

fn alter(world: &mut World, topic: TopicId, retention: RetentionPatch) {
    let patch = SettingsPatch { retention, ..SettingsPatch::default() };
    assert_eq!(world.apply(Command::AlterTopic { topic, patch }), Ok(Outcome::Done));
}

fn log_start(world: &World, topic: TopicId) -> Offset {
    world.state.topic(topic).unwrap().partitions[0].log_start
}

/// A trim of two messages by the retention that the topic has now.
fn trim(world: &World, topic: TopicId, acknowledged: bool) -> Trim {
    let retention = world.state.topic(topic).unwrap().settings.retention;
    Trim { topic, partition: Partition(0), to: Offset(2), acknowledged, retention }
}

#[test]
fn a_trim_that_was_planned_before_messages_were_to_be_kept_for_longer_is_refused() {
    let mut world = World::new();
    let topic = world.model.topics[&0].id;
    alter(&mut world, topic, RetentionPatch { time_ms: Some(1_000), ..RetentionPatch::default() });
    (0..3).for_each(|_| assert!(world.apply(publish(topic, 0, 1)).is_ok()));
    let planned = trim(&world, topic, false);
    alter(&mut world, topic, RetentionPatch { time_ms: Some(0), ..RetentionPatch::default() });
    assert_eq!(world.apply(Command::Trim(planned)), Err(Rejection::RetentionChanged));
    assert_eq!(log_start(&world, topic), Offset(0), "who asked for more was told that it holds");
    let anew = trim(&world, topic, false);
    assert_eq!(world.apply(Command::Trim(anew)), Ok(Outcome::Trimmed(Offset(2))));
}

#[test]
fn a_trim_of_what_was_acknowledged_spares_what_somebody_new_wants_and_what_is_to_be_kept_after_all() {
    let mut world = World::new();
    let topic = world.model.topics[&0].id;
    alter(&mut world, topic, RetentionPatch { after_ack: Some(true), ..RetentionPatch::default() });
    (0..3).for_each(|_| assert!(world.apply(publish(topic, 0, 1)).is_ok()));
    let subscribe = |name| {
        let name = SubscriptionName::new(name).unwrap();
        Command::CreateSubscription { topic, name, positions: Vec::new() }
    };
    world.apply(subscribe("s")).unwrap();
    let positions = vec![(Partition(0), Offset(3))];
    world.apply(Command::CommitPositions { topic, name: stream(), positions, seek: false }).unwrap();
    let planned = trim(&world, topic, true);
    world.apply(subscribe("late")).unwrap();
    assert_eq!(world.apply(Command::Trim(planned)), Ok(Outcome::Trimmed(Offset(0))), "it begins with the first");
    let name = SubscriptionName::new("late").unwrap();
    world.apply(Command::DeleteSubscription { topic, name }).unwrap();
    alter(&mut world, topic, RetentionPatch { after_ack: Some(false), ..RetentionPatch::default() });
    assert_eq!(world.apply(Command::Trim(planned)), Err(Rejection::RetentionChanged));
    assert_eq!(log_start(&world, topic), Offset(0));
}

#[test]
fn a_key_compaction_that_was_begun_before_more_was_to_be_kept_is_refused() {
    let changes = [
        RetentionPatch { key_compaction: Some(false), ..RetentionPatch::default() },
        RetentionPatch { compaction_lag_ms: Some(60_000), ..RetentionPatch::default() },
        RetentionPatch { tombstones_ms: Some(u64::from(u32::MAX)), ..RetentionPatch::default() },
    ];
    for change in changes {
        let mut world = World::new();
        let topic = world.model.topics[&0].id;
        world.apply(publish(topic, 0, 4)).unwrap();
        world.model.published(0, 0, 4, world.state.applied);
        world.claim(&[(0, 0, 0, 1, false)]);
        let planned = world.model.archived(FileId(1), How::Compacted(1));
        alter(&mut world, topic, change);
        let replace = Command::Replace(Replace { parts: vec![planned] });
        assert_eq!(world.apply(replace), Err(Rejection::RetentionChanged));
        assert_eq!(world.state.topic(topic).unwrap().partitions[0].messages(), 4);
    }
}
