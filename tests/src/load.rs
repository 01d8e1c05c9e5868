//! Clients as applications have them: they go on through crashes of the node and record what they were told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    history::{Message, Outcome, Place, Recorder, Stored, Verdict},
    http::Http,
};

/// How long an idempotent publish is repeated before its sender gives up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(10);

/// Tells clients to finish. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Tells them.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether they were told.
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// How a sender identifies its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Not at all: it sends each once and never repeats it.
    Plain,
    /// By producer id and sequence: it repeats each until it is answered.
    Producer,
    /// By idempotency key: it repeats each until it is answered.
    Key,
}

/// A client that publishes messages of its own, one request after the other.
#[derive(Debug)]
pub struct Sender {
    name: String,
    /// Nodes, of which it asks the first until that one does not carry a request out.
    nodes: VecDeque<Http>,
    topic: String,
    identity: Identity,
    recorder: Recorder,
    random: StdRng,
    sequence: u64,
}

impl Sender {
    /// A sender of this name, which must be unique, to a topic.
    pub fn new(name: &str, http: Http, topic: &str, identity: Identity, recorder: Recorder) -> Self {
        Self::among(name, [http], topic, identity, recorder)
    }

    /// A sender that turns to the next of these nodes whenever one does not carry a request out.
    pub fn among(
        name: &str,
        nodes: impl IntoIterator<Item = Http>,
        topic: &str,
        identity: Identity,
        recorder: Recorder,
    ) -> Self {
        let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let (name, topic, random) = (name.to_owned(), topic.to_owned(), StdRng::seed_from_u64(seed));
        Self { name, nodes: nodes.into_iter().collect(), topic, identity, recorder, random, sequence: 0 }
    }

    /// Publishes until told to stop. Panics at an answer that no publish may get.
    pub async fn run(mut self, stop: Stop) {
        while !stop.is_set() {
            self.publish().await;
        }
    }

    /// Publishes until a request is not acknowledged.
    pub async fn until_refused(mut self) {
        while let Outcome::Acknowledged(_) = self.publish().await {}
    }

    /// One publish of one to five messages, with all its repetitions.
    async fn publish(&mut self) -> Outcome {
        self.sequence += 1;
        let sequence = self.sequence;
        let message =
            |(index, key): (usize, Option<String>)| Message { key, value: format!("{}-{sequence}-{index}", self.name) };
        let random = &mut self.random;
        let count = random.random_range(1..=5);
        let keys: Vec<_> = (0..count)
            .map(|_| random.random_bool(0.7).then(|| format!("key-{}", random.random_range(0..20))))
            .collect();
        let messages: Vec<_> = keys.into_iter().enumerate().map(message).collect();
        let named = (self.identity != Identity::Plain).then(|| format!("{} {sequence}", self.name));
        let ticket = self.recorder.start(&self.name, named, messages.clone());
        let started = Instant::now();
        let outcome = loop {
            match self.attempt(&messages).await {
                Verdict::Stored(places) => break Outcome::Acknowledged(places),
                Verdict::NotStored if self.identity == Identity::Plain => break Outcome::Refused,
                Verdict::Unknown if self.identity == Identity::Plain => break Outcome::Unknown,
                Verdict::Wrong(answer) => panic!("{}: {answer}", self.name),
                Verdict::NotStored | Verdict::Unknown if started.elapsed() > GIVE_UP => break Outcome::Unknown,
                Verdict::NotStored | Verdict::Unknown => {
                    self.nodes.rotate_left(1);
                    sleep(PAUSE).await;
                }
            }
        };
        self.recorder.finish(&ticket, outcome.clone());
        if outcome == Outcome::Refused {
            sleep(PAUSE).await;
        }
        outcome
    }

    async fn attempt(&self, messages: &[Message]) -> Verdict {
        let http = &self.nodes[0];
        let request = http.request("POST", &format!("/v1/topics/{}/messages", self.topic));
        let request = match self.identity {
            Identity::Plain => request,
            Identity::Producer => {
                request.header("producer-id", &self.name).header("producer-sequence", self.sequence.to_string())
            }
            Identity::Key => request.header("idempotency-key", format!("{}-{}", self.name, self.sequence)),
        };
        match http.try_send(request.json(&body(messages))).await {
            Ok(answer) => Verdict::of(answer.status, &answer.body),
            // Nobody listens: it cannot have been stored.
            Err(error) if error.is_connect() => Verdict::NotStored,
            Err(_) => Verdict::Unknown,
        }
    }
}

