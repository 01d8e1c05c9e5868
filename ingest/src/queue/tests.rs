//! Queue subscriptions against the real shard state over a log in memory, in virtual time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    batch::{Attributes, MessageRef, ValueKind},
    command::{Command, DeadReason, Expired, Outcome, QueueSettings},
    env::Env,
    filter::Filter,
    ids::{Offset, Partition},
    names::{SubscriptionName, TopicName},
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    Ingest, IngestError, IngestMetrics, IngestSettings, ReadFrom, ReadRequest,
    log::{
        Log,
        memory::{Fault, MemoryLog},
    },
};

mod archive;
mod change;
mod order;
mod reign;

const WRITE: Duration = Duration::from_millis(3);
const VISIBILITY: Duration = Duration::from_secs(30);
/// When a receipt has expired for certain: the dispatcher's timers are a little coarse.
const OVER: Duration = Duration::from_millis(30_010);

struct World {
    log: Arc<MemoryLog>,
    ingest: Ingest,
    topic: TopicName,
    queue: QueueHandle,
}

/// A message of a test.
#[derive(Clone, Copy, Default)]
struct Sent<'a> {
    value: &'a str,
    key: Option<&'a str>,
    headers: &'a [(&'a str, &'a str)],
    attributes: Attributes<'a>,
}

fn plain(value: &str) -> Sent<'_> {
    Sent { value, ..Sent::default() }
}

fn world_with(partitions: u32, settings: QueueSettings) -> World {
    world_made(partitions, settings, &[])
}

/// With other topics, too.
fn world_made(partitions: u32, settings: QueueSettings, others: &[&str]) -> World {
    let (log, tasks) = (MemoryLog::start(WRITE), TaskTracker::new());
    let (topic, id) = log.create_topic("t", partitions);
    others.iter().for_each(|name| _ = log.create_topic(name, 1));
    let name = SubscriptionName::new("q").unwrap();
    let create =
        Command::CreateQueue { topic: id, name: name.clone(), settings, secret: [7; 32], positions: Vec::new() };
    assert!(matches!(log.now(create), Ok(Outcome::QueueCreated(_))));
    let settings = IngestSettings::default();
    let metrics = IngestMetrics::new(&settings);
    let ingest = Ingest::start_on(Log::Memory(log.clone()), settings, metrics, Env::simulated(1, 1_000), &tasks);
    let queue = ingest.queue(&topic, &name).unwrap();
    World { log, ingest, topic, queue }
}

fn world(settings: QueueSettings) -> World {
    world_with(1, settings)
}

impl World {
    async fn publish(&self, messages: &[Sent<'_>]) {
        let admission = self.ingest.admit(100).unwrap();
        let mut draft = self.ingest.draft(&self.topic, None).unwrap();
        for sent in messages {
            let headers: Vec<_> = sent.headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let message = MessageRef {
                key: sent.key.map(str::as_bytes),
                value: Some(sent.value.as_bytes()),
                kind: ValueKind::Text,
                headers: &headers,
                timestamp_ms: 5,
                attributes: sent.attributes,
            };
            draft.push(&message, None).unwrap();
        }
        self.ingest.publish(draft, admission).await.unwrap();
    }

    async fn publish_plain(&self, values: &[&str]) {
        self.publish(&values.iter().map(|value| plain(value)).collect::<Vec<_>>()).await;
    }

    async fn poll(&self, max_messages: usize, wait: Duration) -> Vec<Got> {
        let poll = QueuePoll { max_messages, max_bytes: 1 << 20, wait, visibility: None };
        got(&self.queue.poll(poll).await.unwrap())
    }

    /// Everything that can be delivered now.
    async fn poll_now(&self) -> Vec<Got> {
        self.poll(100, Duration::ZERO).await
    }

    async fn settle(&self, action: Action, receipts: &[&Got]) -> Vec<Result<Settled, ReceiptError>> {
        let receipts: Vec<_> = receipts.iter().map(|got| got.receipt.clone()).collect();
        self.queue.settle(action, &receipts).await.unwrap()
    }

    async fn ack(&self, got: &Got) -> Result<Settled, ReceiptError> {
        self.settle(Action::Ack, &[got]).await.remove(0)
    }
}

/// A delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    value: String,
    offset: u64,
    deliveries: u32,
    receipt: String,
}

