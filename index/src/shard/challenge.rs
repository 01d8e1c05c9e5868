//! Looking at who leads, and taking over.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{
    Shard, ShardConfig, StartError,
    leader::leader_of,
    path::{PathReader, newest_floor},
    start::{Won, identify, lead},
};
use crate::{
    env::Env,
    format::{Leader, Record, RegionIdentity, Section},
    ids::{Ballot, ShardId, WriteId},
    journal::{Abandoned, Candidate, FoldError, Want},
    keys::{self, Slot},
    names::RegionName,
    store::{Component, Created, RegionStore, StoreError},
};

/// Opens the store of a region, of this name, at this URL.
pub type Opener = Arc<dyn Fn(&RegionName, &str) -> Result<RegionStore, StoreError> + Send + Sync>;

/// The regions of a cluster, identified.
#[derive(Clone, Debug)]
pub struct Cluster {
    store: RegionStore,
    identity: RegionIdentity,
}

impl Cluster {
    /// Reads the region's identity, or founds the cluster if the store is new.
    ///
    /// # Errors
    /// When the store does not answer, belongs to another region, or was cleaned in part.
    pub async fn join(store: RegionStore, env: &Env) -> Result<Self, StartError> {
        let identity = identify(&store, env).await?;
        Ok(Self { store, identity })
    }

    /// The cluster and region that the store belongs to.
    pub fn identity(&self) -> &RegionIdentity {
        &self.identity
    }
}

/// What a look at the paths showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Highest ballot on a path.
    pub ballot: Ballot,
    /// The leader of that ballot, if there is one.
    pub leader: Option<Leader>,
    /// Whether a path is longer than at the last look; true at the first.
    pub moved: bool,
    /// Whether a quorum of the regions answered.
    pub quorum: bool,
}

/// A node that may take the shard over. It can look as often as it likes without writing anything.
pub struct Challenge {
    config: ShardConfig,
    cluster: Cluster,
    env: Env,
    candidate: Candidate,
    path: PathReader,
    floor: Option<u64>,
    /// Where the path ended at the last look.
    tip: Option<Slot>,
}

/// Attempts to take over while nothing but a snapshot comes in between.
const ATTEMPTS: u32 = 4;

impl Challenge {
    /// One that has not looked yet.
    pub fn new(config: ShardConfig, cluster: Cluster, env: Env) -> Self {
        let candidate = Candidate::new(WriteId(env.entropy.next_u128()));
        let path = PathReader::new(config.shard, cluster.store.clone());
        Self { config, cluster, env, candidate, path, floor: None, tip: None }
    }

    /// Reads every region's path to its end, from where the last look stopped or from a newer snapshot on. Never writes.
    ///
    /// # Errors
    /// When the store does not answer or the path is damaged.
    pub async fn look(&mut self) -> Result<Sighting, StartError> {
        let newest = newest_floor(self.config.shard, &self.cluster.store).await?;
        let floor = newest.as_ref().map(|floor| floor.k);
        if floor != self.floor || self.tip.is_none() {
            self.candidate = Candidate::new(self.candidate.id());
            self.candidate.floor(newest.as_ref());
            self.floor = floor;
        }
        self.path.forget();
        if let Err(error) = self.fold().await {
            // What was folded so far may have been cut off in between: the next look begins anew.
            self.tip = None;
            return Err(error);
        }
        let fold = self.candidate.fold();
        let (tip, ballot, parent) = (fold.at, fold.promised, fold.parent);
        let leader = match &fold.leader {
            Some(leader) => Some(leader.clone()),
            None if ballot == Ballot::BOOTSTRAP => None,
            None => leader_at(self.config.shard, self.cluster.store.clone(), parent).await?,
        };
        let moved = self.tip.replace(tip) != Some(tip);
        Ok(Sighting { ballot, leader, moved, quorum: true })
    }

