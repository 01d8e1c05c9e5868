//! Starting to lead: identify the region, take the shard over, recover its state, commit a first entry.

use std::{collections::VecDeque, sync::Arc};

use object_store::path::Path;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ProposeError, Shard, Shared,
    health::Health,
    leader::{Content, Reign, first_entry},
    snapshot,
    waiters::Waiters,
};
use crate::{
    command::Command,
    env::Env,
    format::{FrameError, RegionIdentity, Value, checksum, decode_snapshot},
    ids::{Ballot, Sequence, ShardId, WriteId},
    journal::{Accepted, Fold, Lane, Merged, Quorum, merge},
    keys::{self, Slot},
    state::ShardState,
    store::{Component, RegionStore, StoreError},
};

/// What a shard needs to know of its node.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The shard.
    pub shard: ShardId,
    /// Name of this node.
    pub node: String,
    /// URL at which this node is reached; empty when it has none.
    pub address: String,
    /// Appends in flight.
    pub window: usize,
}

/// Why a shard could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not answer.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// A stored object is missing or damaged.
    #[error("object {key} is damaged: {problem}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The bucket belongs to another region.
    #[error("the store of region {region} belongs to region {found}; check the region's URL")]
    ForeignRegion {
        /// Name this node has for it.
        region: String,
        /// Name it has itself.
        found: String,
    },
    /// Other nodes took the shard over again and again.
    #[error("another node took the shard over at the same time; last seen ballot {0}")]
    Contended(Ballot),
    /// The first entry was not committed.
    #[error("the first entry was not committed: {0}")]
    FirstEntry(#[from] ProposeError),
}

impl StartError {
    pub(super) fn damaged(key: &Path, error: &FrameError) -> Self {
        Self::Damaged { key: key.to_string(), problem: error.to_string() }
    }

    pub(super) fn missing(key: &Path) -> Self {
        Self::Damaged { key: key.to_string(), problem: "it does not exist".to_owned() }
    }
}

/// Proposals that wait for the owner task; admission bounds their bytes.
const INBOX: usize = 1_024;

/// A won takeover.
pub(super) struct Won {
    pub(super) ballot: Ballot,
    /// Slot of the Takeover.
    pub(super) parent: Slot,
    pub(super) promise: Fold,
    pub(super) floor: u64,
}

/// Recovers the state of a shard that was taken over, and leads it: resolves when the first entry is committed.
pub(super) async fn lead(
    config: &ShardConfig,
    won: Won,
    store: RegionStore,
    env: Env,
    tasks: &TaskTracker,
) -> Result<Shard, StartError> {
    let shard = config.shard;
    let merged = merge(std::slice::from_ref(&won.promise)).ok_or_else(|| StartError::Damaged {
        key: keys::journal(shard, won.parent).to_string(),
        problem: "entries that were committed before it are missing".to_owned(),
    })?;
    let state = recover(shard, &store, &merged).await?;
    let mut again = VecDeque::new();
    for (sequence, _, accepted) in &merged.reappend {
        again.push_back(content_of(shard, &store, *sequence, accepted).await?);
    }
    let first = again.back().map_or(merged.committed, |last: &Content| last.sequence).next();
    again.push_back(first_entry(first, env.clock.now_ms()));
    let lane = Lane::new(won.ballot, won.parent, merged.committed.next(), config.window);
    let quorum = Quorum::new(1, merged.committed);
    let shared = share(config, won, &lane, state, store, env);
    let (owner, inbox) = mpsc::channel(INBOX);
    let (started, first_committed) = oneshot::channel();
    tasks.spawn(Reign::new(shared.clone(), lane, quorum, inbox, again, started).run());
    first_committed.await.unwrap_or(Err(ProposeError::ShuttingDown))?;
    Ok(Shard { shared, owner })
}

fn share(config: &ShardConfig, won: Won, lane: &Lane, state: ShardState, store: RegionStore, env: Env) -> Arc<Shared> {
    let mut extents = won.promise.extents;
    let first = Sequence(lane.origin());
    extents.begin(crate::format::Extent { first, ballot: won.ballot, origin: lane.origin() });
    let sequence = won.promise.snapshot.as_ref().map_or(Sequence(0), |snapshot| snapshot.sequence);
    Arc::new(Shared {
        id: config.shard,
        ballot: won.ballot,
        parent: won.parent,
        store,
        env,
        committed: state.applied.0.into(),
        sealed: state.applied.0.into(),
        in_flight: 0.into(),
        state: RwLock::new(state),
        waiters: Waiters::default(),
        health: Health::new(),
        ended: CancellationToken::new(),
        extents: RwLock::new(extents),
        snapshot: Mutex::new(snapshot::Progress { sequence, bytes: 0, floor: won.floor }),
        snapshotting: tokio::sync::Mutex::new(()),
    })
}