fn got(deliveries: &[Delivery]) -> Vec<Got> {
    let mut all = Vec::new();
    for Delivery { slice, receipts } in deliveries {
        assert_eq!(slice.rows, receipts.len());
        for (row, handed) in receipts.iter().enumerate() {
            let value = slice.messages.value(slice.first + row).unwrap();
            let value = String::from_utf8(value.to_vec()).unwrap();
            let (deliveries, receipt) = (handed.deliveries, handed.receipt.clone());
            all.push(Got { value, offset: slice.base.0 + row as u64, deliveries, receipt });
        }
    }
    all
}

fn values(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.value.as_str()).collect()
}

const OK: Result<Settled, ReceiptError> = Ok(Settled { extended: None });

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_does_not_come_again() {
    let world = world_with(3, QueueSettings::default());
    world.publish_plain(&["a", "b", "c"]).await;
    let first = world.poll(2, Duration::ZERO).await;
    assert_eq!((values(&first), first[0].deliveries), (vec!["a", "b"], 1));
    assert_eq!(values(&world.poll_now().await), ["c"]);
    assert_eq!(world.poll_now().await, []);
    assert_eq!(world.ack(&first[0]).await, OK);
    assert_eq!(
        world.queue.counts().await.unwrap(),
        QueueCounts { unsettled: 2, in_flight: 2, ..QueueCounts::default() }
    );
    tokio::time::sleep(OVER).await;
    let again = world.poll_now().await;
    assert_eq!((values(&again), again[0].deliveries), (vec!["b", "c"], 2));
}

