//! Topics that do not keep everything: their senders, readers and consumers, and the end of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    lock,
    queue::Queue,
    world::{START_MS, World, request},
};
use crate::{
    history::{
        Message, Place, Recorder, Stored,
        kept::{Keeps, Kept, KeptHistory, Page, check_kept, known},
        queue::{Action, Held, Remains, Rules, check},
    },
    load::Stop,
};

/// Partitions of each of the topics.
pub(super) const PARTITIONS: u64 = 2;

/// How long a topic keeps what it drops for its age: clocks are not so wrong that young messages ever seem as old.
const KEEP_MS: i64 = 7_200_000;

/// Timestamps of messages that are old from the start.
const OLD_MS: i64 = START_MS - 4 * KEEP_MS;
/// Timestamps of messages that are young until all clocks are put forward at the end.
const YOUNG_MS: i64 = START_MS + 4 * KEEP_MS;

/// The topics' stream subscription.
const STREAM: &str = "stream";
/// The topics' queue subscription.
const QUEUE: &str = "queue";

/// A topic, and what happened to it. Clones share that.
#[derive(Clone)]
pub(super) struct KeptTopic {
    pub(super) name: &'static str,
    keeps: Keeps,
    settings: Value,
    /// Chance that a message is young.
    young: f64,
    pub(super) recorder: Recorder,
    seen: Arc<Mutex<KeptHistory>>,
    pub(super) queue: Queue,
}

/// Two of the topics that there can be.
pub(super) fn topics(random: &mut StdRng) -> Vec<KeptTopic> {
    let bytes = [1_u64 << 10, 8 << 10, 1 << 40][random.random_range(0..3)];
    let lag = if random.random_bool(0.5) { 0 } else { KEEP_MS };
    let kinds = [
        ("timed", Keeps::Time(KEEP_MS), json!({"retention_ms": KEEP_MS})),
        ("sized", if bytes > 1 << 30 { Keeps::Everything } else { Keeps::Bytes }, json!({"retention_bytes": bytes})),
        ("acked", Keeps::Unsettled, json!({"delete_after_ack": true})),
        ("keyed", Keeps::LastOfKey(lag), json!({"key_compaction": true, "compaction_lag_ms": lag})),
    ];
    let first = random.random_range(0..kinds.len());
    let second = (first + random.random_range(1..kinds.len())) % kinds.len();
    let young = [0.0, 0.01, 0.3][random.random_range(0..3)];
    let topic = |number: usize| {
        let (name, keeps, mut settings) = kinds[number].clone();
        settings["partitions"] = json!(PARTITIONS);
        let recorder = Recorder::default();
        let (rules, seen) = (Rules::default(), Arc::default());
        let queue = Queue::new(name, QUEUE, 2_000, rules, recorder.clone());
        KeptTopic { name, keeps, settings, young, recorder, seen, queue }
    };
    vec![topic(first), topic(second)]
}

/// Creates the topics and their subscriptions.
pub(super) async fn prepare(world: &World, topics: &[KeptTopic]) -> Result<(), String> {
    for KeptTopic { name, settings, young, .. } in topics {
        world.say(format_args!("topic {name}: {settings}, young: {young}"));
        world.insist("PUT", &format!("/v1/topics/{name}"), settings).await?;
        let subscriptions = format!("/v1/topics/{name}/subscriptions");
        world.insist("PUT", &format!("{subscriptions}/{STREAM}"), &json!({"kind": "stream"})).await?;
        let queue = json!({"kind": "queue", "visibility_timeout_ms": 2_000});
        world.insist("PUT", &format!("{subscriptions}/{QUEUE}"), &queue).await?;
    }
    Ok(())
}

impl KeptTopic {
    /// Gives messages their timestamps, and notes them.
    pub(super) fn date(&self, document: &mut Value, random: &mut StdRng) {
        for message in document["messages"].as_array_mut().into_iter().flatten() {
            let timestamp = if random.random_bool(self.young) { YOUNG_MS } else { OLD_MS };
            message["timestamp"] = json!(timestamp);
            let value = message["value"].as_str().unwrap_or_default().to_owned();
            lock(&self.seen).timestamps.insert(value, timestamp);
        }
    }

