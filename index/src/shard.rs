//! A shard as the rest of the node sees it: propose commands, read committed state, fetch batches.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLockReadGuard;

use crate::{
    command::{Applied, Command},
    format::Leader,
    ids::{Ballot, Offset, Partition, Sequence, TopicId},
    state::{BatchLocation, ShardState},
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
    /// Ballot under which it was committed.
    pub ballot: Ballot,
    /// Where the proposal's body begins in the entry's object.
    pub body_at: u64,
    /// What came of each command.
    pub outcomes: Vec<Applied>,
}

/// Why a proposal was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Definitely not stored: this node does not lead the shard.
    #[error("this node does not lead shard; {}", leader.as_ref().map_or("its leader is not known".to_owned(), |l| format!("node {} does", l.node)))]
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

/// Why bytes of a batch could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The store did not answer in time.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The object is missing, cut off, or its checksum does not match. Names the key.
    #[error("object {key} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A handle to a shard. Cheap to clone.
#[derive(Clone)]
pub struct Shard(Arc<()>);

impl Shard {
    /// Commits `commands` without a body and waits for what came of it.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Committed, ProposeError> {
        let _ = commands;
        unimplemented!()
    }

    /// Hands a proposal in; its `done` is called exactly once, sooner or later. Waits only while the queue is full.
    pub async fn submit(&self, proposal: Proposal) {
        let _ = proposal;
        unimplemented!()
    }

    /// The committed state. Hold it briefly and never across an await.
    pub fn state(&self) -> RwLockReadGuard<'_, ShardState> {
        unimplemented!()
    }

    /// Resolves when the high watermark of the partition is above `offset`, or the topic is gone, or the shard stops.
    pub fn grown_past(
        &self,
        topic: TopicId,
        partition: Partition,
        offset: Offset,
    ) -> impl Future<Output = ()> + Send + use<> {
        let _ = (topic, partition, offset);
        async { unimplemented!() }
    }

    /// Fetches the bytes of a batch from the store and checks them.
    pub async fn fetch(&self, batch: &BatchLocation) -> Result<Bytes, FetchError> {
        let _ = batch;
        unimplemented!()
    }

    /// Whether proposals would be taken now, and if not, why.
    pub fn ready(&self) -> Result<(), ProposeError> {
        unimplemented!()
    }

    /// A summary for people and metrics.
    pub fn status(&self) -> ShardStatus {
        unimplemented!()
    }
}

/// State of a shard in brief.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// `leading`, `deposed` or `stopped`.
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
    /// The present leader if it is another node.
    pub deposed_by: Option<Leader>,
    /// Why the store does not take writes at present.
    pub store_problem: Option<String>,
}
