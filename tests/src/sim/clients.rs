//! Clients in a simulation: senders, readers, and a consumer of a subscription; those of queues and transactions
//! are elsewhere.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    PARTITIONS,
    kept::{self, KeptTopic, fork},
    queue, transactions,
    world::{World, request},
};
use crate::{
    history::{Message, Outcome, Place, Recorder, Stored, Verdict},
    load::{Identity, Stop, body},
};

type Client = JoinHandle<Result<(), String>>;

/// Attempts at one idempotent publish.
const ATTEMPTS: u32 = 500;

/// Creates the topic and the subscription.
pub(super) async fn prepare(world: &World, kept: &[KeptTopic]) -> Result<(), String> {
    world.insist("PUT", "/v1/topics/t", &json!({"partitions": PARTITIONS})).await?;
    world.insist("PUT", "/v1/topics/t/subscriptions/s", &json!({"kind": "stream"})).await?;
    queue::prepare(world).await?;
    kept::prepare(world, kept).await?;
    transactions::prepare(world).await?;
    // A node that was overtaken and does not know it yet knows nothing of the topic either.
    world.agreed().await
}

/// Starts all clients.
pub(super) fn start(
    world: &World,
    queues: &[queue::Queue],
    kept: &[KeptTopic],
    ledger: &transactions::Ledger,
    random: &mut StdRng,
    stop: &Stop,
) -> Vec<Client> {
    let senders = [
        ("producer-a", Identity::Producer),
        ("producer-b", Identity::Producer),
        ("key", Identity::Key),
        ("plain-a", Identity::Plain),
        ("plain-b", Identity::Plain),
        (queue::SENDER, Identity::Key),
    ];
    let mut clients: Vec<Client> = Vec::new();
    for (name, identity) in senders {
        let (world, random) = (world.clone(), StdRng::seed_from_u64(random.random()));
        let recorder = world.recorder.clone();
        let sender = Sender { name, topic: "t", kept: None, identity, recorder, world, random };
        clients.push(spawn(&sender.world.clone(), sender.run(stop.clone())));
    }
    for topic in kept {
        clients.extend(of_kept(world, topic, random, stop));
    }
    for partition in 0..PARTITIONS {
        let random = StdRng::seed_from_u64(random.random());
        clients.push(spawn(world, read(world.clone(), partition, random, stop.clone())));
    }
    clients.push(spawn(world, consume(world.clone(), StdRng::seed_from_u64(random.random()), stop.clone())));
    for queue in queues {
        for number in 0..queue::CONSUMERS {
            let consumer = queue::Consumer::new(world, queue, number, random.random());
            clients.push(spawn(world, consumer.run(stop.clone())));
        }
    }
    for queue in queues.iter().filter(|queue| queue.name() == queue::WORK).cloned() {
        let (world, random) = (world.clone(), StdRng::seed_from_u64(random.random()));
        let client = transactions::Client { world: world.clone(), queue, random, ledger: ledger.clone() };
        clients.push(spawn(&world, client.run(stop.clone())));
    }
    clients
}

/// The clients of a topic that does not keep everything.
fn of_kept(world: &World, topic: &KeptTopic, random: &mut StdRng, stop: &Stop) -> Vec<Client> {
    let (name, recorder) = (topic.name, topic.recorder.clone());
    let (kept, identity) = (Some(topic.clone()), Identity::Key);
    let sender = Sender { name, topic: name, kept, identity, recorder, world: world.clone(), random: fork(random) };
    let mut clients = vec![spawn(world, sender.run(stop.clone()))];
    for partition in 0..kept::PARTITIONS {
        let reading = topic.clone().read(world.clone(), partition, fork(random), stop.clone());
        clients.push(spawn(world, reading));
    }
    clients.push(spawn(world, topic.clone().consume(world.clone(), fork(random), stop.clone())));
    let consumer = queue::Consumer::new(world, &topic.queue, 0, random.random());
    clients.push(spawn(world, consumer.run(stop.clone())));
    clients
}

/// A client that has found something wrong says so at once, and no more is done.
fn spawn(world: &World, client: impl Future<Output = Result<(), String>> + Send + 'static) -> Client {
    let world = world.clone();
    tokio::spawn(async move { client.await.inspect_err(|wrong| world.problem(wrong)) })
}

