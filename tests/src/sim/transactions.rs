//! A client of transactions: each publishes to two topics, and some acknowledge messages of a queue. In the end each of them
//! has happened whole or not at all, and as the client was told (I17).

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
    queue::{Queue, Receipt},
    world::{World, request},
};
use crate::{
    history::{
        Message, Outcome, Place, Stored,
        queue::{Action, Verdict},
    },
    load::{Stop, body},
};

/// The client's name.
const WHO: &str = "transactions";

/// The topic that nobody else publishes to.
const OTHER: &str = "u";
/// Its partitions.
const OTHER_PARTITIONS: u64 = 2;

/// Attempts at one step of a transaction.
const ATTEMPTS: u32 = 40;

/// Attempts to hear what has become of a transaction once all is well.
const QUESTIONS: u32 = 300;

/// What the client was told of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing certain.
    Unknown,
    /// It never happened, and never will.
    Nothing,
    /// The same, but for a while it waited for a decision.
    RolledBack,
    /// It has happened.
    Committed,
}

#[derive(Debug)]
struct Transaction {
    id: String,
    /// Its messages, those for `t` and those for [`OTHER`].
    messages: [Vec<Message>; 2],
    /// Where they are, if that was told.
    places: Option<[Vec<Place>; 2]>,
    /// Its acknowledgements, by their numbers in the history of the queue.
    acks: std::ops::Range<usize>,
    told: Told,
}

/// Every transaction that was begun. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Transaction>>>);

pub(super) async fn prepare(world: &World) -> Result<(), String> {
    world.insist("PUT", &format!("/v1/topics/{OTHER}"), &json!({"partitions": OTHER_PARTITIONS})).await?;
    Ok(())
}

pub(super) struct Client {
    pub(super) world: World,
    /// The queue whose messages it acknowledges.
    pub(super) queue: Queue,
    pub(super) random: StdRng,
    pub(super) ledger: Ledger,
}

/// An answer about a transaction.
enum Answer {
    Committed(Value),
    Prepared,
    RolledBack,
    /// Whoever answered has not done it, for this reason.
    Refused(String),
    /// Whoever was asked cannot do it now, and has not.
    NotDone,
    Unknown,
}

impl Client {
    pub(super) async fn run(mut self, stop: Stop) -> Result<(), String> {
        let mut number = 0;
        while !stop.is_set() {
            number += 1;
            self.transact(number).await?;
            sleep(Duration::from_millis(self.random.random_range(1..300))).await;
            self.world.breathe(&mut self.random).await;
        }
        Ok(())
    }

    async fn transact(&mut self, number: u64) -> Result<(), String> {
        let id = format!("tx-{number}");
        let receipts = if self.random.random_bool(0.6) { self.receive().await? } else { Vec::new() };
        let random = &mut self.random;
        let messages = ["t", OTHER].map(|topic| {
            let count = random.random_range(1..=4);
            let message = |index| Message {
                key: random.random_bool(0.7).then(|| format!("key-{}", random.random_range(0..10))),
                value: format!("{id}-{topic}-{index}"),
            };
            (0..count).map(message).collect::<Vec<_>>()
        });
        let [in_t, in_other] = messages.each_ref().map(|messages| body(messages)["messages"].take());
        let publish = json!([{"topic": "t", "messages": in_t}, {"topic": OTHER, "messages": in_other}]);
        let mut document = json!({"id": id, "publish": publish});
        if !receipts.is_empty() {
            let texts: Vec<_> = receipts.iter().map(|receipt| receipt.text.as_str()).collect();
            document["ack"] = json!([{"topic": "t", "subscription": self.queue.name(), "receipts": texts}]);
        }
        if random.random_bool(0.5) {
            document["prepare"] = json!(true);
            document["timeout_ms"] = json!(random.random_range(500..2_000_000));
        }

        let deliveries: Vec<_> = receipts.iter().map(|receipt| receipt.delivery).collect();
        let first = self.queue.recorder.settle(self.world.moment(), Action::Ack, &deliveries);
        let ticket = self.world.recorder.start(WHO, Some(id.clone()), messages[0].clone());
        let acks = first..first + deliveries.len();
        let begun = Transaction { id: id.clone(), messages, places: None, acks: acks.clone(), told: Told::Unknown };
        lock(&self.ledger.0).push(begun);
        let (told, places) = self.carry_out(&id, &document).await.map_err(|wrong| format!("{WHO}: {id}: {wrong}"))?;
        self.world.trace(WHO, format_args!("{id} with {deliveries:?}: {told:?} {places:?}"));
        settled(&self.world, &self.queue, acks, &told);
        let outcome = match (&told, &places) {
            (Told::Nothing | Told::RolledBack, _) => Outcome::Refused,
            (Told::Committed, Some([places, _])) => Outcome::Acknowledged(places.clone()),
            _ => Outcome::Unknown,
        };
        self.world.recorder.finish(&ticket, outcome);
        let mut ledger = lock(&self.ledger.0);
        let transaction = ledger.last_mut().ok_or("nothing was begun")?;
        (transaction.told, transaction.places) = (told, places);
        Ok(())
    }