    /// Reads a partition from any node, over and over again.
    pub(super) async fn read(self, world: World, partition: u64, mut random: StdRng, stop: Stop) -> Result<(), String> {
        let mut from = 0;
        while !stop.is_set() {
            sleep(Duration::from_millis(random.random_range(10..300))).await;
            let Some(node) = world.any_node(&mut random) else { continue };
            let wait = if random.random_bool(0.2) { 300 } else { 0 };
            let query = format!("partition={partition}&offset={from}&max_messages=20&wait={wait}");
            let path = format!("/v1/topics/{}/messages?{query}", self.name);
            let Ok((status, body)) = node.request(request("GET", &path, &Value::Null)).await else { continue };
            let page: Value = serde_json::from_slice(&body).unwrap_or_default();
            world.trace(self.name, format_args!("read of {partition} from {from} at {}: {status}", node.name));
            match status {
                200 => {}
                410 => {
                    from = page["error"]["log_start"].as_u64().ok_or_else(|| format!("no log start: {page}"))?;
                    continue;
                }
                416 | 503 => continue,
                _ => return Err(format!("reader of {}: {status} {page}", self.name)),
            }
            let messages: Vec<_> =
                page["messages"].as_array().into_iter().flatten().filter_map(Stored::from_json).collect();
            let next = page["next_offset"].as_u64().ok_or("no next offset")?;
            lock(&self.seen).pages.push(Page { partition, from, next, messages });
            from = if random.random_bool(0.1) { 0 } else { next };
        }
        Ok(())
    }

    /// Polls and commits at any node.
    pub(super) async fn consume(self, world: World, mut random: StdRng, stop: Stop) -> Result<(), String> {
        // Per partition, the highest position whose commit was sent: no node can begin behind it.
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        while !stop.is_set() {
            sleep(Duration::from_millis(random.random_range(20..300))).await;
            let poll = json!({"max_messages": 25, "wait_ms": random.random_range(0..200)});
            let Some(polled) = self.ask(&world, &mut random, "poll", &poll).await? else { continue };
            let messages = polled["messages"].as_array().into_iter().flatten();
            let messages: Vec<_> = messages.filter_map(Stored::from_json).collect();
            self.recorder.observe(messages.iter().cloned());
            let positions = positions(&polled)?;
            for (partition, next) in &positions {
                let from = sent.get(partition).copied().unwrap_or_default();
                let of = |stored: &&Stored| stored.place.partition == *partition && stored.place.offset >= from;
                let messages: Vec<_> = messages.iter().filter(of).cloned().collect();
                let page = Page { partition: *partition, from, next: from.max(*next), messages };
                lock(&self.seen).pages.push(page);
            }
            if positions.is_empty() || random.random_bool(0.2) {
                continue;
            }
            for (partition, next) in positions {
                let from = sent.entry(partition).or_default();
                let places = (*from..next).map(|offset| Place { partition, offset });
                lock(&self.seen).settled.entry(STREAM.to_owned()).or_default().extend(places);
                *from = next.max(*from);
            }
            self.ask(&world, &mut random, "commit", &json!({"positions": polled["positions"]})).await?;
        }
        Ok(())
    }

    async fn ask(&self, world: &World, random: &mut StdRng, what: &str, body: &Value) -> Result<Option<Value>, String> {
        let Some(node) = world.any_node(random) else { return Ok(None) };
        let path = format!("/v1/topics/{}/subscriptions/{STREAM}/{what}", self.name);
        match node.request(request("POST", &path, body)).await {
            Ok((200, answer)) => {
                let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
                world.trace(self.name, format_args!("{what} at {}: {}", node.name, answer["positions"]));
                Ok(Some(answer))
            }
            Ok((503, _)) | Err(_) => Ok(None),
            Ok((status, answer)) => {
                Err(format!("consumer of {}: {what}: {status} {}", self.name, String::from_utf8_lossy(&answer)))
            }
        }
    }

    /// First offset of each partition that can be read, and the one after the last.
    async fn bounds(&self, world: &World) -> Result<Vec<(u64, u64)>, String> {
        let topic = world.insist("GET", &format!("/v1/topics/{}", self.name), &Value::Null).await?;
        let bounds = topic["partitions"].as_array().into_iter().flatten();
        let bounds = bounds.map(|log| Some((log["log_start"].as_u64()?, log["high_watermark"].as_u64()?)));
        bounds.collect::<Option<Vec<_>>>().ok_or_else(|| format!("no bounds: {topic}"))
    }