/// The JSON body of a publish.
pub fn body(messages: &[Message]) -> Value {
    let message = |message: &Message| match &message.key {
        Some(key) => json!({"key": key, "value": message.value}),
        None => json!({"value": message.value}),
    };
    json!({"messages": messages.iter().map(message).collect::<Vec<_>>()})
}

/// A client that polls a stream subscription and commits what it got.
#[derive(Debug)]
pub struct Consumer {
    path: String,
    http: Http,
    recorder: Recorder,
    /// Per partition, the position whose commit was acknowledged, and the highest that was sent.
    committed: BTreeMap<u64, (u64, u64)>,
}

impl Consumer {
    /// A consumer of a subscription that exists and that nobody else uses.
    pub fn new(http: Http, topic: &str, subscription: &str, recorder: Recorder) -> Self {
        let path = format!("/v1/topics/{topic}/subscriptions/{subscription}");
        Self { path, http, recorder, committed: BTreeMap::new() }
    }

    /// Consumes until told to stop. Panics when messages are skipped, or come again after their commit.
    pub async fn run(mut self, stop: Stop) -> Self {
        while !stop.is_set() {
            let body = json!({"max_messages": 200, "wait_ms": 200});
            let Some(polled) = self.ask("poll", &body).await else { continue };
            let messages: Vec<_> = polled["messages"].as_array().into_iter().flatten().collect();
            let seen: Vec<_> = messages.into_iter().filter_map(Stored::from_json).collect();
            self.check(&seen);
            self.recorder.observe(seen);
            let positions = polled["positions"].as_array().cloned().unwrap_or_default();
            self.commit(&positions).await;
        }
        self
    }

    /// Checks the subscription's positions against the commits that were acknowledged.
    pub async fn finish(self) {
        let described = self.http.get(&self.path).await.expect(200).json();
        for position in described["positions"].as_array().into_iter().flatten() {
            let Some(place) = place(position) else { panic!("{described}") };
            let (acknowledged, sent) = self.committed.get(&place.partition).copied().unwrap_or_default();
            assert!((acknowledged..=sent).contains(&place.offset), "{described}, but {:?}", self.committed);
        }
    }

    fn check(&self, seen: &[Stored]) {
        let mut next = BTreeMap::new();
        for Stored { place, .. } in seen {
            let (acknowledged, sent) = self.committed.get(&place.partition).copied().unwrap_or_default();
            match next.insert(place.partition, place.offset + 1) {
                Some(expected) => assert_eq!(place.offset, expected, "a poll skips nothing"),
                None => assert!((acknowledged..=sent).contains(&place.offset), "{place:?}: {:?}", self.committed),
            }
        }
    }

    async fn commit(&mut self, positions: &[Value]) {
        let places: Vec<_> = positions.iter().filter_map(place).collect();
        for place in &places {
            let mark = self.committed.entry(place.partition).or_default();
            mark.1 = mark.1.max(place.offset);
        }
        if !places.is_empty() && self.ask("commit", &json!({"positions": positions})).await.is_some() {
            for place in &places {
                self.committed.entry(place.partition).or_default().0 = place.offset;
            }
        }
    }

    /// The answer, or nothing while the node is away.
    async fn ask(&self, what: &str, body: &Value) -> Option<Value> {
        let request = self.http.request("POST", &format!("{}/{what}", self.path)).json(body);
        match self.http.try_send(request).await {
            Ok(answer) if answer.status == 200 => Some(answer.json()),
            Ok(answer) if answer.status == 503 => {
                sleep(PAUSE).await;
                None
            }
            Ok(answer) => panic!("{what}: {} {}", answer.status, answer.text()),
            Err(_) => {
                sleep(PAUSE).await;
                None
            }
        }
    }
}

fn place(position: &Value) -> Option<Place> {
    Some(Place { partition: position["partition"].as_u64()?, offset: position["offset"].as_u64()? })
}

/// Everything that a topic holds.
pub async fn stored(http: &Http, topic: &str, partitions: u64) -> Vec<Stored> {
    let mut all = Vec::new();
    for partition in 0..partitions {
        for message in http.read_all(topic, partition).await {
            all.push(Stored::from_json(&message).unwrap_or_else(|| panic!("{message} was not sent by us")));
        }
    }
    all
}
