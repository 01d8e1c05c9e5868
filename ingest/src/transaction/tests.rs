//! Transactions against the real shard state over a log in memory.

use std::{collections::BTreeMap, sync::Arc};

use brigade_index::{
    batch::{Attributes, MessageRef, ValueKind},
    command::{Fate, Rejection},
    env::Env,
    ids::Partition,
    names::TopicName,
    shard::ProposeError,
};
use futures::{FutureExt, future::join_all};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    Ingest, IngestError, IngestMetrics, IngestSettings, ReadFrom, ReadRequest, TransactionError,
    log::{
        Log,
        memory::{Fault, MemoryLog},
    },
};

const WRITE: Duration = Duration::from_millis(3);

struct World {
    log: Arc<MemoryLog>,
    ingest: Ingest,
    topics: Vec<TopicName>,
}

/// Two topics with three partitions each.
fn world() -> World {
    let (log, tasks, settings) = (MemoryLog::start(WRITE), TaskTracker::new(), IngestSettings::default());
    let topics = ["a", "b"].map(|name| log.create_topic(name, 3).0).into();
    let metrics = IngestMetrics::new(&settings);
    let ingest = Ingest::start_on(Log::Memory(log.clone()), settings, metrics, Env::simulated(1, 1_000), &tasks);
    World { log, ingest, topics }
}

fn id(name: &str) -> TransactionId {
    TransactionId::new(name).unwrap()
}

fn preparation(timeout_ms: u64, every_ms: Option<u32>) -> Option<Preparation> {
    let check_back = every_ms.map(|every_ms| CheckBack { url: "http://shop".to_owned(), every_ms });
    Some(Preparation { timeout: Duration::from_millis(timeout_ms), check_back })
}

impl World {
    /// A transaction with messages `(topic, key)`, whose value is the id; an empty key is none.
    fn draft(&self, name: &str, messages: &[(usize, &str)], prepare: Option<Preparation>) -> TransactionDraft {
        let mut drafts = BTreeMap::new();
        for (topic, key) in messages {
            let draft =
                drafts.entry(*topic).or_insert_with(|| self.ingest.transaction_draft(&self.topics[*topic], &id(name)));
            let key = (!key.is_empty()).then_some(key.as_bytes());
            let value = Some(name.as_bytes());
            let message = MessageRef {
                key,
                value,
                kind: ValueKind::Text,
                headers: &[],
                timestamp_ms: 1,
                attributes: Attributes::default(),
            };
            draft.as_mut().unwrap().push(&message, None).unwrap();
        }
        let publishes = drafts.into_values().map(Result::unwrap).collect();
        TransactionDraft { id: id(name), publishes, acks: Vec::new(), prepare }
    }

    async fn transact(
        &self,
        name: &str,
        messages: &[(usize, &str)],
        prepare: Option<Preparation>,
    ) -> Result<TransactionReply, IngestError> {
        let admission = self.ingest.admit(100)?;
        self.ingest.transact(self.draft(name, messages, prepare), admission).await
    }

    /// How often each value is in each topic.
    async fn seen(&self) -> BTreeMap<String, Vec<usize>> {
        let mut seen = BTreeMap::new();
        for (at, topic) in self.topics.iter().enumerate() {
            for partition in (0..3).map(Partition) {
                let (from, wait) = (ReadFrom::Earliest, Duration::ZERO);
                let (topic, max_messages, max_bytes) = (topic.clone(), 1_000, 1 << 20);
                let request = ReadRequest { topic, partition, from, max_messages, max_bytes, wait };
                for slice in self.ingest.read(request).await.unwrap().slices {
                    for row in slice.first..slice.first + slice.rows {
                        let value = String::from_utf8(slice.messages.value(row).unwrap().to_vec()).unwrap();
                        seen.entry(value).or_insert_with(|| vec![0; self.topics.len()])[at] += 1;
                    }
                }
            }
        }
        seen
    }

    fn fate(&self, name: &str) -> Option<Fate> {
        self.log.state.read().transactions.fate(&id(name))
    }
}

const MESSAGES: &[(usize, &str)] = &[(0, "k1"), (1, ""), (0, "k2"), (1, "k3"), (0, "")];

