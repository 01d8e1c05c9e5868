//! A shard as the rest of the node sees it: propose commands, read committed state, fetch batches.
//!
//! The thin shell around the pure core of [`crate::journal`] and [`crate::state`]:
//!
//! | file | holds |
//! |---|---|
//! | `challenge` | a node that does not lead: looking at the paths, taking the shard over |
//! | `walk`, `path` | one region's path, step by step, read ahead |
//! | `open` | from a won election to a reign: recovery |
//! | `leader`, `events` | the owner task of a reign, and what it waits for |
//! | `join`, `copies`, `content` | regions that come later, and what they are sent |
//! | `change` | changing the set of regions |
//! | `inspect` | what one region says, read without leading |
//! | `snapshot`, `whole` | snapshots and truncation marks, and whether a region still has what they stand for |
//! | `truncate` | deleting what lies before truncation marks |
//! | `repairs` | what regions miss, and how copying it comes on |
//! | `fetch`, `archive`, `view` | reading batches and archive files from the nearest region that has them |
//! | `health`, `history`, `status` | what people are told |

mod archive;
mod challenge;
mod change;
mod content;
mod copies;
mod error;
mod events;
mod fetch;
mod health;
mod history;
pub mod inspect;
mod join;
mod leader;
mod open;
mod path;
mod proposal;
mod repairs;
mod snapshot;
mod status;
mod truncate;
mod view;
mod waiters;
mod walk;
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub use archive::RegionHandle;
pub use challenge::{Challenge, Sighting};
pub use error::StartError;
pub use proposal::{
    ChangeError, Committed, FetchError, OnDone, Proposal, ProposeError, REGION_STATES, RegionStatus, ShardStatus,
};

pub use repairs::{RepairProgress, Throttle};
pub use truncate::{TruncateLimits, Truncated};

use self::{health::Health, leader::Message, view::View, waiters::Waiters};
use crate::{
    command::Command,
    env::Env,
    format::Leader,
    founding::{Cluster, Opener},
    ids::{Ballot, Offset, Partition, RegionNo, Sequence, ShardId, TopicId},
    region::RegionRecord,
    state::ShardState,
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
    /// Entries that are sealed and not yet committed, at most; appends in flight to one region.
    pub window: usize,
}

/// What the owner task and the handles share.
pub(crate) struct Shared {
    id: ShardId,
    ballot: Ballot,
    /// This node, as its Takeovers name it.
    leader: Leader,
    /// Those that led before, as far as is known.
    predecessors: Vec<Leader>,
    cluster_id: String,
    founders: Vec<RegionRecord>,
    opener: Opener,
    env: Env,
    state: RwLock<ShardState>,
    waiters: Waiters,
    health: Health,
    /// The regions that have joined.
    views: RwLock<BTreeMap<RegionNo, Arc<View>>>,
    history: Mutex<history::History>,
    /// The highest ballot of other leaders that was met.
    met: Mutex<Ballot>,
    /// The change of regions that is under way, in words.
    change: Mutex<Option<String>>,
    sealed: AtomicU64,
    committed: AtomicU64,
    in_flight: AtomicU64,
    /// When this node began to stand, and how long it took until it led, in milliseconds.
    started_ms: i64,
    takeover_ms: AtomicU64,
    snapshot: Mutex<snapshot::Progress>,
    snapshotting: tokio::sync::Mutex<()>,
    basis: Mutex<Option<Arc<snapshot::Basis>>>,
    truncating: tokio::sync::Mutex<()>,
    /// Regions that are given a snapshot, and the last entry that it covers: they will need those behind it.
    installing: Mutex<BTreeMap<RegionNo, Sequence>>,
    repairs: repairs::Repairs,
    /// Held to read while archive files are put in place, and to write while it is changed who votes: between the look at
    /// which regions hold every file and that change there must not come another file.
    replacing: tokio::sync::RwLock<()>,
}

impl Shared {
    /// The regions that hold an entry, those that answer fastest first, those that fail last.
    fn views_holding(&self, sequence: Sequence) -> Vec<Arc<View>> {
        let mut views = self.views_all();
        views.retain(|view| view.accepted() >= sequence);
        views.sort_by_key(|view| (self.health.is_failing(view.record.number), view.latency_us()));
        views
    }

    /// Another leader's ballot was met.
    fn meet(&self, ballot: Ballot) {
        let mut met = self.met.lock();
        *met = ballot.max(*met);
    }

    fn views_all(&self) -> Vec<Arc<View>> {
        self.views.read().values().cloned().collect()
    }

    fn has_several_regions(&self) -> bool {
        self.views.read().len() > 1
    }

    /// Whether anybody waits for an entry to be committed.
    fn waits_for_commits(&self) -> bool {
        self.committed.load(Relaxed) < self.sealed.load(Relaxed)
    }

