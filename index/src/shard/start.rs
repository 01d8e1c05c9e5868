//! Starting to lead: identify the region, take the shard over, recover its state, commit a first entry.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use object_store::path::Path;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    ProposeError, Shard, Shared,
    health::Health,
    leader::{Content, Reign, first_entry, leader_of},
    path::{PathReader, newest_floor},
    snapshot,
    waiters::Waiters,
};
use crate::{
    command::Command,
    env::Env,
    format::{FrameError, Leader, RegionIdentity, Value, checksum, decode_snapshot},
    ids::{Ballot, Sequence, ShardId, WriteId},
    journal::{Abandoned, Accepted, Candidate, Fold, FoldError, Lane, Merged, Quorum, Want, merge},
    keys::{self, Slot},
    state::ShardState,
    store::{Component, Created, RegionStore, StoreError},
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

/// Attempts to take over before giving up.
const ATTEMPTS: u32 = 8;

/// Proposals that wait for the owner task; admission bounds their bytes.
const INBOX: usize = 1_024;

impl Shard {
    /// Takes the shard over in its region and leads it. The task of the reign is spawned on `tasks`.
    ///
    /// # Errors
    /// When the store does not answer, holds damaged objects or belongs to another region, or another node wins.
    pub async fn start(
        config: ShardConfig,
        store: RegionStore,
        env: Env,
        tasks: &TaskTracker,
    ) -> Result<(Self, RegionIdentity), StartError> {
        let identity = identify(&store, &env).await?;
        let shard = config.shard;
        let reign = take_over(&config, &store, &env).await?;
        let merged = merge(std::slice::from_ref(&reign.promise)).ok_or_else(|| StartError::Damaged {
            key: keys::journal(shard, reign.parent).to_string(),
            problem: "entries that were committed before it are missing".to_owned(),
        })?;
        let state = recover(shard, &store, &merged).await?;
        let mut again = VecDeque::new();
        for (sequence, _, accepted) in &merged.reappend {
            again.push_back(content_of(shard, &store, *sequence, accepted).await?);
        }
        let first = again.back().map_or(merged.committed, |last: &Content| last.sequence).next();
        again.push_back(first_entry(first, env.clock.now_ms()));
        let lane = Lane::new(reign.ballot, reign.parent, merged.committed.next(), config.window);
        let quorum = Quorum::new(1, merged.committed);
        let shared = share(&config, reign, &lane, state, store, env);
        let (owner, inbox) = mpsc::channel(INBOX);
        let (started, first_committed) = oneshot::channel();
        tasks.spawn(Reign::new(shared.clone(), lane, quorum, inbox, again, started).run());
        first_committed.await.unwrap_or(Err(ProposeError::ShuttingDown))?;
        Ok((Self { shared, owner }, identity))
    }
}

/// A won takeover.
struct Won {
    ballot: Ballot,
    /// Slot of the Takeover.
    parent: Slot,
    promise: Fold,
    floor: u64,
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
        extents: RwLock::new(extents),
        snapshot: Mutex::new(snapshot::Progress { sequence, bytes: 0, floor: won.floor }),
        snapshotting: tokio::sync::Mutex::new(()),
    })
}

/// Reads the region's identity, or writes it if the store is new.
async fn identify(store: &RegionStore, env: &Env) -> Result<RegionIdentity, StartError> {
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

async fn take_over(config: &ShardConfig, store: &RegionStore, env: &Env) -> Result<Won, StartError> {
    let mut seen = Ballot::BOOTSTRAP;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            // Jitter, so that two challengers do not keep beating each other.
            let pause = 20 * u64::from(attempt) + env.entropy.next_u64() % 100;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        match attempt_takeover(config, store, env, seen).await? {
            Ok(won) => return Ok(won),
            Err(Abandoned { ballot, leader }) => {
                tracing::info!(%ballot, node = leader.map(|leader| leader.node), "a takeover was abandoned");
                seen = seen.max(ballot);
            }
        }
    }
    Err(StartError::Contended(seen))
}

/// Carries out what a [`Candidate`] wants until the region has promised.
async fn attempt_takeover(
    config: &ShardConfig,
    store: &RegionStore,
    env: &Env,
    seen: Ballot,
) -> Result<Result<Won, Abandoned>, StartError> {
    let shard = config.shard;
    let mut candidate = Candidate::new(WriteId(env.entropy.next_u128()));
    let mut path = PathReader::new(shard, store.clone());
    let mut floor = 0;
    let mut ballot = seen;
    let mut takeover = None;
    loop {
        match candidate.want() {
            Want::Floor => {
                let newest = newest_floor(shard, store).await?;
                floor = newest.as_ref().map_or(0, |floor| floor.k);
                candidate.floor(newest.as_ref());
            }
            Want::Object(slot) => {
                let record = path.read(slot).await?;
                let accepted = candidate.object(record.as_ref());
                if let Err(abandoned) = accepted.map_err(|error| off_path(shard, slot, &error))? {
                    return Ok(Err(abandoned));
                }
            }
            Want::Ballot(promised) => {
                ballot = Ballot { round: seen.round.max(promised.round) + 1, nonce: env.entropy.next_u64() };
                candidate.stand(ballot);
            }
            Want::Put { slot, parent, ballot } => {
                // The same bytes at every attempt at one slot; another slot has another parent.
                let leader: Leader = leader_of(&config.node, &config.address, env.clock.now_ms());
                let bytes = leader.takeover(ballot, parent, candidate.id());
                let key = keys::journal(shard, slot);
                let created = store.create(Component::Journal, &key, bytes.into(), candidate.id()).await?;
                candidate.put(created == Created::Landed);
                path.forget();
            }
            Want::Promised => {
                takeover = candidate.clone().into_promise();
                break;
            }
            Want::Void => break,
        }
    }
    Ok(match takeover {
        Some((promise, parent)) => Ok(Won { ballot, parent, promise, floor }),
        None => Err(Abandoned { ballot, leader: None }),
    })
}

fn off_path(shard: ShardId, slot: Slot, error: &FoldError) -> StartError {
    StartError::Damaged { key: keys::journal(shard, slot).to_string(), problem: error.to_string() }
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
