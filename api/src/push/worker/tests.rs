use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
};

use brigade_index::{
    batch::{Attributes, Columns, MessageRef, Messages, ValueKind},
    names::{SubscriptionName, TopicName},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use super::*;
use crate::push::{AddressPolicy, Deliverer, Endpoints, Fault};

const SECOND: Duration = Duration::from_secs(1);

/// A queue of numbers; receipts are the numbers.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<u64>,
    deliveries: BTreeMap<u64, u32>,
    accepted: Vec<u64>,
    batches: Vec<usize>,
    retries: Vec<(u64, Duration)>,
    takes: usize,
    refuse: usize,
    ended: bool,
}

impl Queue {
    fn add(&self, numbers: impl IntoIterator<Item = u64>) {
        self.state.lock().ready.extend(numbers);
        self.changed.notify_one();
    }

    fn accepted(&self) -> usize {
        self.state.lock().accepted.len()
    }

    fn takes(&self) -> usize {
        self.state.lock().takes
    }
}

fn row() -> Messages {
    let mut columns = Columns::default();
    let headers = &[];
    columns.push(&MessageRef {
        key: None,
        value: Some(b"x"),
        kind: ValueKind::Text,
        headers,
        timestamp_ms: 1,
        attributes: Attributes::default(),
    });
    Messages::new(columns.into_record_batch()).unwrap()
}

impl Source for Arc<Queue> {
    type Receipt = u64;

    async fn take(&self, max: usize, visibility: Duration) -> Result<Vec<Taken<u64>>, SourceError> {
        assert!(max > 0 && visibility > 2 * SECOND);
        self.state.lock().takes += 1;
        loop {
            {
                let mut state = self.state.lock();
                if state.ended {
                    return Err(SourceError::Ended);
                }
                if state.refuse > 0 {
                    state.refuse -= 1;
                    return Err(SourceError::Unavailable("not now".to_owned()));
                }
                let count = max.min(state.ready.len());
                let numbers: Vec<_> = state.ready.drain(..count).collect();
                if count > 0 {
                    let messages = row();
                    let taken = numbers.into_iter().map(|number| {
                        let deliveries = state.deliveries.entry(number).or_default();
                        *deliveries += 1;
                        let messages = messages.clone();
                        let (offset, delivery_count) = (number, *deliveries);
                        let message = PushMessage {
                            partition: 0,
                            offset,
                            messages,
                            row: 0,
                            delivery_count,
                            first_delivered_ms: 0,
                        };
                        Taken { message, receipt: number }
                    });
                    return Ok(taken.collect());
                }
            }
            self.changed.notified().await;
        }
    }

    async fn settle(&self, settlements: Vec<(u64, Settlement)>) -> Result<(), SourceError> {
        // About as long as a commit takes.
        sleep(Duration::from_millis(20)).await;
        let mut state = self.state.lock();
        state.batches.push(settlements.len());
        for (number, settlement) in settlements {
            match settlement {
                Settlement::Accept => state.accepted.push(number),
                Settlement::Retry(delay) => {
                    state.retries.push((number, delay));
                    let queue = self.clone();
                    tokio::spawn(async move {
                        sleep(delay).await;
                        queue.add([number]);
                    });
                }
            }
        }
        Ok(())
    }
}

type Answer = Box<dyn Fn(u64) -> Verdict + Send + Sync>;

/// An endpoint that answers after 10 ms.
struct Fake {
    answer: Answer,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    posts: Mutex<Vec<(Instant, u64)>>,
}

impl Fake {
    fn new(answer: impl Fn(u64) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        let (in_flight, most, posts) = Default::default();
        Arc::new(Self { answer: Box::new(answer), in_flight, most, posts })
    }
}

impl Post for Fake {
    fn post<'a>(&'a self, _: &'a PushTarget, message: &'a PushMessage) -> BoxFuture<'a, Verdict> {
        async {
            self.posts.lock().push((Instant::now(), message.offset));
            let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            (self.answer)(message.offset)
        }
        .boxed()
    }
}

const SETTINGS: WorkerSettings = WorkerSettings {
    max_in_flight: 32,
    max_per_second: 0,
    backoff: Backoff { min: SECOND, max: Duration::from_secs(60) },
};