    /// Whether a commit can do without this region: a quorum of the others takes writes, and about as fast as it does.
    fn has_spare_for(&self, view: &View) -> bool {
        let (slow, behind) = (view.append_time() * 3, self.committed.load(Relaxed).saturating_sub(SPARE_LAG));
        let views = self.views.read();
        let sets = self.health.sets();
        sets.iter().all(|set| {
            set.has_quorum(|region| {
                let other = views.get(&region).filter(|other| other.record.number != view.record.number);
                other.is_some_and(|other| {
                    other.append_time() <= slow && other.accepted().0 >= behind && !self.health.is_failing(region)
                })
            })
        })
    }

    fn name_of(&self, region: RegionNo) -> String {
        let view = self.views.read().get(&region).map(|view| view.record.name.to_string());
        view.unwrap_or_else(|| format!("number {region}"))
    }
}

/// A handle to a shard that this node leads or led. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    shared: Arc<Shared>,
    owner: mpsc::Sender<Message>,
}

impl Shard {
    /// Takes the shard over, whoever leads, and leads it. The task of the reign is spawned on `tasks`.
    ///
    /// # Errors
    /// When too few regions answer or hold what was committed, or another node wins.
    pub async fn start(
        config: ShardConfig,
        cluster: Cluster,
        env: Env,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        let mut seen = Ballot::BOOTSTRAP;
        for attempt in 1_u64.. {
            let challenge = Challenge::new(config.clone(), cluster.clone(), env.clone());
            match challenge.stand(seen, tasks).await {
                Err(StartError::Contended(ballot)) if attempt < ATTEMPTS => {
                    seen = seen.max(ballot);
                    // Jitter, so that two challengers do not keep beating each other.
                    let pause = 20 * attempt + env.entropy.next_u64() % 100;
                    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
                }
                result => return result,
            }
        }
        Err(StartError::Contended(seen))
    }

    /// Commits `commands`, which carry no batches, and waits for what came of them.
    ///
    /// # Errors
    /// When they were not stored, or it is not known whether they were.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Committed, ProposeError> {
        let replaces = commands.iter().any(|command| matches!(command, Command::Replace(_)));
        let _voters_stay = if replaces { Some(self.shared.replacing.read().await) } else { None };
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

    /// Resolves when the topic has the partition, or is gone, or the shard stops leading.
    pub fn has_partition(&self, topic: TopicId, partition: Partition) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            loop {
                // Register before looking, like above.
                let added = shared.waiters.wait_for(topic, partition);
                let waiting =
                    shared.state.read().topic(topic).is_some_and(|topic| topic.partition(partition).is_none());
                if !waiting || shared.health.check().is_err_and(|problem| problem.is_final()) {
                    return;
                }
                added.await;
            }
        }
    }

    /// Waits until queue subscriptions were created, changed or deleted in this reign, and gives the topics concerned; each
    /// change is told once, also when it was committed before this call. For one caller.
    pub async fn changed_queues(&self) -> BTreeSet<TopicId> {
        self.shared.waiters.changed().await
    }

    /// Whether proposals are taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), ProposeError> {
        self.shared.health.check()
    }

    /// Whether this node leads, as far as it knows. Unlike [`Self::ready`] it does not ask whether the stores take writes:
    /// what is committed can be read all the same.
    ///
    /// # Errors
    /// Why it does not, for good.
    pub fn leads(&self) -> Result<(), ProposeError> {
        self.ready().or_else(|problem| if problem.is_final() { Err(problem) } else { Ok(()) })
    }

    /// Resolves when the reign is over, for whatever reason.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.health.over.clone().cancelled_owned()
    }

    /// Nodes that led before this reign and may not know that it has begun, the latest first; this node is not among them.
    pub fn predecessors(&self) -> &[Leader] {
        &self.shared.predecessors
    }

    /// The highest ballot of other leaders that this one has met: who stands next must be above it, though the region that
    /// has it may be slow to say so.
    pub fn met(&self) -> Ballot {
        *self.shared.met.lock()
    }

    /// Whether nothing was committed for so long: a leader that writes learns by writing whether it still leads.
    pub fn is_quiet(&self, time: Duration) -> bool {
        self.shared.history.lock().age().is_none_or(|age| age >= time)
    }

    /// Somebody says that another node has taken over. This one believes nobody: it looks where its next append would go.
    pub async fn check_deposed(&self) {
        // A reign that is over needs no look.
        let _ = self.owner.send(Message::Suspect).await;
    }

    /// Stops taking proposals and resolves when everything in flight is committed. Then the shard has no leader here.
    pub async fn shutdown(&self) {
        let (done, finished) = oneshot::channel();
        if self.owner.send(Message::Shutdown(done)).await.is_ok() {
            let _ = finished.await;
        }
    }
}

/// A region that is so many entries behind is no help to a commit.
const SPARE_LAG: u64 = 32;

/// Attempts to take over before giving up.
const ATTEMPTS: u64 = 8;

#[cfg(test)]
mod tests;
