//! What goes into a shard and what comes out.

use bytes::Bytes;

use crate::{
    command::{Applied, Command},
    format::Leader,
    ids::{Ballot, Sequence, ShardId},
};

/// Called once with what came of a proposal, on the shard's own task: it must be quick and must not block.
pub type OnDone = Box<dyn FnOnce(Result<Committed, ProposeError>) + Send>;

/// Commands to be committed together, in one entry, and the inline batches that they refer to.
pub struct Proposal {
    /// The commands. Places of batches are relative to this proposal's body.
    pub commands: Vec<Command>,
    /// Bytes of the batches, end to end.
    pub body: Vec<Bytes>,
    /// Where the answer goes.
    pub done: OnDone,
}

/// A committed proposal.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its entry.
    pub sequence: Sequence,
    /// Where the proposal's body begins in the entry's object, in bytes.
    pub body_at: u64,
    /// What came of each command.
    pub outcomes: Vec<Applied>,
}

/// Why a proposal was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Definitely not stored: this node does not lead the shard.
    #[error("this node does not lead the shard any more; {}", describe(leader.as_ref()))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Leader>,
    },
    /// Definitely not stored: the store does not take writes at present.
    #[error("the store does not take writes: {0}")]
    Unavailable(String),
    /// It may or may not be stored, now or later.
    #[error("it is not known whether the write was stored: {0}")]
    Unknown(String),
    /// Definitely not stored: the node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl ProposeError {
    /// Whether this node will give the same answer to whatever comes.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }
}

fn describe(leader: Option<&Leader>) -> String {
    match leader {
        Some(Leader { node, address, .. }) if address.is_empty() => format!("node {node} took over"),
        Some(Leader { node, address, .. }) => format!("node {node} at {address} took over"),
        None => "another node took over".to_owned(),
    }
}

/// Why bytes of a batch could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The store did not answer in time.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The object is missing, cut off, or its checksum does not match.
    #[error("object {key} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// State of a shard in brief.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// `leading`, `deposed`, `broken` or `stopped`.
    pub state: &'static str,
    /// Ballot of this node's reign.
    pub ballot: Ballot,
    /// Last entry committed.
    pub committed: Sequence,
    /// Last entry sealed.
    pub sealed: Sequence,
    /// Appends in flight.
    pub in_flight: usize,
    /// Last entry that a snapshot covers.
    pub snapshot: Sequence,
    /// Size of that snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The present leader if another node took over.
    pub deposed_by: Option<Leader>,
    /// Why the store does not take writes at present.
    pub store_problem: Option<String>,
}