    /// Takes the shard over and leads it. The task of the reign is spawned on `tasks`.
    ///
    /// # Errors
    /// `Contended` when another node is taking over as well; else when the store does not answer or is damaged.
    pub async fn stand(mut self, tasks: &TaskTracker) -> Result<Shard, StartError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self = Self::new(self.config, self.cluster, self.env);
            }
            if self.tip.is_none() {
                self.look().await?;
            }
            match self.promise().await? {
                Ok(Some(won)) => return lead(&self.config, won, self.cluster.store, self.env, tasks).await,
                Ok(None) => tracing::info!("a snapshot came in between; the takeover is tried again"),
                Err(Abandoned { ballot, leader }) => {
                    tracing::info!(%ballot, node = leader.map(|leader| leader.node), "a takeover was abandoned");
                    return Err(StartError::Contended(ballot));
                }
            }
        }
        Err(StartError::Contended(self.candidate.fold().promised))
    }

    /// Reads the path to its end.
    async fn fold(&mut self) -> Result<(), StartError> {
        loop {
            let slot = self.candidate.fold().at;
            let record = self.path.read(slot).await?;
            // It stands for nothing yet, so that it abandons nothing.
            let _ =
                self.candidate.object(record.as_ref()).map_err(|error| off_path(self.config.shard, slot, &error))?;
            if record.is_none() {
                return Ok(());
            }
        }
    }

    /// Carries out what the candidate wants until the region has promised, or can never count.
    async fn promise(&mut self) -> Result<Result<Option<Won>, Abandoned>, StartError> {
        let (shard, store) = (self.config.shard, self.cluster.store.clone());
        let mut ballot = Ballot::BOOTSTRAP;
        loop {
            match self.candidate.want() {
                Want::Floor => {
                    let newest = newest_floor(shard, &store).await?;
                    self.candidate.floor(newest.as_ref());
                }
                Want::Object(slot) => {
                    let record = self.path.read(slot).await?;
                    let accepted = self.candidate.object(record.as_ref());
                    if let Err(abandoned) = accepted.map_err(|error| off_path(shard, slot, &error))? {
                        return Ok(Err(abandoned));
                    }
                }
                Want::Ballot(promised) => {
                    ballot = Ballot { round: promised.round + 1, nonce: self.env.entropy.next_u64() };
                    self.candidate.stand(ballot);
                }
                Want::Put { slot, parent, ballot } => {
                    // The same bytes at every attempt at one slot; another slot has another parent.
                    let leader = leader_of(&self.config.node, &self.config.address, self.env.clock.now_ms());
                    let id = self.candidate.id();
                    let bytes = leader.takeover(ballot, parent, id);
                    let key = keys::journal(shard, slot);
                    let created = store.create(Component::Journal, &key, bytes.into(), id).await?;
                    self.candidate.put(created == Created::Landed);
                    self.path.forget();
                }
                Want::Promised => break,
                Want::Void => return Ok(Ok(None)),
            }
        }
        let floor = self.floor.unwrap_or(0);
        let won = self.candidate.clone().into_promise();
        Ok(Ok(won.map(|(promise, parent)| Won { ballot, parent, promise, floor })))
    }
}

/// The leader whose Takeover is at `slot`, which lies before the newest snapshot.
async fn leader_at(shard: ShardId, store: RegionStore, slot: Slot) -> Result<Option<Leader>, StartError> {
    let key = keys::journal(shard, slot);
    let Some(bytes) = store.get(Component::Journal, &key).await? else { return Ok(None) };
    let record = Record::decode(&bytes).map_err(|error| StartError::damaged(&key, &error))?;
    Ok(match record.section {
        Section::Takeover(leader) => Some(leader),
        _ => None,
    })
}

fn off_path(shard: ShardId, slot: Slot, error: &FoldError) -> StartError {
    StartError::Damaged { key: keys::journal(shard, slot).to_string(), problem: error.to_string() }
}

/// Attempts of [`Shard::start`].
const STARTS: u32 = 8;

impl Shard {
    /// Takes the shard over in its region, whoever leads it.
    ///
    /// # Errors
    /// As [`Challenge::stand`].
    pub async fn start(
        config: ShardConfig,
        store: RegionStore,
        env: Env,
        tasks: &TaskTracker,
    ) -> Result<(Self, RegionIdentity), StartError> {
        let cluster = Cluster::join(store, &env).await?;
        let identity = cluster.identity().clone();
        let mut attempt = 1;
        loop {
            let stood = Challenge::new(config.clone(), cluster.clone(), env.clone()).stand(tasks).await;
            match stood {
                Ok(shard) => return Ok((shard, identity)),
                Err(StartError::Contended(_)) if attempt < STARTS => {}
                Err(error) => return Err(error),
            }
            // Jitter, so that two challengers do not keep beating each other.
            let pause = 20 * u64::from(attempt) + env.entropy.next_u64() % 100;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            attempt += 1;
        }
    }
}