struct Sender {
    name: &'static str,
    topic: &'static str,
    /// The topic, if it is one of those.
    kept: Option<KeptTopic>,
    identity: Identity,
    recorder: Recorder,
    world: World,
    random: StdRng,
}

impl Sender {
    async fn run(mut self, stop: Stop) -> Result<(), String> {
        let mut sequence = 0;
        while !stop.is_set() {
            sequence += 1;
            self.publish(sequence).await?;
            self.world.breathe(&mut self.random).await;
        }
        Ok(())
    }

    async fn publish(&mut self, sequence: u64) -> Result<(), String> {
        let random = &mut self.random;
        let count = random.random_range(1..=4);
        let message = |index| match self.kept {
            Some(_) => kept::message(self.name, sequence, index, random),
            None => Message {
                key: (self.name != queue::SENDER && random.random_bool(0.7))
                    .then(|| format!("key-{}", random.random_range(0..10))),
                value: format!("{}-{sequence}-{index}", self.name),
            },
        };
        let messages: Vec<_> = (0..count).map(message).collect();
        let named = (self.identity != Identity::Plain).then(|| format!("{sequence}"));
        let mut document = body(&messages);
        if self.name == queue::SENDER {
            queue::decorate(&mut document, random);
        }
        if let Some(kept) = &self.kept {
            kept.date(&mut document, random);
        }
        let ticket = self.recorder.start(self.name, named, messages.clone());
        let mut outcome = Outcome::Unknown;
        for attempt in 0..ATTEMPTS {
            let dark = self.world.dark();
            let verdict = self.attempt(sequence, &document).await;
            if attempt == 0 && dark.is_some() && dark == self.world.dark() && matches!(verdict, Verdict::Stored(_)) {
                self.world.problem(format_args!("{} {sequence}: acknowledged without a quorum of regions", self.name));
            }
            self.world.trace(self.name, format_args!("{sequence}: {verdict:?}"));
            match verdict {
                Verdict::Wrong(answer) => return Err(format!("{}: {answer}", self.name)),
                Verdict::Stored(places) => {
                    outcome = Outcome::Acknowledged(places);
                    break;
                }
                Verdict::NotStored if self.identity == Identity::Plain => {
                    outcome = Outcome::Refused;
                    break;
                }
                Verdict::Unknown if self.identity == Identity::Plain => break,
                Verdict::NotStored | Verdict::Unknown => {
                    sleep(Duration::from_millis(self.random.random_range(10..300))).await;
                }
            }
        }
        self.recorder.finish(&ticket, outcome);
        Ok(())
    }

    async fn attempt(&mut self, sequence: u64, document: &Value) -> Verdict {
        let Some(node) = self.world.any_node(&mut self.random) else { return Verdict::NotStored };
        let mut request = request("POST", &format!("/v1/topics/{}/messages", self.topic), document);
        let mut header = |name: &'static str, value: String| {
            request.headers_mut().insert(name, value.parse().expect("a good header"));
        };
        match self.identity {
            Identity::Plain => {}
            Identity::Key => header("idempotency-key", format!("{}-{sequence}", self.name)),
            Identity::Producer => {
                header("producer-id", self.name.to_owned());
                header("producer-sequence", sequence.to_string());
            }
        }
        match node.request(request).await {
            Ok((status, body)) => Verdict::of(status, &body),
            Err(true) => Verdict::NotStored,
            Err(false) => Verdict::Unknown,
        }
    }
}

