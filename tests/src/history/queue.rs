//! What consumers of a queue subscription did and were told, and whether that agrees with what a queue promises.
//!
//! Whoever watches the world records more than a client can know: who thinks at each moment that he leads, and how often
//! clocks jumped. Only so it can be said exactly what a leader that was overtaken may still do.

mod check;
mod receipts;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use check::{QueueSummary, check};

use super::Place;

/// A reign; later ones are higher.
pub type Reign = (u64, u64);

/// A moment of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Different for each moment of a history, and rising.
    pub step: u64,
    /// True time, in microseconds.
    pub time_us: u64,
    /// The lowest reign that a node believes in which lives now; the highest possible if none leads.
    pub lowest: Reign,
    /// The highest reign that there ever was.
    pub highest: Reign,
    /// How often a clock has jumped.
    pub jumps: u64,
}

/// When a request was sent, and when it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Before it was sent.
    pub start: Moment,
    /// After the answer came. Without one anything may still happen.
    pub end: Option<Moment>,
}

/// A poll.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// When.
    pub span: Span,
    /// For how long what it delivers is good, in microseconds.
    pub visibility_us: u64,
}

/// A message that a poll delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which poll, by its number in the history.
    pub poll: usize,
    /// Which message.
    pub place: Place,
    /// Which group it is of.
    pub group: Option<String>,
    /// How often it was delivered, as the answer says.
    pub count: u64,
    /// Life of the dispatcher that delivered it, as the receipt says: another life knows nothing of what is in flight.
    pub life: u64,
}

/// What is to become of a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is done.
    Ack,
    /// It becomes a dead letter.
    Reject,
    /// It comes again.
    Nack,
    /// Its receipt is good for so many microseconds from now on.
    Extend(u64),
}

/// What was answered for a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No answer, or one that leaves it open.
    Unknown,
    /// Definitely nothing happened, for no fault of the receipt.
    NotDone,
    /// Carried out.
    Done,
    /// Nothing came of it, but for a while it may have been held: by a transaction that did not happen.
    LetGo,
    /// `already_settled`
    AlreadySettled,
    /// `receipt_expired`
    Expired,
    /// `receipt_superseded`
    Superseded,
    /// `being_settled`
    BeingSettled,
}

/// A receipt that was brought back.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    /// When.
    pub span: Span,
    /// Of which delivery, by its number in the history.
    pub delivery: usize,
    /// What was asked for.
    pub action: Action,
    /// What was answered.
    pub verdict: Verdict,
}

/// Everything that was done with one queue subscription.
#[derive(Clone, Debug, Default)]
pub struct QueueHistory {
    /// Every poll, also those without an answer.
    pub polls: Vec<Poll>,
    /// Every delivery that was seen.
    pub deliveries: Vec<Delivery>,
    /// Every receipt that was brought back.
    pub settles: Vec<Settle>,
}

/// Settings that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Messages of a group come one after the other.
    pub ordered: bool,
    /// 0 for no limit.
    pub max_deliveries: u64,
    /// Expired messages become dead letters.
    pub keeps_expired: bool,
}

/// A message of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub place: Place,
    /// Which group it is of.
    pub group: Option<String>,
    /// Whether the subscription's filter wants it.
    pub wanted: bool,
    /// Whether it expires.
    pub expires: bool,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which message.
    pub place: Place,
    /// Why: `max_deliveries`, `expired` or `rejected`.
    pub reason: String,
    /// How often it was delivered.
    pub count: u64,
}

/// What there is at the end, when nothing is unsettled any more.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// Everything that the topic holds, ascending.
    pub held: Vec<Held>,
    /// The subscription's dead letters.
    pub dead: Vec<Letter>,
}

/// Shared by all consumers of a subscription. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct QueueRecorder(Arc<Mutex<QueueHistory>>);

impl QueueRecorder {
    /// A poll is about to be sent. Gives its number.
    pub fn poll(&self, start: Moment, visibility_us: u64) -> usize {
        let mut history = self.lock();
        history.polls.push(Poll { span: Span { start, end: None }, visibility_us });
        history.polls.len() - 1
    }

    /// A poll was answered. Gives the numbers of the deliveries.
    pub fn polled(&self, poll: usize, end: Moment, deliveries: impl IntoIterator<Item = Delivery>) -> Vec<usize> {
        let mut history = self.lock();
        history.polls[poll].span.end = Some(end);
        let first = history.deliveries.len();
        history.deliveries.extend(deliveries);
        (first..history.deliveries.len()).collect()
    }

    /// Receipts are about to be brought back. Gives the number of the first; the others follow.
    pub fn settle(&self, start: Moment, action: Action, deliveries: &[usize]) -> usize {
        let mut history = self.lock();
        let first = history.settles.len();
        let span = Span { start, end: None };
        let settle = |delivery: &usize| Settle { span, delivery: *delivery, action, verdict: Verdict::Unknown };
        history.settles.extend(deliveries.iter().map(settle));
        first
    }

    /// What was answered for a receipt.
    pub fn settled(&self, settle: usize, end: Moment, verdict: Verdict) {
        let mut history = self.lock();
        let settle = &mut history.settles[settle];
        (settle.span.end, settle.verdict) = (Some(end), verdict);
    }

    /// A copy of everything so far.
    pub fn history(&self) -> QueueHistory {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, QueueHistory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// From a message of a poll's answer; `None` when it is none.
    pub fn from_json(poll: usize, message: &serde_json::Value) -> Option<Self> {
        let place = Place { partition: message["partition"].as_u64()?, offset: message["offset"].as_u64()? };
        let (count, life) = (message["delivery_count"].as_u64()?, life_of(message["receipt"].as_str()?)?);
        Some(Self { poll, place, group: group_of(message), count, life })
    }
}

/// The group that an ordered subscription takes a message for, as JSON shows it.
pub fn group_of(message: &serde_json::Value) -> Option<String> {
    message["group"].as_str().or_else(|| message["key"].as_str()).map(str::to_owned)
}

/// Where a receipt has the life of the dispatcher that gave it, in bytes.
const LIFE: std::ops::Range<usize> = 17..25;

/// Receipts are opaque to clients. The checker looks into them, because only the same life of a dispatcher promises that
/// what is in flight is not delivered again.
fn life_of(receipt: &str) -> Option<u64> {
    let sextet = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let sextets: Vec<u8> = receipt.bytes().map(sextet).collect::<Option<_>>()?;
    let bytes = sextets.chunks_exact(4).flat_map(|four| {
        let word = four.iter().fold(0_u32, |word, sextet| word << 6 | u32::from(*sextet));
        [(word >> 16) as u8, (word >> 8) as u8, word as u8]
    });
    let life: Vec<u8> = bytes.skip(LIFE.start).take(LIFE.len()).collect();
    Some(u64::from_be_bytes(life.try_into().ok()?))
}