#[tokio::test(start_paused = true)]
async fn receipts_that_are_not_good_are_refused_by_name() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    assert_eq!(world.ack(&first[0]).await, OK);
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::AlreadySettled));
    let twice = world.settle(Action::Ack, &[&first[1], &first[1]]).await;
    assert_eq!(twice, [OK, Err(ReceiptError::BeingSettled)]);
    world.publish_plain(&["c"]).await;
    let late = world.poll_now().await.remove(0);
    tokio::time::sleep(OVER).await;
    assert_eq!(world.ack(&late).await, Err(ReceiptError::Expired));
    let again = world.poll_now().await.remove(0);
    assert_eq!(world.ack(&late).await, Err(ReceiptError::Superseded));
    let made_up = Got { receipt: "AQ".repeat(20), ..again.clone() };
    assert_eq!(world.ack(&made_up).await, Err(ReceiptError::Invalid));
    assert_eq!(world.ack(&again).await, OK);
    let other = SubscriptionName::new("other").unwrap();
    let topic = world.log.state.read().topic_named(&world.topic).unwrap().id;
    let (settings, positions) = (QueueSettings::default(), Vec::new());
    world.log.now(Command::CreateQueue { topic, name: other.clone(), settings, secret: [8; 32], positions }).unwrap();
    let other = world.ingest.queue(&world.topic, &other).unwrap();
    let foreign = other.settle(Action::Ack, std::slice::from_ref(&again.receipt)).await.unwrap();
    assert_eq!(foreign, [Err(ReceiptError::Foreign)]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_back_waits_as_long_as_it_is_told() {
    let world = world(QueueSettings { retry_delay_ms: 2_000, ..QueueSettings::default() });
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    let delay = Some(Duration::from_secs(5));
    assert_eq!(world.settle(Action::Nack { delay }, &[&first[0]]).await, [OK]);
    assert_eq!(world.settle(Action::Nack { delay: None }, &[&first[1]]).await, [OK]);
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::Expired));
    assert_eq!(world.poll_now().await, []);
    let started = tokio::time::Instant::now();
    let again = world.poll(9, Duration::from_secs(60)).await;
    assert_eq!((values(&again), again[0].deliveries), (vec!["b"], 2));
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(values(&world.poll(9, Duration::from_secs(60)).await), ["a"]);
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_receipt_can_be_extended_while_it_is_good() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await.remove(0);
    tokio::time::sleep(VISIBILITY / 2).await;
    let extended = world.settle(Action::Extend { visibility: VISIBILITY * 2 }, &[&first]).await.remove(0).unwrap();
    let (receipt, _) = extended.extended.unwrap();
    tokio::time::sleep(VISIBILITY).await;
    assert_eq!(world.poll_now().await, []);
    assert_eq!(world.queue.settle(Action::Ack, &[receipt]).await.unwrap(), [OK]);
    let late = world.settle(Action::Extend { visibility: VISIBILITY }, &[&first]).await;
    assert_eq!(late, [Err(ReceiptError::AlreadySettled)]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_for_the_next_message_and_a_caller_that_leaves_gets_none() {
    let world = world(QueueSettings::default());
    let poll = QueuePoll { max_messages: 9, max_bytes: 1, wait: VISIBILITY, visibility: None };
    let left = tokio::time::timeout(Duration::from_secs(1), world.queue.poll(poll)).await;
    assert!(left.is_err());
    let (waited, ()) = tokio::join!(world.poll(9, VISIBILITY), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.publish_plain(&["a"]).await;
    });
    assert_eq!((values(&waited), waited[0].deliveries), (vec!["a"], 1));
    let started = tokio::time::Instant::now();
    assert_eq!(world.poll(9, Duration::from_secs(3)).await, []);
    assert!(started.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn bytes_and_messages_are_bounded() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["aaaa", "bbbb", "cccc", "dddd"]).await;
    let poll = |max_messages, max_bytes| QueuePoll { max_messages, max_bytes, wait: Duration::ZERO, visibility: None };
    let take = async |poll| got(&world.queue.poll(poll).await.unwrap());
    assert_eq!(values(&take(poll(9, 1)).await), ["aaaa"]);
    assert_eq!(values(&take(poll(9, 8)).await), ["bbbb", "cccc"]);
    assert_eq!(values(&take(poll(1, 100)).await), ["dddd"]);
}