/// Reads a partition from any node, from the front and over again, and records what it sees.
async fn read(world: World, partition: u64, mut random: StdRng, stop: Stop) -> Result<(), String> {
    let mut offset = 0;
    while !stop.is_set() {
        sleep(Duration::from_millis(random.random_range(5..200))).await;
        let Some(node) = world.any_node(&mut random) else { continue };
        let wait = if random.random_bool(0.3) { 500 } else { 0 };
        let query = format!("partition={partition}&offset={offset}&max_messages=20&wait={wait}");
        let answer = node.request(request("GET", &format!("/v1/topics/t/messages?{query}"), &Value::Null)).await;
        let Ok((status, body)) = answer else { continue };
        let page: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            200 => {}
            // A node that was overtaken may not have what another has shown.
            416 | 503 => continue,
            _ => return Err(format!("reader {partition}: {status} {page}")),
        }
        let seen: Vec<_> = page["messages"].as_array().into_iter().flatten().filter_map(Stored::from_json).collect();
        world.trace(&format!("reader-{partition}"), format_args!("{} of {} from {offset}", seen.len(), node.name));
        let dense =
            seen.iter().zip(offset..).all(|(copy, expected)| copy.place == Place { partition, offset: expected });
        let high_watermark = page["high_watermark"].as_u64().unwrap_or_default();
        if !dense || seen.last().is_some_and(|last| last.place.offset >= high_watermark) {
            return Err(format!("reader {partition} from {offset}: {page}"));
        }
        offset = if random.random_bool(0.05) { 0 } else { offset + seen.len() as u64 };
        world.recorder.observe(seen);
    }
    Ok(())
}

/// Polls and commits at any node. Nothing is skipped. A node that cannot know of a commit, because too few regions are there
/// or because it was overtaken, tells what was before it; once all is well, nothing comes again that was committed.
async fn consume(world: World, mut random: StdRng, stop: Stop) -> Result<(), String> {
    // Per partition, the position whose commit was acknowledged, and the highest that was sent.
    let mut committed: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    while !stop.is_set() {
        sleep(Duration::from_millis(random.random_range(20..300))).await;
        let wait = random.random_range(0..300);
        let poll = json!({"max_messages": 15, "wait_ms": wait});
        let Some(polled) = ask(&world, &mut random, "poll", poll).await? else { continue };
        let next = polled_right(&world, &polled, &committed, false)?;
        if next.is_empty() || random.random_bool(0.2) {
            continue;
        }
        for (partition, position) in &next {
            let mark = committed.entry(*partition).or_default();
            mark.1 = mark.1.max(*position);
        }
        let commit = json!({"positions": polled["positions"]});
        if ask(&world, &mut random, "commit", commit).await?.is_some() {
            for (partition, position) in next {
                let mark = committed.entry(partition).or_default();
                mark.0 = mark.0.max(position);
            }
        }
    }
    world.agreed().await?;
    let polled = world.insist("POST", "/v1/topics/t/subscriptions/s/poll", &json!({"max_messages": 1_000})).await?;
    polled_right(&world, &polled, &committed, true)?;
    Ok(())
}

/// Checks an answer to a poll; gives the position behind it in each partition.
fn polled_right(
    world: &World,
    polled: &Value,
    committed: &BTreeMap<u64, (u64, u64)>,
    all_is_well: bool,
) -> Result<BTreeMap<u64, u64>, String> {
    let messages = polled["messages"].as_array().into_iter().flatten();
    let seen: Vec<_> = messages.filter_map(Stored::from_json).collect();
    let mut next = BTreeMap::new();
    for Stored { place, .. } in &seen {
        let (acknowledged, sent) = committed.get(&place.partition).copied().unwrap_or_default();
        let right = match next.insert(place.partition, place.offset + 1) {
            Some(expected) => place.offset == expected,
            None => place.offset <= sent && (place.offset >= acknowledged || !all_is_well),
        };
        if !right {
            return Err(format!("consumer: {place:?} with {committed:?}: {polled}"));
        }
    }
    world.recorder.observe(seen);
    Ok(next)
}

/// A node's answer about the subscription; nothing when there is none for now.
async fn ask(world: &World, random: &mut StdRng, what: &str, body: Value) -> Result<Option<Value>, String> {
    let Some(node) = world.any_node(random) else { return Ok(None) };
    let path = format!("/v1/topics/t/subscriptions/s/{what}");
    match node.request(request("POST", &path, &body)).await {
        Ok((200, answer)) => {
            let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
            world.trace("consumer", format_args!("{what} at {}: {}", node.name, answer["positions"]));
            Ok(Some(answer))
        }
        Ok((503, _)) | Err(_) => Ok(None),
        Ok((status, answer)) => Err(format!("consumer: {what}: {status} {}", String::from_utf8_lossy(&answer))),
    }
}
