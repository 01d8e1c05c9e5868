//! What is asked of a queue subscription, and what it answers.

use std::time::Duration;

use brigade_index::{
    command::DeadLetter,
    ids::{Offset, Partition},
};

use crate::Slice;

/// What to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePoll {
    /// Most messages of the answer.
    pub max_messages: usize,
    /// Most bytes of keys, values and headers of the answer; a single message may have more.
    pub max_bytes: usize,
    /// How long to wait when there is nothing to deliver.
    pub wait: Duration,
    /// How long the receipts are good; the subscription's time-out if not given.
    pub visibility: Option<Duration>,
}

/// Delivered messages with consecutive offsets out of one batch.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The messages.
    pub slice: Slice,
    /// For each of them how it is delivered.
    pub receipts: Vec<Handed>,
}

/// How a message is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// The receipt: by it the message is settled.
    pub receipt: String,
    /// How often the message was delivered, this time included.
    pub deliveries: u32,
    /// When it was first delivered, milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// Until when the receipt is good, milliseconds since the Unix epoch.
    pub deadline_ms: i64,
}

/// What is to become of delivered messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are done.
    Ack,
    /// They come again, after the delay or else after the subscription's retry delay.
    Nack {
        /// How long they wait.
        delay: Option<Duration>,
    },
    /// Their receipts are good for so long from now on.
    Extend {
        /// How long.
        visibility: Duration,
    },
    /// They become dead letters.
    Reject,
}

/// A receipt that was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Of a receipt that was extended: the one that takes its place, which is good even after a takeover, and until when.
    pub extended: Option<(String, i64)>,
}

/// Why a receipt was refused. Nothing happened to its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Nobody has given this receipt.
    #[error("this is no receipt")]
    Invalid,
    /// It is another subscription's, or that of one that was deleted.
    #[error("the receipt is another subscription's")]
    Foreign,
    /// Its time is over.
    #[error("the receipt has expired")]
    Expired,
    /// Its message was delivered again.
    #[error("the message was delivered again since")]
    Superseded,
    /// Its message is settled.
    #[error("the message is settled already")]
    AlreadySettled,
    /// An earlier call with it is not answered yet, or it stands twice in this one.
    #[error("the message is being settled by another call, or the receipt stands here twice")]
    BeingSettled,
}

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Not settled: waiting, delayed or delivered.
    pub unsettled: u64,
    /// Delivered under a receipt that is good.
    pub in_flight: u64,
    /// Not ready yet, as far as they have been looked at.
    pub delayed: u64,
    /// Acknowledged by transactions that are not decided.
    pub held: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
}

/// Which dead letters to list.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterQuery {
    /// Behind this one.
    pub after: Option<(Partition, Offset)>,
    /// Most letters.
    pub max_messages: usize,
    /// Most bytes of keys, values and headers; a single message may have more.
    pub max_bytes: usize,
    /// Only those that it matches, in the language of [`brigade_index::filter`].
    pub filter: Option<brigade_index::filter::Filter>,
}

/// Some dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetterPage {
    /// Each with its message: a slice of one row.
    pub letters: Vec<(Slice, DeadLetter)>,
    /// Where to go on, even if there are fewer than were asked for; `None` when these were the last.
    pub next: Option<(Partition, Offset)>,
}

/// Which dead letters to give back or to forget.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPick {
    /// Only those that it matches.
    pub filter: Option<brigade_index::filter::Filter>,
    /// At most so many.
    pub max_messages: Option<u64>,
    /// Of those that are given back so many become ready a second; all at once if not given.
    pub per_second: Option<u32>,
}