#[tokio::test(start_paused = true)]
async fn delivered_too_often_it_becomes_a_dead_letter() {
    let world = world(QueueSettings { max_deliveries: 2, ..QueueSettings::default() });
    let headers: &[(&str, &str)] = &[("colour", "red")];
    world.publish(&[Sent { headers, ..plain("bad") }, plain("worse"), plain("good")]).await;
    let first = world.poll_now().await;
    world.ack(&first[2]).await.unwrap();
    tokio::time::sleep(OVER).await;
    let second = world.poll_now().await;
    assert_eq!(values(&second), ["bad", "worse"]);
    // One is given back for the last time, the receipt of the other expires for the last time.
    assert_eq!(world.settle(Action::Nack { delay: None }, &[&second[1]]).await, [OK]);
    tokio::time::sleep(VISIBILITY * 2).await;
    assert_eq!(world.poll_now().await, []);
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.dead_letters, counts.unsettled, counts.in_flight), (2, 0, 0));
    assert_eq!(world.ack(&second[0]).await, Err(ReceiptError::AlreadySettled));

    let query = |filter| DeadLetterQuery { after: None, max_messages: 1, max_bytes: 1_000, filter };
    let page = world.queue.dead_letters(query(None)).await.unwrap();
    let (slice, letter) = &page.letters[0];
    assert_eq!((slice.messages.value(slice.first).unwrap(), letter.reason), (&b"bad"[..], DeadReason::MaxDeliveries));
    assert_eq!((letter.deliveries, page.letters.len(), page.next.is_some()), (2, 1, true));
    let red = Filter::parse("colour = 'red'").unwrap();
    let pick = |filter| DeadLetterPick { filter, ..DeadLetterPick::default() };
    assert_eq!(world.queue.redrive(pick(Some(red.clone()))).await.unwrap(), 1);
    assert_eq!(world.queue.dead_letters(query(Some(red))).await.unwrap().letters.len(), 0);
    let again = world.poll_now().await;
    assert_eq!((values(&again), again[0].deliveries), (vec!["bad"], 1));
    assert_eq!(world.queue.purge(pick(None)).await.unwrap(), 1);
    assert_eq!(world.queue.counts().await.unwrap().dead_letters, 0);
    assert_eq!(world.settle(Action::Reject, &[&again[0]]).await, [OK]);
    let page = world.queue.dead_letters(query(None)).await.unwrap();
    assert_eq!((page.letters[0].1.reason, page.next), (DeadReason::Rejected, None));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_move_to_their_topic_and_say_where_they_come_from() {
    let dead = TopicName::new("dead").unwrap();
    let settings =
        QueueSettings { max_deliveries: 1, dead_letter_topic: Some(dead.clone()), ..QueueSettings::default() };
    let world = world_made(1, settings, &["dead"]);
    let headers: &[(&str, &str)] = &[("colour", "red")];
    world.publish(&[Sent { headers, key: Some("k"), ..plain("bad") }, plain("worse"), plain("good")]).await;
    let first = world.poll_now().await;
    let nack = Action::Nack { delay: None };
    assert_eq!(world.settle(nack, &[&first[0], &first[1]]).await, [OK, OK]);
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::AlreadySettled));
    assert_eq!(world.queue.counts().await.unwrap().dead_letters, 2);
    let request = ReadRequest {
        topic: dead,
        partition: Partition(0),
        from: ReadFrom::Earliest,
        max_messages: 9,
        max_bytes: 1_000,
        wait: Duration::ZERO,
    };
    let copies = world.ingest.read(request).await.unwrap().slices;
    assert_eq!((copies.len(), copies[0].rows), (1, 2));
    let messages = &copies[0].messages;
    assert_eq!((messages.value(0), messages.key(0)), (Some(&b"bad"[..]), Some(&b"k"[..])));
    let told: BTreeMap<_, _> = messages.headers(0).collect();
    let told = |name| told.get(name).copied();
    assert_eq!((told("colour"), told("brigade-dead-letter-reason")), (Some("red"), Some("max_deliveries")));
    assert_eq!((told("brigade-dead-letter-topic"), told("brigade-dead-letter-offset")), (Some("t"), Some("0")));
    assert_eq!(*world.log.fetches.lock(), 0, "copies are in the cache");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_given_back_at_a_rate() {
    let world = world(QueueSettings { max_deliveries: 1, ..QueueSettings::default() });
    world.publish_plain(&["a", "b", "c", "d"]).await;
    let first = world.poll_now().await;
    world.settle(Action::Reject, &first.iter().collect::<Vec<_>>()).await;
    let pick = DeadLetterPick { per_second: Some(2), max_messages: Some(3), ..DeadLetterPick::default() };
    let started = tokio::time::Instant::now();
    assert_eq!(world.queue.redrive(pick).await.unwrap(), 3);
    let mut came = BTreeMap::new();
    while came.len() < 3 {
        for got in world.poll(9, VISIBILITY).await {
            came.insert(got.value, started.elapsed().as_millis() / 500);
        }
    }
    assert_eq!(came, [("a", 0), ("b", 1), ("c", 2)].map(|(value, at)| (value.to_owned(), at)).into());
}

