//! What must hold when something changes while something else is under way.

use brigade_index::{
    command::{Mode, Prepare, QueuePatch, SettingsPatch, Transact},
    ids::TopicId,
    names::TransactionId,
};
use futures::FutureExt;

use super::*;

impl World {
    fn topic_id(&self) -> TopicId {
        self.log.state.read().topic_named(&self.topic).unwrap().id
    }

    /// Values of everything that comes within a second.
    async fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match self.poll(100, Duration::from_secs(1)).await {
                got if got.is_empty() => return all,
                got => all.extend(got.into_iter().map(|got| got.value)),
            }
        }
    }
}

fn receipts(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.receipt.clone()).collect()
}

/// Prepares a transaction that acknowledges the first message, and one that acknowledges the second.
async fn prepared(world: &World, got: &[Got]) -> [TransactionId; 2] {
    let ids = ["no", "yes"].map(|id| TransactionId::new(id).unwrap());
    for (id, got) in ids.iter().zip(got) {
        let hold = world.queue.hold(&receipts(std::slice::from_ref(got))).await.unwrap().unwrap();
        let (settles, prepare) = (vec![hold.settle().clone()], Prepare { expires_ms: 1_000, check_back: None });
        let (publishes, mode) = (Vec::new(), Mode::Prepare(prepare));
        world.log.now(Command::Transact(Transact { id: id.clone(), publishes, settles, mode })).unwrap();
        hold.taken(false).await;
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn what_a_transaction_held_that_is_rolled_back_is_in_flight_again() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b", "c"]).await;
    let first = world.poll_now().await;
    let [no, yes] = prepared(&world, &first).await;
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::BeingSettled));
    world.ingest.decide(&no, false).await.unwrap();
    world.ingest.decide(&yes, true).await.unwrap();
    assert_eq!(world.poll_now().await, [], "receipts are still good, whoever has them");
    assert_eq!(world.ack(&first[0]).await, OK);
    assert_eq!(world.ack(&first[1]).await, Err(ReceiptError::AlreadySettled));
    assert_eq!(world.ack(&first[2]).await, OK);
    assert_eq!(world.queue.counts().await.unwrap(), QueueCounts::default());
}