    /// Some messages of the queue.
    async fn receive(&mut self) -> Result<Vec<Receipt>, String> {
        let Some(node) = self.world.any_node(&mut self.random) else { return Ok(Vec::new()) };
        let poll = json!({"max_messages": self.random.random_range(1..6), "wait_ms": self.random.random_range(0..200)});
        self.queue.poll(&self.world, WHO, &node, &poll).await
    }

    /// Sends it until something is certain, or the client loses interest.
    async fn carry_out(&mut self, id: &str, document: &Value) -> Result<(Told, Option<[Vec<Place>; 2]>), String> {
        // Whether it is certain that nothing has happened so far.
        let mut nothing = true;
        for _ in 0..ATTEMPTS {
            let twice = self.random.random_bool(0.1);
            nothing &= !twice;
            match self.ask("", document, twice).await? {
                Answer::Committed(page) => return Ok((Told::Committed, Some(places(&page)?))),
                Answer::RolledBack => return Ok((Told::RolledBack, None)),
                Answer::Prepared => return self.decide(id, document).await,
                Answer::Refused(code) if document["ack"].is_null() => return Err(format!("refused: {code}")),
                Answer::Refused(_) if nothing => return Ok((Told::Nothing, None)),
                // A node that was overtaken may know nothing of it.
                Answer::Refused(_) | Answer::NotDone => {}
                Answer::Unknown => nothing = false,
            }
            if self.random.random_bool(0.1) {
                break;
            }
            sleep(Duration::from_millis(self.random.random_range(10..300))).await;
        }
        Ok((if nothing { Told::Nothing } else { Told::Unknown }, None))
    }

    /// Decides a prepared transaction, or forgets to.
    async fn decide(&mut self, id: &str, document: &Value) -> Result<(Told, Option<[Vec<Place>; 2]>), String> {
        if self.random.random_bool(0.3) {
            sleep(Duration::from_millis(self.random.random_range(1..4_000))).await;
        }
        let decision = match self.random.random_range(0..10) {
            0..6 => "commit",
            6..9 => "rollback",
            _ => return Ok((Told::Unknown, None)),
        };
        for _ in 0..ATTEMPTS {
            let twice = self.random.random_bool(0.1);
            match self.ask(&format!("/{id}/{decision}"), &Value::Null, twice).await? {
                Answer::Committed(_) if decision == "commit" => return self.placed(document).await,
                Answer::RolledBack if decision == "rollback" => return Ok((Told::RolledBack, None)),
                // Nobody decided it in time.
                Answer::Refused(code) if decision == "commit" && code == "transaction_decided" => {
                    return Ok((Told::RolledBack, None));
                }
                Answer::Refused(code) if code == "transaction_not_found" => {}
                Answer::Refused(code) => return Err(format!("{decision}: {code}")),
                Answer::NotDone | Answer::Unknown => {}
                _ => return Err(format!("{decision} was answered with something else")),
            }
            sleep(Duration::from_millis(self.random.random_range(10..300))).await;
        }
        Ok((Told::Unknown, None))
    }

