//! Consumers of queue subscriptions: they ask any node, and do with what they get whatever consumers do. In the end,
//! everything that is left is received and acknowledged, and [`crate::history::queue`] judges it all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    node::SimNode,
    world::{World, request},
};
use crate::{
    history::{
        Place, Recorder, Stored,
        queue::{Action, Delivery, Held, Letter, QueueRecorder, Remains, Rules, Verdict, check, group_of},
    },
    load::Stop,
};

/// Consumers of each subscription.
pub(super) const CONSUMERS: usize = 2;

/// Who sends messages with attributes.
pub(super) const SENDER: &str = "attributes";

/// The subscription whose messages transactions acknowledge too.
pub(super) const WORK: &str = "work";

/// Keys that the subscription with a filter wants.
const WANTED: [&str; 3] = ["key-1", "key-2", "key-3"];

/// Receipts that a consumer brings back late.
const LATE: usize = 40;

/// Longer than every delay and time-out, however wrong a clock was: in the end all clocks jump by so much.
const ALL_OVER_MS: i64 = 4 * 60 * 60 * 1_000;

/// Rounds of receiving what is left, at most.
const ROUNDS: usize = 20_000;

/// Where copies of the dead letters of the subscription `work` go.
const DEAD: &str = "dead";
/// Its partitions.
const DEAD_PARTITIONS: u64 = 2;

/// A queue subscription, and what happened to it.
#[derive(Clone)]
pub(super) struct Queue {
    topic: &'static str,
    name: &'static str,
    visibility_ms: u64,
    rules: Rules,
    /// Whether its dead letters are copied to a topic of their own.
    buries: bool,
    pub(super) recorder: QueueRecorder,
    /// Where it is noted which messages were delivered.
    seen: Recorder,
}

/// The queue subscriptions of the topic.
pub(super) fn queues(seen: &Recorder) -> [Queue; 3] {
    let queue = |name, visibility_ms, rules| Queue::new("t", name, visibility_ms, rules, seen.clone());
    [
        queue(WORK, 2_000, Rules { max_deliveries: 4, ..Rules::default() }),
        queue("groups", 1_500, Rules { ordered: true, max_deliveries: 3, keeps_expired: true }),
        queue("wanted", 3_000, Rules::default()),
    ]
}

/// Creates the subscriptions.
pub(super) async fn prepare(world: &World) -> Result<(), String> {
    world.insist("PUT", &format!("/v1/topics/{DEAD}"), &json!({"partitions": DEAD_PARTITIONS})).await?;
    for Queue { name, visibility_ms, rules, buries, .. } in queues(&world.recorder) {
        let mut settings = json!({
            "kind": "queue", "visibility_timeout_ms": visibility_ms, "max_deliveries": rules.max_deliveries,
            "ordered": rules.ordered, "expired": if rules.keeps_expired { "dead_letter" } else { "drop" },
        });
        if buries {
            settings["dead_letter_topic"] = json!(DEAD);
        }
        if name == "wanted" {
            settings["filter"] = json!(format!("key in (\"{}\")", WANTED.join("\", \"")));
            settings["retry_delay_ms"] = json!(200);
        }
        world.insist("PUT", &format!("/v1/topics/t/subscriptions/{name}"), &settings).await?;
    }
    Ok(())
}

/// Gives messages attributes.
pub(super) fn decorate(document: &mut Value, random: &mut StdRng) {
    for message in document["messages"].as_array_mut().into_iter().flatten() {
        if random.random_bool(0.5) {
            message["group"] = json!(format!("group-{}", random.random_range(0..4)));
        }
        match random.random_range(0..5) {
            0 => message["priority"] = json!(random.random_range(0..10)),
            1 => message["delay_ms"] = json!(random.random_range(1..3_000)),
            2 => message["ttl_ms"] = json!(random.random_range(1..10_000)),
            _ => {}
        }
    }
}

