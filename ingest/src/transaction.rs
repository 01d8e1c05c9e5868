//! Transactions: messages for several topics and acknowledgements of queues that happen together or not at all.
//!
//! A transaction is one command in one entry, which makes it atomic over every topic and partition of the shard, and a
//! cluster has one shard. Preparing and deciding are two commands: what a coordinator over several shards would ask of each
//! of them, and what lets a client decide after it has done something elsewhere.
//!
//! | file | holds |
//! |---|---|
//! | `driver` | proposing, deciding, and what follows for the queues |
//! | `content` | what a transaction says, encoded and compared |
//! | `record` | what is told of a transaction |
//! | `schedule` | what is due when; pure |
//! | `watch` | the task that rolls back what nobody decides, and asks |

mod content;
mod driver;
mod record;
mod schedule;
mod watch;

use std::time::Duration;

use brigade_index::{
    command::CheckBack,
    limits::{ENTRY_TARGET_BYTES, MAX_ENTRY_BYTES},
    names::TransactionId,
};

pub(crate) use driver::{Around, Transactions};
pub use record::{PreparedRecord, TransactionPlace, TransactionRecord};
pub(crate) use record::{record, undecided};
pub use watch::{Ask, Question};

use crate::{Draft, MAX_REQUEST_BYTES, PublishReply, QueueHandle};

/// Most topics that a transaction publishes to, and most subscriptions that it acknowledges messages of.
const MAX_TOPICS: usize = 100;

/// Most receipts of a transaction.
const MAX_RECEIPTS: usize = 10_000;

/// Most partitions that a transaction publishes to, of all topics: each is a batch of its own.
const MAX_PARTS: usize = 10_000;

/// Bytes that a batch takes besides its messages, in an entry and in memory.
const PART_BYTES: usize = 4 * 1024;

const _: () = assert!(MAX_REQUEST_BYTES + MAX_PARTS * PART_BYTES + ENTRY_TARGET_BYTES < MAX_ENTRY_BYTES);

/// A transaction being built.
pub struct TransactionDraft {
    /// By which it is recognised when it is repeated.
    pub id: TransactionId,
    /// Its messages, each topic once; see [`Ingest::transaction_draft`](crate::Ingest::transaction_draft).
    pub publishes: Vec<Draft>,
    /// Receipts of the messages that it acknowledges, each subscription once.
    pub acks: Vec<(QueueHandle, Vec<String>)>,
    /// How it waits for a decision; without it, it takes effect at once.
    pub prepare: Option<Preparation>,
}

impl TransactionDraft {
    /// Number of messages that it publishes.
    pub fn messages(&self) -> usize {
        self.publishes.iter().map(Draft::messages).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.publishes.iter().map(Draft::bytes).sum()
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.publishes.iter().map(Draft::payload_bytes).sum()
    }
}

/// How a transaction waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// When nobody decides it within this time, it is rolled back.
    pub timeout: Duration,
    /// Whom to ask about it.
    pub check_back: Option<CheckBack>,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionReply {
    /// What has become of it.
    pub state: TransactionState,
    /// Whether it had come before; `state` is then what has become of it since.
    pub repeated: bool,
}

/// What has become of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// It waits, unseen.
    Prepared,
    /// It has taken effect: for each draft where its messages are.
    Committed(Vec<PublishReply>),
    /// It never happened.
    RolledBack,
}

#[cfg(test)]
mod tests;