fn places(reply: &TransactionReply) -> usize {
    match &reply.state {
        TransactionState::Committed(placed) => placed.iter().map(|reply| reply.placed.len()).sum(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_entry_holds_everything_and_a_repetition_gets_the_first_answer() {
    let world = world();
    let all = join_all((0..4).map(|_| world.transact("t", MESSAGES, None))).await;
    let replies: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!((places(&replies[0]), replies[0].repeated), (5, false));
    assert!(replies[1..].iter().all(|reply| reply.repeated && reply.state == replies[0].state), "{replies:?}");
    assert_eq!(world.seen().await, BTreeMap::from([("t".to_owned(), vec![3, 2])]));
    assert_eq!(world.log.written.lock().iter().map(|(commands, _)| commands).sum::<usize>(), 1);
    assert_eq!(*world.log.fetches.lock(), 0, "what was just published is not fetched");
    for other in [&MESSAGES[..4], &[(0, "k1"), (0, "k2"), (0, "")], &[]] {
        let reused = world.transact("t", other, None).await.unwrap_err();
        assert!(matches!(reused, IngestError::IdentityReused), "{reused}");
    }
    let record = world.ingest.transaction(&id("t")).unwrap();
    assert_eq!(record.places.iter().map(|place| place.messages).sum::<u32>(), 5);
    assert_eq!(world.ingest.metrics().gate().used(), 0);
}

#[tokio::test]
async fn after_an_unknown_outcome_it_is_stored_once_and_after_a_refusal_not_at_all() {
    let world = world();
    *world.log.fault.lock() = Fault::UnknownButStored;
    let unknown = world.transact("stored", MESSAGES, None).await.unwrap_err();
    assert!(matches!(unknown, IngestError::Propose(ProposeError::Unknown(_))), "{unknown}");
    for fault in [Fault::Unavailable, Fault::Dropped] {
        *world.log.fault.lock() = fault;
        world.transact("lost", MESSAGES, None).await.unwrap_err();
    }
    *world.log.fault.lock() = Fault::None;
    assert_eq!(world.seen().await, BTreeMap::from([("stored".to_owned(), vec![3, 2])]));
    assert!(world.transact("stored", MESSAGES, None).await.unwrap().repeated);
    assert!(!world.transact("lost", MESSAGES, None).await.unwrap().repeated);
    assert_eq!(world.seen().await.into_values().collect::<Vec<_>>(), [[3, 2], [3, 2]]);
}

#[tokio::test]
async fn a_prepared_one_is_unseen_until_it_is_committed_and_a_decision_stays() {
    let world = world();
    for (name, commit) in [("yes", true), ("no", false)] {
        let prepared = world.transact(name, MESSAGES, preparation(60_000, None)).await.unwrap();
        assert_eq!(prepared, TransactionReply { state: TransactionState::Prepared, repeated: false });
        assert!(!world.seen().await.contains_key(name));
        let again = world.transact(name, MESSAGES, preparation(60_000, None)).await.unwrap();
        assert_eq!(again, TransactionReply { state: TransactionState::Prepared, repeated: true });
        let other = world.transact(name, &MESSAGES[1..], preparation(60_000, None)).await.unwrap_err();
        assert!(matches!(other, IngestError::IdentityReused), "{other}");
        assert_eq!(world.ingest.undecided(None, 10).len(), 1);
        assert_eq!(world.ingest.undecided(Some(&id(name)), 10).len(), 0);
        let named = id(name);
        let decisions = join_all((0..3).map(|_| world.ingest.decide(&named, commit))).await;
        assert!(decisions.into_iter().all(|record| record.unwrap().decided_ms.is_some()));
        let opposite = world.ingest.decide(&id(name), !commit).await.unwrap_err();
        assert!(matches!(opposite, IngestError::Refused(Rejection::TransactionDecided(_))), "{opposite}");
        let repeated = world.transact(name, MESSAGES, None).await.unwrap();
        assert!(repeated.repeated && matches!(repeated.state, TransactionState::Committed(_)) == commit);
    }
    assert_eq!(world.seen().await, BTreeMap::from([("yes".to_owned(), vec![3, 2])]));
    assert_eq!(*world.log.fetches.lock(), 0, "what waited is still at hand");
    let unknown = world.ingest.decide(&id("never"), true).await.unwrap_err();
    assert!(matches!(unknown, IngestError::Refused(Rejection::TransactionNotFound)), "{unknown}");
}

#[tokio::test]
async fn what_no_transaction_may_be_is_refused_before_anything_is_stored() {
    let world = world();
    let written = world.log.written.lock().len();
    let mut twice = world.draft("t", MESSAGES, None);
    twice.publishes.extend(world.draft("t", &MESSAGES[..1], None).publishes);
    let mut many = world.draft("t", &[], None);
    for number in 0..=MAX_TOPICS {
        let (topic, _) = world.log.create_topic(&format!("t{number}"), 1);
        many.publishes.push(world.ingest.transaction_draft(&topic, &id("t")).unwrap());
    }
    for draft in [twice, many] {
        let refused = world.ingest.transact(draft, world.ingest.admit(1).unwrap()).await.unwrap_err();
        assert!(
            matches!(refused, IngestError::Transaction(TransactionError::Twice(_) | TransactionError::TooMany { .. })),
            "{refused}"
        );
    }
    let long = world.transact("t", MESSAGES, preparation(8 * 24 * 60 * 60 * 1000, None)).await.unwrap_err();
    assert!(matches!(long, IngestError::Refused(Rejection::InvalidSettings(_))), "{long}");
    assert_eq!((world.fate("t"), world.log.written.lock().len()), (None, written + 1), "one came as far as the state");
}

/// A watch whose questions are answered by `answer`, which is told how many there were before; what it was asked.
fn watch(
    world: &World,
    stop: &CancellationToken,
    answer: fn(&str, usize) -> Option<bool>,
) -> Arc<Mutex<Vec<(Question, Instant)>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, ingest, stop) = (asked.clone(), world.ingest.clone(), stop.clone());
    let ask: Ask = Arc::new(move |question: Question| {
        let mut seen = seen.lock();
        let before = seen.iter().filter(|(other, _): &&(Question, _)| other.id == question.id).count();
        let answer = answer(question.id.as_str(), before);
        seen.push((question, Instant::now()));
        async move { answer }.boxed()
    });
    tokio::spawn(async move { ingest.watch_transactions(ask, stop).await });
    asked
}

/// Waits until something is so; nothing here depends on how fast that comes about.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("it comes about in time");
}