/// A receipt that may be brought back.
#[derive(Clone)]
pub(super) struct Receipt {
    pub(super) delivery: usize,
    pub(super) text: String,
}

pub(super) struct Consumer {
    world: World,
    queue: Queue,
    who: String,
    random: StdRng,
    late: Vec<Receipt>,
}

impl Consumer {
    pub(super) fn new(world: &World, queue: &Queue, number: usize, seed: u64) -> Self {
        let who = format!("{}-{}-{number}", queue.topic, queue.name);
        let random = StdRng::seed_from_u64(seed);
        Self { world: world.clone(), queue: queue.clone(), who, random, late: Vec::new() }
    }

    pub(super) async fn run(mut self, stop: Stop) -> Result<(), String> {
        while !stop.is_set() {
            sleep(Duration::from_millis(self.random.random_range(1..150))).await;
            let Some(node) = self.world.any_node(&mut self.random) else { continue };
            let most = if self.random.random_bool(0.3) { 4 } else { 60 };
            let mut poll = json!({"max_messages": self.random.random_range(1..most), "wait_ms": 0});
            if self.random.random_bool(0.5) {
                poll["wait_ms"] = json!(self.random.random_range(1..600));
            }
            let visibility_ms = if self.random.random_bool(0.2) { self.random.random_range(100..5_000) } else { 0 };
            if visibility_ms > 0 {
                poll["visibility_timeout_ms"] = json!(visibility_ms);
            }
            let received = self.queue.poll(&self.world, &self.who, &node, &poll).await?;
            self.handle(received).await?;
        }
        Ok(())
    }

    /// Does something with each message, and with some that it has kept.
    async fn handle(&mut self, received: Vec<Receipt>) -> Result<(), String> {
        let mut acked = Vec::new();
        for receipt in received {
            match self.random.random_range(0..100) {
                0..70 => acked.push(receipt),
                70..78 => self.settle(Action::Nack, vec![receipt]).await?,
                78..82 if self.queue.rejects() => self.settle(Action::Reject, vec![receipt]).await?,
                82..88 => {
                    let visibility = self.random.random_range(1..4_000_000);
                    self.settle(Action::Extend(visibility), vec![receipt.clone()]).await?;
                    self.late.push(receipt);
                }
                88..94 => self.late.push(receipt),
                94..97 => {
                    self.late.push(receipt.clone());
                    acked.push(receipt);
                }
                _ => {}
            }
        }
        if self.random.random_bool(0.1) && acked.len() > 1 {
            let half = acked.split_off(acked.len() / 2);
            self.settle(Action::Ack, half).await?;
        }
        if !acked.is_empty() {
            self.settle(Action::Ack, acked).await?;
        }
        while self.late.len() > LATE || !self.late.is_empty() && self.random.random_bool(0.3) {
            let receipt = self.late.swap_remove(self.random.random_range(0..self.late.len()));
            let action = match self.random.random_range(0..8) {
                0 => Action::Nack,
                1 if self.queue.rejects() => Action::Reject,
                2 => Action::Extend(1_000_000),
                _ => Action::Ack,
            };
            self.settle(action, vec![receipt]).await?;
        }
        Ok(())
    }

    /// Brings receipts back to any node; sometimes to two at once, and again when it is not known what came of it.
    async fn settle(&mut self, action: Action, receipts: Vec<Receipt>) -> Result<(), String> {
        let delay_ms = self.random.random_bool(0.5).then(|| self.random.random_range(0..1_500));
        for _ in 0..4 {
            let Some(node) = self.world.any_node(&mut self.random) else { return Ok(()) };
            let (world, queue, who) = (&self.world, &self.queue, &self.who);
            let first = queue.settle(world, who, &node, action, delay_ms, &receipts);
            let verdicts = if self.random.random_bool(0.05) {
                let Some(other) = world.any_node(&mut self.random) else { return Ok(()) };
                let second = queue.settle(world, who, &other, action, delay_ms, &receipts);
                let (first, second) = tokio::join!(biased; first, second);
                second?;
                first?
            } else {
                first.await?
            };
            if action == Action::Ack && self.random.random_bool(0.02) {
                self.late.extend(receipts.iter().take(1).cloned());
            }
            let again = matches!(verdicts.first(), Some(Verdict::Unknown | Verdict::NotDone));
            if !again || self.random.random_bool(0.3) {
                return Ok(());
            }
            sleep(Duration::from_millis(self.random.random_range(1..400))).await;
        }
        Ok(())
    }
}