#[tokio::test(start_paused = true)]
async fn messages_come_when_they_are_due_and_not_when_they_have_expired() {
    let world = world(QueueSettings { expired: Expired::DeadLetter, ..QueueSettings::default() });
    let now = 1_000;
    let delayed = Attributes { deliver_at_ms: Some(now + 60_000), ..Attributes::default() };
    let fleeting = Attributes { expires_at_ms: Some(now + 10_000), ..Attributes::default() };
    let sent = [("late", delayed), ("soon", Attributes::default()), ("brief", fleeting)];
    world.publish(&sent.map(|(value, attributes)| Sent { attributes, ..plain(value) })).await;
    let first = world.poll_now().await;
    assert_eq!(values(&first), ["soon", "brief"]);
    let started = tokio::time::Instant::now();
    // What has expired when it would come again does not.
    let next = world.poll(9, VISIBILITY * 4).await;
    assert_eq!((values(&next), next[0].deliveries), (vec!["soon"], 2));
    let last = world.poll(9, VISIBILITY * 4).await;
    assert_eq!(values(&last), ["late"]);
    assert!(started.elapsed() < Duration::from_secs(61), "{:?}", started.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.queue.counts().await.unwrap().dead_letters, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_does_not_want_is_settled_without_being_delivered() {
    let world = world(QueueSettings { filter: Some("kind = 'a'".to_owned()), ..QueueSettings::default() });
    let headers: [&[(&str, &str)]; 2] = [&[("kind", "a")], &[("kind", "b")]];
    for _ in 0..3 {
        world.publish(&headers.map(|headers| Sent { headers, ..plain(headers[0].1) })).await;
    }
    let first = world.poll_now().await;
    assert_eq!(values(&first), ["a", "a", "a"]);
    world.settle(Action::Ack, &first.iter().collect::<Vec<_>>()).await;
    assert_eq!(world.queue.counts().await.unwrap(), QueueCounts::default());
}

#[tokio::test(start_paused = true)]
async fn a_new_task_honours_receipts_until_it_has_delivered_the_message_itself() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    world.queue.begin_again().await;
    assert_eq!(world.ack(&first[0]).await, OK);
    let again = world.poll_now().await;
    assert_eq!(values(&again), ["b"]);
    assert_eq!(world.ack(&first[1]).await, Err(ReceiptError::Superseded));
    assert_eq!(world.ack(&again[0]).await, OK);
    assert_eq!(world.queue.counts().await.unwrap(), QueueCounts::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_committed_is_not_settled() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a"]).await;
    let first = world.poll_now().await.remove(0);
    *world.log.fault.lock() = Fault::Unavailable;
    let refused = world.queue.settle(Action::Ack, std::slice::from_ref(&first.receipt)).await;
    assert!(matches!(refused, Err(IngestError::Propose(_))), "{refused:?}");
    *world.log.fault.lock() = Fault::None;
    assert_eq!(world.queue.counts().await.unwrap().in_flight, 1);
    assert_eq!(world.ack(&first).await, OK);
}

#[tokio::test(start_paused = true)]
async fn messages_held_for_a_transaction_are_let_go_when_it_comes_to_nothing() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    let first = world.poll_now().await;
    let receipts: Vec<_> = first.iter().map(|got| got.receipt.clone()).collect();
    let hold = world.queue.hold(&receipts).await.unwrap().unwrap();
    assert_eq!(hold.settle().partitions[0].settled.len(), 1, "a run");
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::BeingSettled));
    drop(hold);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.ack(&first[0]).await, OK);
    let problem = world.queue.hold(&receipts).await.unwrap().map(|_| ()).unwrap_err();
    assert_eq!(problem, (0, ReceiptError::AlreadySettled));
    assert_eq!(world.ack(&first[1]).await, OK);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_sent_back_delivers_again_and_one_that_is_deleted_answers() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["a", "b"]).await;
    for got in world.poll_now().await {
        world.ack(&got).await.unwrap();
    }
    world.queue.seek(vec![(Partition(0), Offset(1))]).await.unwrap();
    assert_eq!(values(&world.poll_now().await), ["b"]);
    let (topic, name) =
        (world.log.state.read().topic_named(&world.topic).unwrap().id, SubscriptionName::new("q").unwrap());
    let waiting = world.queue.poll(QueuePoll { max_messages: 1, max_bytes: 1, wait: VISIBILITY / 2, visibility: None });
    let (answer, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.log.now(Command::DeleteSubscription { topic, name }).unwrap();
        world.queue.begin_again().await;
    });
    assert!(matches!(answer, Err(IngestError::Refused(_))), "{answer:?}");
}