    /// Where the messages of a committed transaction are: it is sent again.
    async fn placed(&mut self, document: &Value) -> Result<(Told, Option<[Vec<Place>; 2]>), String> {
        for _ in 0..3 {
            match self.ask("", document, false).await? {
                Answer::Committed(page) => return Ok((Told::Committed, Some(places(&page)?))),
                Answer::RolledBack => return Err("committed, and then rolled back".to_owned()),
                _ => {}
            }
        }
        Ok((Told::Committed, None))
    }

    /// What any node answers; the same request may go to another one at the same time.
    async fn ask(&mut self, path: &str, document: &Value, twice: bool) -> Result<Answer, String> {
        let path = format!("/v1/transactions{path}");
        let Some(node) = self.world.any_node(&mut self.random) else { return Ok(Answer::NotDone) };
        let first = node.request(request("POST", &path, document));
        let answer = match self.world.any_node(&mut self.random).filter(|_| twice) {
            Some(other) => tokio::join!(biased; first, other.request(request("POST", &path, document))).0,
            None => first.await,
        };
        let shown = answer.as_ref().map(|(status, body)| format!("{status} {}", String::from_utf8_lossy(body)));
        self.world.trace(WHO, format_args!("{path} {} at {}: {shown:?}", document["id"], node.name));
        match answer {
            Ok((status, body)) => answer_of(status, &body),
            Err(true) => Ok(Answer::NotDone),
            Err(false) => Ok(Answer::Unknown),
        }
    }
}

fn answer_of(status: u16, body: &[u8]) -> Result<Answer, String> {
    let page: Value = serde_json::from_slice(body).unwrap_or_default();
    let wrong = || format!("{status} {}", String::from_utf8_lossy(body));
    Ok(match (status, page["state"].as_str(), page["error"]["code"].as_str()) {
        (200, Some("committed"), _) => Answer::Committed(page),
        (200, Some("prepared"), _) => Answer::Prepared,
        (200, Some("rolled_back"), _) => Answer::RolledBack,
        (404 | 409 | 410, _, Some(code)) => match code {
            "transaction_not_found"
            | "transaction_decided"
            | "message_not_open"
            | "already_settled"
            | "being_settled"
            | "receipt_expired"
            | "receipt_superseded" => Answer::Refused(code.to_owned()),
            _ => return Err(wrong()),
        },
        (503, _, Some("outcome_unknown")) => Answer::Unknown,
        (503, _, Some("not_leader" | "store_unavailable" | "quorum_unavailable" | "shutting_down")) => Answer::NotDone,
        _ => return Err(wrong()),
    })
}

/// Where the messages of each topic are.
fn places(page: &Value) -> Result<[Vec<Place>; 2], String> {
    let messages = page["messages"].as_array().ok_or_else(|| format!("no messages: {page}"))?;
    Ok(["t", OTHER].map(|topic| messages.iter().filter(|m| m["topic"] == topic).filter_map(place).collect()))
}

fn place(message: &Value) -> Option<Place> {
    Some(Place { partition: message["partition"].as_u64()?, offset: message["offset"].as_u64()? })
}

/// What came of the acknowledgements of a transaction, as far as it is certain.
fn settled(world: &World, queue: &Queue, acks: std::ops::Range<usize>, told: &Told) {
    let verdict = match told {
        Told::Unknown => return,
        Told::Nothing | Told::RolledBack => Verdict::LetGo,
        Told::Committed => Verdict::Done,
    };
    let end = world.moment();
    acks.for_each(|ack| queue.recorder.settled(ack, end, verdict));
}

