//! The seat of a shard's leader, as one node sees it: either the node sits there, or it knows who does.
//!
//! `seat/task.rs` moves the node in and out of it for as long as the node lives; everything else only looks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use brigade_compactor::worker::Compactor;
use brigade_index::{
    env::Env,
    format::Leader,
    ids::{Ballot, ShardId},
    shard::{ProposeError, Shard, ShardStatus},
};
use brigade_ingest::Ingest;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{push::Endpoints, settings::Settings};

mod probe;
mod task;

pub(crate) use probe::{DeposedBody, LeaseAnswer};
pub(super) use task::{Surroundings, Task};

/// A node while it leads: what requests about topics and messages are carried out with.
pub struct Leading {
    /// The shard.
    pub shard: Shard,
    /// Its publish and read paths.
    pub ingest: Ingest,
    /// What moves messages into the archive.
    pub compactor: Compactor,
    /// What posts to URLs that clients name.
    pub endpoints: Endpoints,
    /// Settings of the node.
    pub settings: Arc<Settings>,
    /// Wall time and randomness.
    pub env: Env,
    /// Cancelled when the node shuts down.
    pub draining: CancellationToken,
    /// Everything that runs for the node.
    pub(crate) tasks: TaskTracker,
}

/// A node while it does not lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// `looking`, `following`, `standing` or `stopped`.
    pub state: &'static str,
    /// Who leads, if known. It has an address at which it can be asked.
    pub leader: Option<Leader>,
    /// Ballot of that leader.
    pub ballot: Ballot,
    /// Whether that leader answered when it was last asked.
    pub lives: bool,
    /// Why there is nobody to be asked.
    pub problem: String,
    /// Why nobody can lead at present: too few regions answer.
    pub quorum: Option<String>,
}

impl Absent {
    /// A node that knows nothing of a leader.
    fn without_leader(state: &'static str, problem: impl Into<String>) -> Self {
        Self { state, leader: None, ballot: Ballot::BOOTSTRAP, lives: false, problem: problem.into(), quorum: None }
    }
}

#[derive(Clone)]
enum Role {
    Leading(Arc<Leading>),
    Absent(Arc<Absent>),
}

/// What a node knows of the shard.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) status: ShardStatus,
    /// Its topics.
    pub(crate) topics: u64,
    /// Their partitions.
    pub(crate) partitions: u64,
    /// Bytes of messages in one region's journal, and in its archive.
    pub(crate) stored: [u64; 2],
}

impl Default for Known {
    fn default() -> Self {
        Self { status: ShardStatus::unknown(ShardId(0)), topics: 0, partitions: 0, stored: [0; 2] }
    }
}

impl Known {
    fn of(shard: &Shard) -> Self {
        let status = shard.status();
        let state = shard.state();
        let partitions = state.topics().map(|topic| topic.partitions.len() as u64).sum();
        let logs = state.topics().flat_map(|topic| &topic.partitions);
        let stored =
            logs.fold([0, 0], |[journal, archive], log| [journal + log.journal_bytes(), archive + log.archive_bytes()]);
        Self { status, topics: state.topics().len() as u64, partitions, stored }
    }
}

/// How long a leader that nobody could tell that it was deposed may go on answering reads. A leader that is asked nothing
/// never looks, and one that writes need not.
pub(crate) const SELF_CHECK: Duration = Duration::from_secs(5);

/// A handle. Cheap to clone.
#[derive(Clone)]
pub struct Seat(Arc<Inner>);

struct Inner {
    role: RwLock<Role>,
    /// Wakes whoever waits for another role, in the order in which they came: the channels of the runtime that could serve
    /// here wake at random, and a simulation would not be the same twice.
    changed: Arc<Notify>,
    /// Somebody says that the leader has changed or is gone.
    hint: Notify,
    /// How the last reign ended.
    last: Mutex<Option<Known>>,
    takeovers: AtomicU64,
    depositions: AtomicU64,
    /// When it was last looked, on behalf of a request, whether this node still leads.
    checked: Mutex<Option<Instant>>,
}

