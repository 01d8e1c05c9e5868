//! What was sent to a topic and what came of it, and whether that agrees with what the topic holds.
//!
//! Values are unique within a history, so that each stored copy belongs to one sent message.

mod check;
pub mod kept;
pub mod queue;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use check::{Summary, check};

/// A message as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Its key, if any.
    pub key: Option<String>,
    /// Its value, unique within the history.
    pub value: String,
}

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Partition.
    pub partition: u64,
    /// Offset in it.
    pub offset: u64,
}

/// What came of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer yet, none at all, or one that leaves it open.
    Unknown,
    /// Definitely not stored.
    Refused,
    /// Stored at these places, in the order sent.
    Acknowledged(Vec<Place>),
}

/// What one answer to a publish says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored here.
    Stored(Vec<Place>),
    /// Not stored now; it may be tried again.
    NotStored,
    /// Stored or not.
    Unknown,
    /// The request is wrong, or the answer is.
    Wrong(String),
}

impl Verdict {
    /// From the status and body of an answer.
    pub fn of(status: u16, body: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let wrong = || Self::Wrong(format!("{status}: {}", String::from_utf8_lossy(body)));
        let place =
            |m: &serde_json::Value| Some(Place { partition: m["partition"].as_u64()?, offset: m["offset"].as_u64()? });
        match (status, json["error"]["code"].as_str()) {
            (200, None) => {
                let places = json["messages"].as_array().and_then(|messages| messages.iter().map(place).collect());
                places.map_or_else(wrong, Self::Stored)
            }
            (429, Some("too_busy")) => Self::NotStored,
            (503, Some("store_unavailable" | "quorum_unavailable" | "not_leader")) => Self::NotStored,
            (503, Some("shutting_down" | "too_many_connections")) => Self::NotStored,
            (503, Some("outcome_unknown")) => Self::Unknown,
            _ => wrong(),
        }
    }
}

/// A publish: one request, with all its repetitions if it is idempotent.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Who sent it, for people.
    pub client: String,
    /// What identifies it; without one it must have been sent once only.
    pub identity: Option<String>,
    /// Its messages.
    pub messages: Vec<Message>,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was first sent, in steps of the history.
    pub started: u64,
    /// When its outcome was known.
    pub finished: u64,
}

/// A message as it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// Where it was.
    pub place: Place,
    /// What it was.
    pub message: Message,
}

/// Everything that happened to one topic.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every publish.
    pub publishes: Vec<Publish>,
    /// Messages that readers saw while others published.
    pub observed: Vec<Stored>,
    step: u64,
}

/// Shared by all clients of a topic. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<History>>);

/// A publish that is under way.
#[derive(Debug)]
#[must_use]
pub struct Ticket(usize);

impl Recorder {
    /// A publish is about to be sent for the first time. Until [`Self::finish`] its outcome is unknown.
    pub fn start(&self, client: &str, identity: Option<String>, messages: Vec<Message>) -> Ticket {
        let mut history = self.lock();
        history.step += 1;
        let started = history.step;
        let outcome = Outcome::Unknown;
        let client = client.to_owned();
        history.publishes.push(Publish { client, identity, messages, outcome, started, finished: u64::MAX });
        Ticket(history.publishes.len() - 1)
    }

    /// What came of it.
    pub fn finish(&self, ticket: &Ticket, outcome: Outcome) {
        let mut history = self.lock();
        history.step += 1;
        let finished = history.step;
        let publish = &mut history.publishes[ticket.0];
        publish.outcome = outcome;
        publish.finished = finished;
    }

    /// A reader saw this.
    pub fn observe(&self, stored: impl IntoIterator<Item = Stored>) {
        self.lock().observed.extend(stored);
    }

    /// A copy of everything so far.
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    /// From a message of a read or poll answer; `None` when it is not one of a history (no text value).
    pub fn from_json(message: &serde_json::Value) -> Option<Self> {
        let place = Place { partition: message["partition"].as_u64()?, offset: message["offset"].as_u64()? };
        let key = message["key"].as_str().map(str::to_owned);
        Some(Self { place, message: Message { key, value: message["value"].as_str()?.to_owned() } })
    }
}