#[tokio::test]
async fn nobody_decides_so_it_is_rolled_back_and_again_until_that_is_stored() {
    let (world, stop) = (world(), CancellationToken::new());
    world.transact("early", MESSAGES, preparation(100, None)).await.unwrap();
    let asked = watch(&world, &stop, |_, _| None);
    let started = Instant::now();
    for (name, timeout_ms) in [("later", 60_000), ("late", 400)] {
        world.transact(name, MESSAGES, preparation(timeout_ms, None)).await.unwrap();
    }
    let is_back = |name: &str| world.fate(name) == Some(Fate::RolledBack);
    until(|| is_back("early")).await;
    *world.log.fault.lock() = Fault::Unavailable;
    sleep(Duration::from_millis(450)).await;
    let written = world.log.written.lock().len();
    *world.log.fault.lock() = Fault::None;
    until(|| is_back("late")).await;
    assert!(started.elapsed() >= Duration::from_millis(400), "not before its time");
    assert!(!is_back("later") && asked.lock().is_empty() && world.seen().await.is_empty());
    sleep(Duration::from_millis(100)).await;
    assert!(world.log.written.lock().len() <= written + 1, "nothing is done while nothing is due");
    stop.cancel();
}

#[tokio::test]
async fn whoever_was_named_is_asked_until_it_knows() {
    let (world, stop) = (world(), CancellationToken::new());
    let asked = watch(&world, &stop, |name, before| (before >= 2).then_some(name == "yes"));
    let started = Instant::now();
    for name in ["yes", "no"] {
        world.transact(name, MESSAGES, preparation(60_000, Some(100))).await.unwrap();
    }
    // Its first question would come too late.
    world.transact("late", MESSAGES, preparation(50, Some(60_000))).await.unwrap();
    until(|| ["yes", "no", "late"].iter().all(|name| world.fate(name).is_some_and(|fate| fate != Fate::Prepared)))
        .await;
    assert!(matches!(world.fate("yes"), Some(Fate::Committed(_))));
    assert_eq!([world.fate("no"), world.fate("late")], [Some(Fate::RolledBack), Some(Fate::RolledBack)]);
    assert_eq!(world.seen().await, BTreeMap::from([("yes".to_owned(), vec![3, 2])]));
    let asked = asked.lock();
    let of = |name: &str| asked.iter().filter(|(question, _)| question.id == id(name)).count();
    assert_eq!(["yes", "no", "late"].map(of), [3, 3, 0]);
    assert!(asked.iter().all(|(question, _)| question.url == "http://shop" && question.prepared_ms == 1));
    let third = asked.iter().filter(|(question, _)| question.id == id("yes")).nth(2).unwrap().1;
    assert!(third - started >= Duration::from_millis(200), "there is a pause before each question but the first");
    stop.cancel();
}

#[tokio::test]
async fn a_drain_waits_for_what_is_under_way() {
    let world = world();
    let under_way = timeout(Duration::from_millis(1), world.transact("t", MESSAGES, None)).await;
    assert!(under_way.is_err(), "the caller has gone away");
    world.ingest.drain().await;
    assert!(matches!(world.fate("t"), Some(Fate::Committed(_))));
    let refused =
        world.ingest.transact(world.draft("u", MESSAGES, None), world.ingest.metrics().gate().admit(1).unwrap());
    assert!(matches!(refused.await, Err(IngestError::Propose(ProposeError::ShuttingDown))));
}
