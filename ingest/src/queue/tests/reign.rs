//! What must hold when reigns begin and end, and when transactions are decided.

use brigade_index::{names::TransactionId, shard::ProposeError};

use super::*;
use crate::{Preparation, TransactionDraft, TransactionState};

impl World {
    /// Another node leads: it knows nothing but what is committed.
    pub(super) fn taken_over(&self, seed: u64) -> Self {
        let (settings, tasks) = (IngestSettings::default(), TaskTracker::new());
        let metrics = IngestMetrics::new(&settings);
        let env = Env::simulated(seed, 1_000);
        let ingest = Ingest::start_on(Log::Memory(self.log.clone()), settings, metrics, env, &tasks);
        let queue = ingest.queue(&self.topic, &SubscriptionName::new("q").unwrap()).unwrap();
        Self { log: self.log.clone(), ingest, topic: self.topic.clone(), queue }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_while_it_is_read_does_not_come_again() {
    let world = world(QueueSettings { ordered: true, ..QueueSettings::default() });
    // More batches than are fetched at once: reading them takes two milliseconds.
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for value in &all {
        world.publish_plain(&[value]).await;
    }
    let first = world.poll_now().await;
    let next = world.taken_over(2);
    // The acknowledgement is committed between the beginning of the search and its end.
    let (acked, found) = tokio::join!(next.ack(&first[0]), async {
        tokio::time::sleep(WRITE - Duration::from_millis(1)).await;
        next.poll_now().await
    });
    assert_eq!((acked, values(&found)), (OK, all[1..].to_vec()));
}

#[tokio::test(start_paused = true)]
async fn delivery_counts_rise_over_reigns() {
    let world = world(QueueSettings { max_deliveries: 3, ..QueueSettings::default() });
    world.publish_plain(&["a"]).await;
    let back = async |world: &World, got: &Got| {
        assert_eq!(world.settle(Action::Nack { delay: None }, &[got]).await, [OK]);
    };
    let first = world.poll_now().await.remove(0);
    let next = world.taken_over(3);
    back(&next, &first).await;
    let second = next.poll_now().await.remove(0);
    let next = next.taken_over(4);
    back(&next, &second).await;
    // An older receipt, which a reign takes that has not delivered the message itself, takes nothing back.
    let next = next.taken_over(5);
    back(&next, &first).await;
    let third = next.poll_now().await.remove(0);
    assert_eq!((first.deliveries, second.deliveries, third.deliveries), (1, 2, 3));
    back(&next.taken_over(6), &third).await;
    assert_eq!(next.queue.counts().await.unwrap().dead_letters, 1);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_answers_what_is_under_way() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    let (acked, ()) = tokio::join!(world.ack(&first[0]), async {
        tokio::time::sleep(WRITE / 3).await;
        world.ingest.drain().await;
    });
    assert_eq!(acked, OK);
    assert_eq!(values(&world.taken_over(7).poll_now().await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_an_answer_leaves_open_what_came_of_it() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await.remove(0);
    *world.log.fault.lock() = Fault::UnknownButStored;
    let acked = world.queue.settle(Action::Ack, std::slice::from_ref(&first.receipt)).await;
    assert!(matches!(acked, Err(IngestError::Propose(ProposeError::Unknown(_)))), "{acked:?}");
    *world.log.fault.lock() = Fault::None;
    assert_eq!(world.ack(&first).await, Err(ReceiptError::AlreadySettled));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_where_nothing_can_be_committed() {
    let world = world(QueueSettings::default());
    let poll = QueuePoll { max_messages: 9, max_bytes: 1, wait: VISIBILITY, visibility: None };
    let quorum = ProposeError::Quorum("two regions are away".to_owned());
    let (waited, ()) = tokio::join!(world.queue.poll(poll), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::join!(world.publish_plain(&["a"]), async {
            tokio::time::sleep(WRITE / 3).await;
            *world.log.not_ready.lock() = Some(quorum.clone());
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = world.queue.poll(poll).await;
        assert!(matches!(refused, Err(IngestError::Propose(ProposeError::Quorum(_)))), "{refused:?}");
        assert_eq!(world.queue.counts().await.unwrap().in_flight, 0);
        *world.log.not_ready.lock() = None;
    });
    assert_eq!(values(&got(&waited.unwrap())), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_settled_is_tried_again_even_by_a_new_dispatcher() {
    let world = world(QueueSettings::default());
    let brief = Attributes { expires_at_ms: Some(11_000), ..Attributes::default() };
    world.publish(&[Sent { attributes: brief, ..plain("a") }]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    *world.log.fault.lock() = Fault::Unavailable;
    let (nothing, ()) = tokio::join!(world.poll(9, WRITE * 2), async {
        tokio::time::sleep(WRITE / 3).await;
        world.queue.begin_again().await;
    });
    assert_eq!(nothing, []);
    *world.log.fault.lock() = Fault::None;
    assert_eq!(world.poll(9, Duration::from_secs(2)).await, []);
    assert_eq!(world.queue.counts().await.unwrap(), QueueCounts::default());
}

#[tokio::test(start_paused = true)]
async fn a_decision_changes_nothing_but_for_what_its_transaction_held() {
    for commit in [true, false] {
        let world = world(QueueSettings::default());
        world.publish_plain(&["a", "b", "c"]).await;
        let got = world.poll_now().await;
        let (id, queue) = (TransactionId::new("tx").unwrap(), world.ingest.queue(&world.topic, &name()).unwrap());
        let acks = vec![(queue, vec![got[0].receipt.clone(), got[1].receipt.clone()])];
        let prepare = Some(Preparation { timeout: VISIBILITY * 100, check_back: None });
        let draft = TransactionDraft { id: id.clone(), publishes: Vec::new(), acks, prepare };
        let reply = world.ingest.transact(draft, world.ingest.admit(1).unwrap()).await.unwrap();
        assert_eq!(reply.state, TransactionState::Prepared);
        assert_eq!(world.ack(&got[0]).await, Err(ReceiptError::BeingSettled));
        let next = world.taken_over(7);
        for action in [Action::Ack, Action::Reject] {
            let early = next.settle(action, &[&got[0]]).await;
            assert_eq!(early, [Err(ReceiptError::BeingSettled)], "before anything was scanned");
        }

        world.ingest.decide(&id, commit).await.unwrap();
        assert_eq!(world.poll_now().await, [], "what is in flight stays so");
        assert_eq!(world.ack(&got[2]).await, OK);
        let settled = if commit { Err(ReceiptError::AlreadySettled) } else { OK };
        assert_eq!(world.ack(&got[0]).await, settled);
        tokio::time::sleep(OVER).await;
        assert_eq!(values(&world.poll_now().await), if commit { vec![] } else { vec!["b"] });
    }
}

fn name() -> SubscriptionName {
    SubscriptionName::new("q").unwrap()
}