impl Queue {
    pub(super) fn new(
        topic: &'static str,
        name: &'static str,
        visibility_ms: u64,
        rules: Rules,
        seen: Recorder,
    ) -> Self {
        Self { topic, name, visibility_ms, rules, buries: name == WORK, recorder: QueueRecorder::default(), seen }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether consumers reject messages. Where messages are dropped, dead letters go, too.
    fn rejects(&self) -> bool {
        self.topic == "t"
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/topics/{}/subscriptions/{}/{what}", self.topic, self.name)
    }

    /// What a poll delivers; nothing when there is no answer.
    pub(super) async fn poll(
        &self,
        world: &World,
        who: &str,
        node: &Arc<SimNode>,
        body: &Value,
    ) -> Result<Vec<Receipt>, String> {
        let visibility_us = 1_000 * body["visibility_timeout_ms"].as_u64().unwrap_or(self.visibility_ms);
        let poll = self.recorder.poll(world.moment(), visibility_us);
        let page: Value = match node.request(request("POST", &self.path("poll"), body)).await {
            Ok((200, page)) => serde_json::from_slice(&page).map_err(|error| error.to_string())?,
            Ok((503, _)) | Err(_) => return Ok(Vec::new()),
            Ok((status, answer)) => return Err(format!("{who}: {status} {}", String::from_utf8_lossy(&answer))),
        };
        let messages = page["messages"].as_array().ok_or("no messages in a page")?;
        let deliveries: Option<Vec<_>> = messages.iter().map(|message| Delivery::from_json(poll, message)).collect();
        let deliveries = deliveries.ok_or_else(|| format!("{who}: {page}"))?;
        let places: Vec<_> = deliveries.iter().map(|d| (d.place.partition, d.place.offset, d.count)).collect();
        world.trace(who, format_args!("poll {poll} at {} for {visibility_us} us: {places:?}", node.name));
        self.seen.observe(messages.iter().filter_map(Stored::from_json));
        let numbers = self.recorder.polled(poll, world.moment(), deliveries);
        let text = |message: &Value| message["receipt"].as_str().unwrap_or_default().to_owned();
        Ok(numbers.into_iter().zip(messages).map(|(delivery, m)| Receipt { delivery, text: text(m) }).collect())
    }

    /// What is answered for each receipt.
    async fn settle(
        &self,
        world: &World,
        who: &str,
        node: &Arc<SimNode>,
        action: Action,
        delay_ms: Option<u64>,
        receipts: &[Receipt],
    ) -> Result<Vec<Verdict>, String> {
        let deliveries: Vec<_> = receipts.iter().map(|receipt| receipt.delivery).collect();
        let texts: Vec<_> = receipts.iter().map(|receipt| receipt.text.as_str()).collect();
        let (what, body) = match action {
            Action::Ack => ("ack", json!({"receipts": texts})),
            Action::Reject => ("reject", json!({"receipts": texts})),
            Action::Nack => ("nack", json!({"receipts": texts, "delay_ms": delay_ms})),
            Action::Extend(us) => ("extend", json!({"receipts": texts, "visibility_timeout_ms": us.div_ceil(1_000)})),
        };
        let first = self.recorder.settle(world.moment(), action, &deliveries);
        let verdicts = match node.request(request("POST", &self.path(what), &body)).await {
            Ok((status, answer)) => verdicts(status, &answer, receipts.len()),
            Err(true) => Ok(vec![Verdict::NotDone; receipts.len()]),
            Err(false) => Ok(vec![Verdict::Unknown; receipts.len()]),
        };
        let verdicts = verdicts.map_err(|problem| format!("{who}: {what}: {problem}"))?;
        world.trace(who, format_args!("{what} {deliveries:?} at {}: {verdicts:?}", node.name));
        let end = world.moment();
        for (number, verdict) in (first..).zip(&verdicts) {
            if *verdict != Verdict::Unknown {
                self.recorder.settled(number, end, *verdict);
            }
        }
        Ok(verdicts)
    }
}

/// From the answer to a call with so many receipts.
fn verdicts(status: u16, answer: &[u8], receipts: usize) -> Result<Vec<Verdict>, String> {
    let page: Value = serde_json::from_slice(answer).unwrap_or_default();
    let wrong = || format!("{status} {}", String::from_utf8_lossy(answer));
    if let Some(results) = page["results"].as_array() {
        let verdict = |result: &Value| match (result["status"].is_string(), result["error"]["code"].as_str()) {
            (true, None) => Some(Verdict::Done),
            (false, Some("already_settled")) => Some(Verdict::AlreadySettled),
            (false, Some("receipt_expired")) => Some(Verdict::Expired),
            (false, Some("receipt_superseded")) => Some(Verdict::Superseded),
            (false, Some("being_settled")) => Some(Verdict::BeingSettled),
            _ => None,
        };
        let verdicts = results.iter().map(verdict).collect::<Option<Vec<_>>>();
        return verdicts.filter(|verdicts| verdicts.len() == receipts).ok_or_else(wrong);
    }
    match page["error"]["code"].as_str() {
        Some("outcome_unknown") => Ok(vec![Verdict::Unknown; receipts]),
        Some("not_leader" | "store_unavailable" | "quorum_unavailable" | "shutting_down") => {
            Ok(vec![Verdict::NotDone; receipts])
        }
        _ => Err(wrong()),
    }
}

/// Receives and acknowledges all that is left, and judges what happened.
pub(super) async fn finish(world: &World, queues: &[Queue]) -> Result<(), Vec<String>> {
    let one = |problem: String| vec![problem];
    world.agreed().await.map_err(one)?;
    let messages = world.messages().await.map_err(one)?;
    for queue in queues {
        let dead = queue.drain(world, &messages).await;
        let dead = dead.map_err(|problem| one(format!("{}: {problem}", queue.name)))?;
        let remains = Remains { held: messages.iter().filter_map(|m| held(queue.name, m)).collect(), dead };
        let summary = check(queue.rules, &queue.recorder.history(), &remains);
        let summary =
            summary.map_err(|wrong| wrong.iter().map(|w| format!("{}: {w}", queue.name)).collect::<Vec<_>>())?;
        world.say(format_args!("{}: {summary:?}", queue.name));
    }
    Ok(())
}

fn held(queue: &str, message: &Value) -> Option<Held> {
    let place = place(message)?;
    let wanted = queue != "wanted" || message["key"].as_str().is_some_and(|key| WANTED.contains(&key));
    Some(Held { place, group: group_of(message), wanted, expires: message["expires_at"].is_i64() })
}

impl Queue {
    /// Receives and acknowledges until nothing is left, whatever time it is. Gives the dead letters.
    pub(super) async fn drain(&self, world: &World, messages: &[Value]) -> Result<Vec<Letter>, String> {
        let mut random = StdRng::seed_from_u64(0);
        let who = format!("{}-{}-end", self.topic, self.name);
        world.nodes().iter().for_each(|node| world.jump(node, ALL_OVER_MS));
        for _ in 0..ROUNDS {
            let node = world.any_node(&mut random).ok_or("no node is up")?;
            let poll = json!({"max_messages": 1_000, "wait_ms": 100, "visibility_timeout_ms": 3_000});
            let received = self.poll(world, &who, &node, &poll).await?;
            if !received.is_empty() {
                self.settle(world, &who, &node, Action::Ack, None, &received).await?;
                continue;
            }
            // What the filter does not want is settled after a while.
            sleep(Duration::from_secs(5)).await;
            let path = format!("/v1/topics/{}/subscriptions/{}", self.topic, self.name);
            let view = world.insist("GET", &path, &Value::Null).await?;
            if view["lag"] == 0 {
                return self.ended(world, messages, &view).await;
            }
            world.trace(&who, format_args!("{view}"));
        }
        Err("there is always more".to_owned())
    }

