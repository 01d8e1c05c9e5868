//! Transactions: publishes and acknowledgements that happen together or not at all.

use std::sync::Arc;

use super::{Placement, Publish, Settle};
use crate::{
    ids::TopicId,
    limits::{MAX_CHECK_BACK_MS, MAX_URL_BYTES, MIN_CHECK_BACK_MS},
    names::TransactionId,
};

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transact {
    /// By which it is recognised when it is repeated.
    pub id: TransactionId,
    /// Its messages. Each publish has exactly one request, which owns all of its rows.
    pub publishes: Vec<Publish>,
    /// Messages that it acknowledges: those that are [`settled`](super::SettlePartition::settled) or become
    /// [`dead`](super::SettlePartition::dead) letters must be open. When it is prepared, only `settled` may be there.
    pub settles: Vec<Settle>,
    /// Whether it is decided already.
    pub mode: Mode,
}

/// Whether a transaction is decided when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It takes effect at once.
    Commit,
    /// It is kept, unseen, until it is decided.
    Prepare(Prepare),
}

/// How long an undecided transaction is kept, and who is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// It is rolled back at this time, milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// Whom to ask what has become of it.
    pub check_back: Option<CheckBack>,
}

impl Prepare {
    /// What is wrong with it, if anything. Addresses are judged where they come in.
    pub fn problem(&self) -> Option<&'static str> {
        let check = self.check_back.as_ref()?;
        if check.url.is_empty() || check.url.len() > MAX_URL_BYTES {
            Some("the check-back URL has 1 to 2048 bytes")
        } else if !(MIN_CHECK_BACK_MS..=MAX_CHECK_BACK_MS).contains(&check.every_ms) {
            Some("check-back every_ms must be between 100 and 86400000")
        } else {
            None
        }
    }
}

/// An endpoint that knows what has become of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckBack {
    /// URL that is asked.
    pub url: String,
    /// Time before the first question and between questions, in milliseconds.
    pub every_ms: u32,
}

/// What has become of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, unseen.
    Prepared,
    /// It has taken effect: for each publish where its messages are.
    Committed(Vec<(TopicId, Arc<Placement>)>),
    /// It never happened.
    RolledBack,
}