/// Hears what has become of every transaction, and compares it with what the topics hold.
pub(super) async fn finish(world: &World, queue: &Queue, ledger: &Ledger, in_t: &[Stored]) -> Result<(), Vec<String>> {
    let one = |problem: String| vec![problem];
    world.agreed().await.map_err(one)?;
    let transactions = std::mem::take(&mut *lock(&ledger.0));
    let stored = |message: &Value| Stored::from_json(message).ok_or_else(|| format!("{message} was not sent"));
    let in_other = world.messages_of(OTHER, OTHER_PARTITIONS).await.map_err(one)?;
    let in_other = in_other.iter().map(stored).collect::<Result<Vec<_>, _>>().map_err(one)?;
    let copies = [in_t, &in_other].map(by_value);
    let sent = transactions.iter().map(|transaction| transaction.messages[1].len()).sum::<usize>();
    let mut violations = Vec::new();
    let mut committed = 0;
    let mut held = 0;
    for transaction in &transactions {
        let fate = fate(world, &transaction.id).await.map_err(one)?;
        if transaction.told == Told::Unknown {
            settled(world, queue, transaction.acks.clone(), &fate);
        }
        match whole(transaction, &fate, &copies) {
            Err(wrong) => violations.push(format!("I17: {wrong}: {fate:?} at the end, {transaction:?}")),
            Ok(()) if fate == Told::Committed => {
                committed += 1;
                held += transaction.messages[1].len();
            }
            Ok(()) => {}
        }
    }
    if violations.is_empty() && held != in_other.len() {
        violations.push(format!("{OTHER} has {} messages of {sent} sent, {held} are committed", in_other.len()));
    }
    world.say(format_args!("{committed} of {} transactions are committed", transactions.len()));
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

type Copies<'a> = BTreeMap<&'a str, Vec<&'a Stored>>;

fn by_value(stored: &[Stored]) -> Copies<'_> {
    let mut copies = Copies::new();
    stored.iter().for_each(|copy| copies.entry(&copy.message.value).or_default().push(copy));
    copies
}

/// Whether a transaction with this fate is there, whole and once, or not at all, and nobody was told otherwise.
fn whole(transaction: &Transaction, fate: &Told, copies: &[Copies<'_>; 2]) -> Result<(), String> {
    let agrees = match transaction.told {
        Told::Unknown => true,
        Told::Nothing | Told::RolledBack => *fate != Told::Committed,
        Told::Committed => *fate == Told::Committed,
    };
    if !agrees {
        return Err("the client was told otherwise".to_owned());
    }
    let expected = usize::from(*fate == Told::Committed);
    for (topic, (messages, copies)) in transaction.messages.iter().zip(copies).enumerate() {
        let places = transaction.places.as_ref().map(|places| &places[topic]);
        if places.is_some_and(|places| places.len() != messages.len()) {
            return Err("the answer does not tell of every message".to_owned());
        }
        for (at, message) in messages.iter().enumerate() {
            let found = copies.get(message.value.as_str()).map_or(&[][..], Vec::as_slice);
            let place = places.map(|places| places[at]);
            let right = found.iter().all(|copy| copy.message == *message && place.is_none_or(|at| at == copy.place));
            if found.len() != expected || !right {
                return Err(format!("{message:?} is there as {found:?}"));
            }
        }
    }
    Ok(())
}

/// What has become of a transaction; one that still waits is given up.
async fn fate(world: &World, id: &str) -> Result<Told, String> {
    let mut random = StdRng::seed_from_u64(0);
    let path = format!("/v1/transactions/{id}");
    let mut waits = false;
    for _ in 0..QUESTIONS {
        let node = world.any_node(&mut random).ok_or("no node is up")?;
        let asked = match waits {
            true => request("POST", &format!("{path}/rollback"), &Value::Null),
            false => request("GET", &path, &Value::Null),
        };
        let Ok((status, body)) = node.request(asked).await else { continue };
        match answer_of(status, &body)? {
            Answer::Committed(_) => return Ok(Told::Committed),
            Answer::RolledBack => return Ok(Told::RolledBack),
            Answer::Prepared => waits = true,
            Answer::Refused(code) if code == "transaction_not_found" => return Ok(Told::Nothing),
            Answer::Refused(code) => return Err(format!("{path}: {code}")),
            Answer::NotDone | Answer::Unknown => sleep(Duration::from_millis(100)).await,
        }
    }
    Err(format!("{path}: nobody tells what has become of it"))
}
