//! A shard as the rest of the node sees it: propose commands, read committed state, fetch batches.
//!
//! The thin shell around the pure core of [`crate::journal`] and [`crate::state`]: `start` takes the shard over and
//! recovers its state, `leader` owns the reign, `snapshot` shortens the next recovery.

mod challenge;
mod health;
mod leader;
mod path;
mod proposal;
mod snapshot;
mod start;
mod waiters;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use challenge::{Challenge, Cluster, Opener, Sighting};
pub use proposal::{Committed, FetchError, OnDone, Proposal, ProposeError, ShardStatus};
pub use start::{ShardConfig, StartError};

use self::{
    health::{Health, Role},
    leader::Message,
    waiters::Waiters,
};
use crate::{
    command::Command,
    env::Env,
    format::{Record, Section, checksum},
    ids::{Ballot, Offset, Partition, Sequence, ShardId, TopicId},
    journal::{Extents, Place},
    keys::{self, Slot},
    state::{BatchLocation, ShardState},
    store::{Component, RegionStore, StoreError},
};

/// What the owner task and the handles share.
pub(crate) struct Shared {
    id: ShardId,
    ballot: Ballot,
    /// Slot of the Takeover that began this reign.
    parent: Slot,
    store: RegionStore,
    env: Env,
    state: RwLock<ShardState>,
    waiters: Waiters,
    health: Health,
    /// Cancelled when the reign is over.
    ended: CancellationToken,
    sealed: AtomicU64,
    committed: AtomicU64,
    in_flight: AtomicU64,
    /// Where entries are, this reign's included.
    extents: RwLock<Extents>,
    snapshot: Mutex<snapshot::Progress>,
    snapshotting: tokio::sync::Mutex<()>,
}

/// A handle to a shard that this node leads or led. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    shared: Arc<Shared>,
    owner: mpsc::Sender<Message>,
}

impl Shard {
    /// Commits `commands`, which carry no batches, and waits for what came of them.
    ///
    /// # Errors
    /// When they were not stored, or it is not known whether they were.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Committed, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let done: OnDone = Box::new(move |result| {
            // The caller may have gone away; the commands stand all the same.
            let _ = answer.send(result);
        });
        self.submit(Proposal { commands, body: Vec::new(), done }).await;
        answered.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the shard stopped".to_owned())))
    }

    /// Hands a proposal in; its `done` is called exactly once, sooner or later. Waits only while the queue is full.
    pub async fn submit(&self, proposal: Proposal) {
        if let Err(problem) = self.ready() {
            return (proposal.done)(Err(problem));
        }
        if let Err(mpsc::error::SendError(Message::Propose(proposal))) =
            self.owner.send(Message::Propose(proposal)).await
        {
            (proposal.done)(Err(ProposeError::ShuttingDown));
        }
    }

    /// The committed state. Hold it briefly and never across an await.
    pub fn state(&self) -> RwLockReadGuard<'_, ShardState> {
        self.shared.state.read()
    }

    /// Resolves when the high watermark of the partition is above `offset`, or the topic is gone, or the shard stops
    /// leading.
    pub fn grown_past(
        &self,
        topic: TopicId,
        partition: Partition,
        offset: Offset,
    ) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            loop {
                // Register before looking, so that no growth falls between the look and the wait.
                let growth = shared.waiters.wait_for(topic, partition);
                let waiting = {
                    let state = shared.state.read();
                    let log = state.topic(topic).and_then(|topic| topic.partition(partition));
                    log.is_some_and(|log| log.high_watermark <= offset)
                };
                if !waiting || shared.health.check().is_err_and(|problem| problem.is_final()) {
                    return;
                }
                growth.await;
            }
        }
    }

    /// Fetches the bytes of a batch from the store and checks them against their checksum.
    ///
    /// # Errors
    /// When the store does not answer, or the object is missing or damaged.
    pub async fn fetch(&self, batch: &BatchLocation) -> Result<Bytes, FetchError> {
        let shared = &self.shared;
        let place = shared.extents.read().find(batch.sequence);
        let damaged = |key: String, problem: &str| FetchError::Damaged { key, problem: problem.to_owned() };
        let Some(Place::Journal(slot)) = place else {
            return Err(damaged(format!("entry {}", batch.sequence), "the index does not know its place"));
        };
        let key = keys::journal(shared.id, slot);
        let range = batch.at..batch.at + u64::from(batch.len);
        match shared.store.get_range(Component::Read, &key, range).await {
            Err(error) => Err(FetchError::Unavailable(error.to_string())),
            Ok(None) => Err(damaged(key.to_string(), "it does not exist")),
            Ok(Some(bytes)) if bytes.len() != batch.len as usize => Err(damaged(key.to_string(), "it is cut off")),
            Ok(Some(bytes)) if checksum(&bytes) != batch.crc => {
                Err(damaged(key.to_string(), "the checksum of a batch in it does not match"))
            }
            Ok(Some(bytes)) => Ok(bytes),
        }
    }

    /// Whether proposals are taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), ProposeError> {
        self.shared.health.check()
    }

    /// Whether this node leads, as far as it knows. Unlike [`Self::ready`] it does not ask whether the store takes writes:
    /// what is committed can be read all the same.
    ///
    /// # Errors
    /// Why it does not, for good.
    pub fn leads(&self) -> Result<(), ProposeError> {
        self.ready().or_else(|problem| if problem.is_final() { Err(problem) } else { Ok(()) })
    }

    /// Resolves when the reign is over: deposed, broken or stopped. [`Self::status`] says which.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.ended.clone().cancelled_owned()
    }

    /// Looks whether another node has taken the shard over, and ends the reign if so. One read of the slot at which the
    /// path goes on. A leader that writes finds out by itself.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn check_deposed(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let next = shared.sealed.load(Relaxed) + 1;
        let origin = shared.extents.read().last().map_or(0, |extent| extent.origin);
        let slot = Slot { ballot: shared.ballot, index: next.saturating_sub(origin) };
        let found = shared.store.get(Component::Journal, &keys::journal(shared.id, slot)).await?;
        let record = found.as_ref().and_then(|bytes| Record::decode(bytes).ok());
        // Anything else there is this leader's own entry, sent in between.
        if record.is_some_and(|record| matches!(record.section, Section::Takeover(_))) {
            let _ = self.owner.send(Message::Occupied(slot)).await;
        }
        Ok(())
    }

    /// Stops taking proposals and resolves when everything in flight is committed. Then the shard has no leader here.
    pub async fn shutdown(&self) {
        let (done, finished) = oneshot::channel();
        if self.owner.send(Message::Shutdown(done)).await.is_ok() {
            let _ = finished.await;
        }
    }

    /// A summary for people and metrics.
    pub fn status(&self) -> ShardStatus {
        let shared = &self.shared;
        let (role, store_problem) = shared.health.look();
        let (state, deposed_by) = match role {
            Role::Leading => ("leading", None),
            Role::Deposed(leader) => ("deposed", leader),
            Role::Broken(_) => ("broken", None),
            Role::Stopped => ("stopped", None),
        };
        let progress = shared.snapshot.lock();
        ShardStatus {
            shard: shared.id,
            state,
            ballot: shared.ballot,
            committed: Sequence(shared.committed.load(Relaxed)),
            sealed: Sequence(shared.sealed.load(Relaxed)),
            in_flight: shared.in_flight.load(Relaxed) as usize,
            snapshot: progress.sequence,
            snapshot_bytes: progress.bytes,
            deposed_by,
            store_problem,
        }
    }
}

#[cfg(test)]
mod tests;