    async fn ended(&self, world: &World, messages: &[Value], view: &Value) -> Result<Vec<Letter>, String> {
        let letters = self.letters(world).await?;
        let told: BTreeMap<_, _> = letters.iter().map(|letter| (letter.place, letter)).collect();
        let right = view["in_flight"] == 0
            && view["delayed"] == 0
            && view["held"] == 0
            && view["dead_letters"] == letters.len()
            && told.len() == letters.len();
        if !right {
            return Err(format!("{view} with {} dead letters", letters.len()));
        }
        if self.buries {
            let copies = self.copies(world, messages).await?;
            let of: BTreeMap<_, _> = copies.iter().map(|copy| (copy.place, copy)).collect();
            if of.len() != copies.len() || of != told {
                let alone = of.iter().find(|(place, copy)| told.get(place) != Some(copy));
                let without = told.iter().find(|(place, letter)| of.get(place) != Some(letter));
                return Err(format!(
                    "I15: {} copies of {} dead letters, {} distinct; without one: {without:?}; of none: {alone:?}",
                    copies.len(),
                    letters.len(),
                    of.len()
                ));
            }
        }
        Ok(letters)
    }

    /// The dead letters as their copies tell of them.
    async fn copies(&self, world: &World, messages: &[Value]) -> Result<Vec<Letter>, String> {
        let originals: BTreeMap<_, _> = messages.iter().filter_map(|m| Some((place(m)?, m))).collect();
        let copies = world.messages_of(DEAD, DEAD_PARTITIONS).await?;
        let letter = |copy: &Value| {
            let headers = &copy["headers"];
            let told = |what: &str| headers[format!("brigade-dead-letter-{what}")].as_str();
            let number = |what| told(what)?.parse::<u64>().ok();
            let place = Place { partition: number("partition")?, offset: number("offset")? };
            let original = originals.get(&place)?;
            let same = ["key", "value", "group", "priority"].iter().all(|part| copy[part] == original[part]);
            let times = number("dead-at")? > 0 && number("first-delivered-at").is_some();
            let right = same && times && told("topic") == Some("t") && told("subscription") == Some(self.name);
            let (reason, count) = (told("reason")?.to_owned(), number("delivery-count")?);
            right.then_some(Letter { place, reason, count })
        };
        copies.iter().map(|copy| letter(copy).ok_or_else(|| format!("a copy of a dead letter: {copy}"))).collect()
    }

    async fn letters(&self, world: &World) -> Result<Vec<Letter>, String> {
        let (mut letters, mut after) = (Vec::new(), String::new());
        loop {
            let path = self.path(&format!("dead-letters?max_messages=1000{after}"));
            let page = world.insist("GET", &path, &Value::Null).await?;
            for message in page["messages"].as_array().into_iter().flatten() {
                letters.push(letter(message).ok_or_else(|| format!("a dead letter: {message}"))?);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(letters),
            }
        }
    }
}

fn place(message: &Value) -> Option<Place> {
    Some(Place { partition: message["partition"].as_u64()?, offset: message["offset"].as_u64()? })
}

fn letter(message: &Value) -> Option<Letter> {
    let place = place(message)?;
    let (reason, count) = (message["reason"].as_str()?.to_owned(), message["delivery_count"].as_u64()?);
    Some(Letter { place, reason, count })
}