#[tokio::test(start_paused = true)]
async fn what_a_transaction_held_that_is_rolled_back_is_delivered_again_by_a_new_dispatcher() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b", "c"]).await;
    let first = world.poll_now().await;
    let [no, yes] = prepared(&world, &first).await;
    world.queue.begin_again().await;
    assert_eq!(world.all().await, ["c"], "the others are held");
    world.ingest.decide(&no, false).await.unwrap();
    world.ingest.decide(&yes, true).await.unwrap();
    assert_eq!(world.all().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_seek_is_heard_of_even_if_nobody_waits_for_it() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await;
    assert_eq!(world.ack(&first[0]).await, OK);
    let left = tokio::time::timeout(WRITE / 3, world.queue.seek(vec![(Partition(0), Offset(0))])).await;
    assert!(left.is_err());
    assert_eq!(values(&world.poll(9, VISIBILITY).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_found_even_if_nobody_waits_for_it() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await;
    assert_eq!(world.settle(Action::Reject, &[&first[0]]).await, [OK]);
    let left = tokio::time::timeout(WRITE / 3, world.queue.redrive(DeadLetterPick::default())).await;
    assert!(left.is_err());
    assert_eq!(values(&world.poll(9, VISIBILITY).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_nobody_takes_is_let_go() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await;
    let receipts = receipts(&first);
    let mut holding = Box::pin(world.queue.hold(&receipts));
    assert!((&mut holding).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Its answer is there, and whoever asked leaves without looking.
    drop(holding);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.ack(&first[0]).await, OK);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_waits_sees_partitions_that_are_added() {
    let world = world(QueueSettings::default());
    let started = tokio::time::Instant::now();
    let (waited, ()) = tokio::join!(world.poll(9, VISIBILITY), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let patch = SettingsPatch { partitions: Some(3), ..SettingsPatch::default() };
        world.log.now(Command::AlterTopic { topic: world.topic_id(), patch }).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut draft = world.ingest.draft(&world.topic, None).unwrap();
        let message = MessageRef {
            key: None,
            value: Some(b"a"),
            kind: ValueKind::Text,
            headers: &[],
            timestamp_ms: 5,
            attributes: Attributes::default(),
        };
        draft.push(&message, Some(2)).unwrap();
        let admission = world.ingest.admit(100).unwrap();
        world.ingest.publish(draft, admission).await.unwrap();
    });
    assert_eq!(values(&waited), ["a"]);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn looking_again_does_not_mind_a_search_that_fails() {
    let world = world(QueueSettings { ordered: true, ..QueueSettings::default() });
    world.publish_plain(&["a"]).await;
    world.publish_plain(&["b"]).await;
    let first = world.poll_now().await;
    assert_eq!(world.settle(Action::Reject, &[&first[0]]).await, [OK]);
    let next = world.taken_over(2);
    *world.log.unreachable.lock() = true;
    let search = async {
        tokio::time::sleep(WRITE - Duration::from_millis(1)).await;
        next.poll(9, VISIBILITY).await
    };
    let (found, ()) = tokio::join!(search, async {
        assert_eq!(next.queue.redrive(DeadLetterPick::default()).await.unwrap(), 1);
        assert_eq!(*world.log.fetches.lock(), 1, "the search is under way, from behind the dead letter on");
        *world.log.unreachable.lock() = false;
    });
    assert_eq!(values(&found), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_and_is_sought_back_to_comes_again() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    // The acknowledgement is committed before the subscription is sent back, and its task hears of it afterwards.
    *world.log.late.lock() = Duration::from_millis(10);
    let (acked, ()) = tokio::join!(world.ack(&first[0]), async {
        tokio::time::sleep(WRITE + Duration::from_millis(1)).await;
        let (name, positions) = (SubscriptionName::new("q").unwrap(), vec![(Partition(0), Offset(0))]);
        let seek = Command::CommitPositions { topic: world.topic_id(), name, positions, seek: true };
        world.log.now(seek).unwrap();
        world.queue.begin_again().await;
        assert_eq!(values(&world.poll(9, VISIBILITY).await), ["b"]);
    });
    assert_eq!(acked, OK);
    assert_eq!(world.all().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_while_its_burial_is_not_heard_of_comes_again() {
    let world = world(QueueSettings { max_deliveries: 1, ..QueueSettings::default() });
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await;
    *world.log.late.lock() = Duration::from_millis(30);
    let rejected = [&first[0]];
    let ((), rejected) = tokio::join!(
        async {
            tokio::time::sleep(WRITE + Duration::from_millis(1)).await;
            *world.log.late.lock() = Duration::ZERO;
            assert_eq!(world.queue.redrive(DeadLetterPick::default()).await.unwrap(), 1);
            assert_eq!(world.poll(9, WRITE).await, []);
        },
        world.settle(Action::Reject, &rejected)
    );
    assert_eq!(rejected, [OK]);
    let again = world.poll(9, Duration::from_secs(1)).await;
    assert_eq!((values(&again), again[0].deliveries), (vec!["a"], 1));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_replaced_settles_nothing_any_more() {
    let world = world(QueueSettings { filter: Some("kind = 'a'".to_owned()), ..QueueSettings::default() });
    let headers: &[(&str, &str)] = &[("kind", "b")];
    world.publish(&[Sent { headers, ..plain("b") }]).await;
    assert_eq!(world.poll_now().await, []);
    let filter = Some(Some("kind = 'b'".to_owned()));
    world.queue.alter(QueuePatch { filter, ..QueuePatch::default() }).await.unwrap();
    assert_eq!(values(&world.poll_now().await), ["b"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.queue.counts().await.unwrap().unsettled, 1);
}

#[tokio::test(start_paused = true)]
async fn another_retry_delay_leaves_in_flight_what_is() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    let retry_delay_ms = Some(60_000);
    world.queue.alter(QueuePatch { retry_delay_ms, ..QueuePatch::default() }).await.unwrap();
    assert_eq!(world.poll_now().await, []);
    assert_eq!(world.ack(&first[0]).await, OK);
    tokio::time::sleep(OVER).await;
    assert_eq!(world.poll(9, VISIBILITY).await, []);
    assert_eq!(values(&world.poll(9, VISIBILITY * 2).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn everything_that_a_call_gives_back_is_committed_when_it_is_answered() {
    let dead = Some(TopicName::new("dead").unwrap());
    let settings = QueueSettings { max_deliveries: 2, dead_letter_topic: dead, ..QueueSettings::default() };
    let world = world_made(1, settings, &["dead"]);
    world.publish_plain(&["a", "b"]).await;
    let nack = Action::Nack { delay: None };
    let first = world.poll(1, Duration::ZERO).await;
    assert_eq!(world.settle(nack, &[&first[0]]).await, [OK]);
    let both = world.poll_now().await;
    assert_eq!((both[0].deliveries, both[1].deliveries), (2, 1));
    assert_eq!(world.settle(nack, &[&both[0], &both[1]]).await, [OK, OK]);
    let state = world.log.state.read();
    let subscription = state.topic_named(&world.topic).unwrap().subscriptions.values().next().unwrap();
    let part = subscription.queue().unwrap().partition(Partition(0)).unwrap();
    assert_eq!(part.dead().keys().collect::<Vec<_>>(), [&Offset(0)]);
    assert_eq!(part.retries().iter().map(|(at, retry)| (at.0, retry.deliveries)).collect::<Vec<_>>(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_has_nothing_to_do_sleeps() {
    let dead = Some(TopicName::new("dead").unwrap());
    let settings = QueueSettings { max_deliveries: 1, dead_letter_topic: dead, ..QueueSettings::default() };
    let world = world_made(1, settings, &["dead"]);
    let late = Attributes { deliver_at_ms: Some(100_000_000), ..Attributes::default() };
    world.publish(&[plain("a"), Sent { attributes: late, ..plain("late") }]).await;
    assert_eq!(values(&world.poll_now().await), ["a"]);
    tokio::time::sleep(OVER).await;
    let before = *world.log.asked.lock();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(*world.log.asked.lock() < before + 20, "woke {} times", *world.log.asked.lock() - before);
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.dead_letters, counts.delayed), (1, 1));
    // What was found can be found again: it is forgotten.
    assert_eq!(world.poll_now().await, []);
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(world.queue.counts().await.unwrap().delayed, 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_passed_in_one_go() {
    let world = world(QueueSettings::default());
    let brief = Attributes { expires_at_ms: Some(2_000), ..Attributes::default() };
    let mut sent = vec![Sent { attributes: brief, ..plain("brief") }; 60];
    sent.push(plain("good"));
    world.publish(&sent).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let started = tokio::time::Instant::now();
    assert_eq!(values(&world.poll(1, VISIBILITY).await), ["good"]);
    assert!(started.elapsed() < WRITE * 4, "{:?}", started.elapsed());
    tokio::time::sleep(WRITE * 2).await;
    assert_eq!(world.queue.counts().await.unwrap().unsettled, 1);
}