/// Reads the region's identity, or writes it if the store is new.
pub(super) async fn identify(store: &RegionStore, env: &Env) -> Result<RegionIdentity, StartError> {
    let key = keys::identity();
    let region = store.region().to_string();
    loop {
        if let Some(bytes) = store.get(Component::Journal, &key).await? {
            let found = RegionIdentity::decode(&bytes).map_err(|error| StartError::damaged(&key, &error))?;
            if found.region == region {
                return Ok(found);
            }
            return Err(StartError::ForeignRegion { region, found: found.region });
        }
        if !store.list(Component::Journal, &keys::journals()).await?.is_empty()
            && store.get(Component::Journal, &key).await?.is_none()
        {
            return Err(StartError::Damaged {
                key: key.to_string(),
                problem: "it does not exist, but the store holds a journal: it was restored or cleaned in part"
                    .to_owned(),
            });
        }
        let id = WriteId(env.entropy.next_u128());
        let identity = RegionIdentity {
            region_id: id.to_string(),
            cluster_id: format!("{:032x}", env.entropy.next_u128()),
            region: region.clone(),
            number: 0,
            voters: Vec::new(),
            format: 1,
            created_ms: env.clock.now_ms(),
        };
        // Whether this write landed or another node's did: the next read tells which identity counts.
        store.create(Component::Journal, &key, identity.encode(id).into(), id).await?;
    }
}

/// The state after all entries that are known to be committed.
async fn recover(shard: ShardId, store: &RegionStore, merged: &Merged) -> Result<ShardState, StartError> {
    let mut state = ShardState::default();
    if let Some((_, snapshot)) = &merged.snapshot {
        let key = keys::snapshot(shard, snapshot.sequence, snapshot.id);
        let bytes = store.get(Component::Snapshot, &key).await?.ok_or_else(|| StartError::missing(&key))?;
        state = decode_snapshot(&bytes).map_err(|error| StartError::damaged(&key, &error))?;
    }
    for (sequence, _, accepted) in &merged.settled {
        let value = Value::decode(&accepted.section);
        let value = value.map_err(|error| StartError::damaged(&keys::journal(shard, accepted.slot), &error))?;
        state.apply(&value, *sequence, accepted.body_at);
    }
    Ok(state)
}

/// An entry's whole content, to be appended again under another ballot.
async fn content_of(
    shard: ShardId,
    store: &RegionStore,
    sequence: Sequence,
    accepted: &Accepted,
) -> Result<Content, StartError> {
    let key = keys::journal(shard, accepted.slot);
    let damaged = |error: &FrameError| StartError::damaged(&key, error);
    let value = Value::decode(&accepted.section).map_err(|error| damaged(&error))?;
    let mut body = Vec::new();
    if accepted.body_len > 0 {
        let range = accepted.body_at..accepted.body_at + accepted.body_len;
        let bytes = store.get_range(Component::Journal, &key, range).await?;
        let bytes = bytes.ok_or_else(|| StartError::missing(&key))?;
        if bytes.len() as u64 != accepted.body_len {
            return Err(damaged(&FrameError::Truncated { have: bytes.len(), want: accepted.body_len as usize }));
        }
        // The copy will be what is referenced, so that damage on the way would stay for ever.
        if !value.commands.iter().all(|command| batches_match(command, &bytes)) {
            return Err(damaged(&FrameError::Checksum("a batch")));
        }
        body.push(bytes);
    }
    Ok(Content::unattended(sequence, value, accepted.section.clone(), body))
}

fn batches_match(command: &Command, body: &[u8]) -> bool {
    let Command::Publish(publish) = command else { return true };
    publish.batches.iter().all(|batch| {
        let at = usize::try_from(batch.at).unwrap_or(usize::MAX);
        let bytes = body.get(at..at.saturating_add(batch.len as usize));
        bytes.is_some_and(|bytes| checksum(bytes) == batch.crc)
    })
}