    /// What it holds, and what clients saw.
    async fn look(&self, world: &World) -> Result<(Kept, KeptHistory), String> {
        let mut bounds = self.bounds(world).await?;
        let stored = loop {
            let stored = world.messages_of(self.name, PARTITIONS).await;
            // What is dropped meanwhile is read to the end or not.
            let before = std::mem::replace(&mut bounds, self.bounds(world).await?);
            if before == bounds {
                break stored?;
            }
        };
        let stored = stored.iter().map(|m| Stored::from_json(m).ok_or_else(|| format!("{m} was not sent")));
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        let mut history = lock(&self.seen).clone();
        let queue = self.queue.recorder.history();
        let acked = queue.settles.iter().filter(|settle| settle.action == Action::Ack);
        let acked = acked.map(|settle| queue.deliveries[settle.delivery].place).collect();
        history.settled.insert(QUEUE.to_owned(), acked);
        history.settled.entry(STREAM.to_owned()).or_default();
        Ok((Kept { stored, bounds, latest_ms: world.latest_ms() }, history))
    }

    /// Judges what it holds now.
    async fn judge(&self, world: &World) -> Result<(Kept, KeptHistory), Vec<String>> {
        let (kept, history) = self.look(world).await.map_err(|problem| vec![problem])?;
        let summary = check_kept(self.keeps, &self.recorder.history(), &history, &kept);
        let summary =
            summary.map_err(|wrong| wrong.iter().map(|w| format!("{}: {w}", self.name)).collect::<Vec<_>>())?;
        world.say(format_args!("{} ({:?}): {summary:?} {:?}", self.name, self.keeps, kept.bounds));
        Ok((kept, history))
    }
}

/// The position behind an answer to a poll in each partition.
fn positions(polled: &Value) -> Result<Vec<(u64, u64)>, String> {
    let wrong = || format!("no positions: {polled}");
    let positions = polled["positions"].as_array().ok_or_else(wrong)?;
    let position = |one: &Value| Some((one["partition"].as_u64()?, one["offset"].as_u64()?));
    positions.iter().map(position).collect::<Option<_>>().ok_or_else(wrong)
}

/// Judges the topics before anything more is done.
pub(super) async fn check_all(world: &World, topics: &[KeptTopic]) -> Result<(), Vec<String>> {
    for topic in topics {
        topic.judge(world).await?;
    }
    Ok(())
}

/// Receives and acknowledges what is left in the queues, and judges what happened.
pub(super) async fn finish(world: &World, topics: &[KeptTopic]) -> Result<(), Vec<String>> {
    let one = |problem: String| vec![problem];
    for topic in topics {
        let queue = &topic.queue;
        let dead = queue.drain(world, &[]).await.map_err(|problem| one(format!("{}: {problem}", topic.name)))?;
        let (kept, history) = topic.judge(world).await?;
        let stored: BTreeMap<_, _> = kept.stored.iter().map(|stored| (stored.place, ())).collect();
        // What is gone need not have been settled by anybody.
        let held = |place: Place| Held { place, group: None, wanted: true, expires: !stored.contains_key(&place) };
        let publishes = topic.recorder.history();
        let known = known(&publishes, &history, &kept);
        let remains = Remains { held: known.into_keys().map(held).collect(), dead };
        let summary = check(Rules::default(), &queue.recorder.history(), &remains);
        let summary =
            summary.map_err(|wrong| wrong.iter().map(|w| format!("{} queue: {w}", topic.name)).collect::<Vec<_>>())?;
        world.say(format_args!("{} queue: {summary:?}", topic.name));
    }
    Ok(())
}

/// A message of one of the topics.
pub(super) fn message(topic: &str, sequence: u64, index: u64, random: &mut StdRng) -> Message {
    let key = random.random_bool(0.9).then(|| format!("key-{}", random.random_range(0..8)));
    Message { key, value: format!("{topic}-{sequence}-{index}") }
}

/// Randomness of one of the clients.
pub(super) fn fork(random: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(random.random())
}