impl Seat {
    fn new() -> Self {
        let absent = Absent::without_leader("looking", "the node has just started");
        Self(Arc::new(Inner {
            role: RwLock::new(Role::Absent(Arc::new(absent))),
            changed: Arc::default(),
            hint: Notify::new(),
            last: Mutex::default(),
            takeovers: AtomicU64::new(0),
            depositions: AtomicU64::new(0),
            checked: Mutex::default(),
        }))
    }

    /// The shard and its paths, if this node leads as far as it knows.
    ///
    /// # Errors
    /// Who leads instead, as far as that is known.
    pub fn lead(&self) -> Result<Arc<Leading>, Arc<Absent>> {
        let role = self.0.role.read().clone();
        match role {
            Role::Absent(absent) => Err(absent),
            Role::Leading(leading) => match leading.shard.leads() {
                Ok(()) => Ok(leading),
                // The task has not taken notice yet.
                Err(ProposeError::NotLeader { leader: Some(leader) }) if !leader.address.is_empty() => {
                    let problem = String::new();
                    let ballot = leading.shard.status().ballot;
                    let (leader, quorum) = (Some(leader), None);
                    Err(Arc::new(Absent { state: "following", leader, ballot, lives: true, problem, quorum }))
                }
                Err(ProposeError::ShuttingDown) => {
                    Err(Arc::new(Absent::without_leader("stopped", "the node is shutting down")))
                }
                Err(error) => Err(Arc::new(Absent::without_leader("looking", error.to_string()))),
            },
        }
    }

    /// Resolves when the role may have changed since this call was made.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.changed.clone().notified_owned()
    }

    /// A request is carried out by this node as the leader. Reads alone do not tell whether it still leads, and whoever took
    /// over may not have reached it: after a while without a commit it looks where its next append would go.
    pub(crate) fn asked(&self, leading: &Leading) {
        if leading.shard.is_quiet(SELF_CHECK) {
            let mut checked = self.0.checked.lock();
            if checked.is_none_or(|checked| checked.elapsed() >= SELF_CHECK) {
                *checked = Some(Instant::now());
                self.hint();
            }
        }
    }

    /// Somebody says that the leader has changed or is gone: the task finds out by itself whether that is so.
    pub fn hint(&self) {
        self.0.hint.notify_one();
    }

    /// State of the present reign, or of the last one when the node does not lead.
    pub fn status(&self) -> Option<ShardStatus> {
        match &*self.0.role.read() {
            Role::Leading(leading) => Some(leading.shard.status()),
            Role::Absent(_) => self.0.last.lock().as_ref().map(|known| known.status.clone()),
        }
    }

    /// What is known of the shard: by the leader everything, by others what they knew when they last led.
    pub(crate) fn known(&self) -> Known {
        let role = self.0.role.read().clone();
        match role {
            Role::Leading(leading) => Known::of(&leading.shard),
            Role::Absent(absent) => {
                let mut known = self.0.last.lock().clone().unwrap_or_default();
                let leader = absent.leader.clone().filter(|_| absent.lives);
                known.status = ShardStatus { state: absent.state, deposed_by: leader, ..known.status };
                known
            }
        }
    }

    /// How often this node took over, and how often it was deposed.
    pub fn changes(&self) -> (u64, u64) {
        (self.0.takeovers.load(Relaxed), self.0.depositions.load(Relaxed))
    }

    fn sit(&self, leading: Arc<Leading>) {
        self.0.takeovers.fetch_add(1, Relaxed);
        self.set(Role::Leading(leading));
    }

    /// Nobody can lead; what is committed can be read here.
    fn read(&self, reading: Arc<Leading>) {
        self.set(Role::Leading(reading));
    }

    fn set(&self, role: Role) {
        *self.0.role.write() = role;
        self.0.changed.notify_waiters();
    }

    /// Only the node's own task changes the role, so that nothing happens between the look and the change.
    fn leave(&self, absent: Absent) {
        let role = self.0.role.read().clone();
        match role {
            Role::Absent(present) if *present == absent => return,
            Role::Leading(leading) => {
                let status = leading.shard.status();
                if status.state == "deposed" {
                    self.0.depositions.fetch_add(1, Relaxed);
                }
                *self.0.last.lock() = Some(Known { status, ..Known::of(&leading.shard) });
            }
            Role::Absent(_) => {}
        }
        self.set(Role::Absent(Arc::new(absent)));
    }
}