struct Started {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(queue: &Arc<Queue>, fake: &Arc<Fake>, settings: WorkerSettings) -> Started {
    let env = Env::simulated(7, 0);
    let endpoints = Endpoints::new(AddressPolicy::default(), 1 << 20, env.clone()).unwrap();
    start_at(queue, fake.clone(), &endpoints, "http://endpoint/", settings, env)
}

fn start_at(
    queue: &Arc<Queue>,
    post: Arc<dyn Post>,
    endpoints: &Endpoints,
    url: &str,
    settings: WorkerSettings,
    env: Env,
) -> Started {
    let target = PushTarget {
        endpoint: endpoints.endpoint(url, None, SECOND).unwrap(),
        topic: TopicName::new("t").unwrap(),
        subscription: SubscriptionName::new("s").unwrap(),
        topic_id: 1,
        subscription_id: 2,
    };
    let metrics = PushMetrics::default();
    let worker = Worker { source: queue.clone(), post, target, settings, env, metrics };
    let stop = CancellationToken::new();
    Started { task: tokio::spawn(worker.run(stop.clone())), stop }
}

impl Started {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn retry(fault: Fault) -> Verdict {
    Verdict::Retry { after: None, fault, reason: "it is a test".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn everything_is_delivered_once_and_settled_in_batches_and_then_nothing_is_done() {
    let (queue, fake) = (Arc::new(Queue::default()), Fake::new(|_| Verdict::Accepted));
    let started = start(&queue, &fake, SETTINGS);
    queue.add(0..5_000);
    sleep(10 * SECOND).await;
    let mut accepted = queue.state.lock().accepted.clone();
    accepted.sort_unstable();
    assert_eq!(accepted, (0..5_000).collect::<Vec<_>>());
    assert_eq!(fake.most.load(Ordering::Relaxed), 32, "the limit grew to what is allowed and not beyond");
    let settles = queue.state.lock().batches.len();
    assert!(settles < 400, "{settles} settlements");
    let takes = queue.takes();
    sleep(3_600 * SECOND).await;
    assert_eq!(queue.takes(), takes, "an empty queue is not polled");
    queue.add([5_000]);
    sleep(Duration::from_millis(31)).await;
    assert_eq!(queue.accepted(), 5_001);
    started.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_costs_few_deliveries_and_gets_everything_when_it_is_back() {
    let up = Arc::new(AtomicUsize::new(0));
    let is_up = up.clone();
    let fake =
        Fake::new(move |_| if is_up.load(Ordering::Relaxed) > 0 { Verdict::Accepted } else { retry(Fault::Endpoint) });
    let queue = Arc::new(Queue::default());
    let started = start(&queue, &fake, SETTINGS);
    queue.add(0..1_000);
    sleep(600 * SECOND).await;
    let posts = fake.posts.lock().len();
    assert!((8..=40).contains(&posts), "{posts} posts in ten minutes");
    assert!(queue.state.lock().retries.iter().all(|(_, delay)| (SECOND..=60 * SECOND).contains(delay)));
    up.store(1, Ordering::Relaxed);
    sleep(90 * SECOND).await;
    assert_eq!(queue.accepted(), 1_000);
    started.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_again_and_again_comes_ever_later_and_holds_up_nothing() {
    let fake = Fake::new(|number| if number == 3 { retry(Fault::Message) } else { Verdict::Accepted });
    let queue = Arc::new(Queue::default());
    let started = start(&queue, &fake, SETTINGS);
    queue.add(0..100);
    sleep(SECOND).await;
    assert_eq!(queue.accepted(), 99);
    sleep(40 * SECOND).await;
    let delays: Vec<_> = queue.state.lock().retries.iter().map(|(_, delay)| *delay).collect();
    assert!(
        delays.len() >= 4 && delays.windows(2).all(|pair| pair[1] >= pair[0] || pair[1] > 30 * SECOND),
        "{delays:?}"
    );
    started.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_long_to_wait_and_a_rate_is_kept() {
    let after = Some(20 * SECOND);
    let fake = Fake::new(move |number| match number {
        0 => Verdict::Retry { after, fault: Fault::Endpoint, reason: "busy".to_owned() },
        _ => Verdict::Accepted,
    });
    let queue = Arc::new(Queue::default());
    let started = start(&queue, &fake, WorkerSettings { max_per_second: 20, ..SETTINGS });
    queue.add([0]);
    sleep(SECOND).await;
    // Taken by a poll that had been waiting, and given back unposted.
    queue.add(1..300);
    sleep(18 * SECOND).await;
    assert_eq!(fake.posts.lock().len(), 1);
    sleep(6 * SECOND).await;
    let within = fake.posts.lock().len();
    assert!((60..=110).contains(&within), "{within} posts in five seconds at 20 a second");
    assert!(queue.state.lock().retries.iter().all(|(_, delay)| *delay >= 18 * SECOND && *delay <= 20 * SECOND));
    started.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_waits_for_answers_for_a_moment_and_records_them() {
    let (queue, fake) = (Arc::new(Queue::default()), Fake::new(|_| Verdict::Accepted));
    let started = start(&queue, &fake, SETTINGS);
    queue.add(0..1_000);
    sleep(Duration::from_millis(105)).await;
    let begun = Instant::now();
    started.stop().await;
    assert!(begun.elapsed() <= STOP_TIMEOUT);
    let (posts, in_flight) = (fake.posts.lock().len(), fake.in_flight.load(Ordering::Relaxed));
    assert!(in_flight == 0 && posts < 1_000);
    assert_eq!(queue.accepted(), posts, "what was in flight is recorded too");
    assert!(queue.state.lock().retries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_gives_back_what_is_not_answered() {
    struct Stuck;
    impl Post for Stuck {
        fn post<'a>(&'a self, _: &'a PushTarget, _: &'a PushMessage) -> BoxFuture<'a, Verdict> {
            futures::future::pending().boxed()
        }
    }
    let (queue, env) = (Arc::new(Queue::default()), Env::simulated(7, 0));
    let endpoints = Endpoints::new(AddressPolicy::default(), 1 << 20, env.clone()).unwrap();
    let started = start_at(&queue, Arc::new(Stuck), &endpoints, "http://endpoint/", SETTINGS, env);
    queue.add(0..3);
    sleep(SECOND).await;
    let begun = Instant::now();
    started.stop().await;
    assert!(begun.elapsed() <= 2 * STOP_TIMEOUT);
    let mut retries = queue.state.lock().retries.clone();
    retries.sort_unstable();
    assert_eq!(retries, [(0, SECOND), (1, SECOND), (2, SECOND)], "after the shortest pause");
    assert_eq!(queue.accepted(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_give_is_asked_again_later_and_one_that_has_ended_ends_the_worker() {
    let (queue, fake) = (Arc::new(Queue::default()), Fake::new(|_| Verdict::Accepted));
    queue.state.lock().refuse = 10;
    let started = start(&queue, &fake, SETTINGS);
    queue.add([1]);
    sleep(60 * SECOND).await;
    assert_eq!((queue.accepted(), queue.takes()), (1, 12));
    queue.state.lock().ended = true;
    queue.changed.notify_one();
    started.task.await.unwrap();
}

#[tokio::test]
async fn over_real_connections_everything_arrives_though_the_endpoint_fails_at_times() {
    let (seen, calls) = (Arc::new(Mutex::new(BTreeMap::<String, usize>::new())), Arc::new(AtomicUsize::new(0)));
    let (keep, failed) = (seen.clone(), Arc::new(AtomicUsize::new(0)));
    let failures = failed.clone();
    let answer = move |headers: http::HeaderMap| {
        *keep.lock().entry(headers["webhook-id"].to_str().unwrap().to_owned()).or_default() += 1;
        let status = match calls.fetch_add(1, Ordering::Relaxed) % 10 {
            3 => http::StatusCode::INTERNAL_SERVER_ERROR,
            7 => http::StatusCode::SERVICE_UNAVAILABLE,
            _ => http::StatusCode::OK,
        };
        failures.fetch_add(usize::from(!status.is_success()), Ordering::Relaxed);
        async move { status }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(axum::routing::post(answer));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let env = Env::system();
    let endpoints = Endpoints::new(AddressPolicy::default(), 1 << 20, env.clone()).unwrap();
    let deliverer = Arc::new(Deliverer::new(endpoints.clone(), PushMetrics::default()));
    let backoff = Backoff { min: Duration::from_millis(5), max: Duration::from_millis(50) };
    let queue = Arc::new(Queue::default());
    queue.add(0..300);
    let started = start_at(&queue, deliverer, &endpoints, &url, WorkerSettings { backoff, ..SETTINGS }, env);
    let all = async {
        while queue.accepted() < 300 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(30 * SECOND, all).await.unwrap();
    started.stop().await;
    server.abort();
    let seen = seen.lock();
    assert_eq!((seen.len(), queue.state.lock().ready.len()), (300, 0));
    let posts: usize = seen.values().sum();
    assert_eq!(posts - 300, failed.load(Ordering::Relaxed), "each failure was tried again, and nothing else");
}
