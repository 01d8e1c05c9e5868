//! Putting a node together out of settings, surroundings and stores.

use std::sync::Arc;
use std::time::Duration;

use brigade_compactor::{metrics::CompactorMetrics, plan::PlanSettings, worker::CompactorSettings};
use brigade_index::{
    env::Env,
    founding::{self, FoundingError, Opener},
    ids::ShardId,
    limits::DEFAULT_WINDOW,
    names::{NameError, RegionName},
    shard::{ShardConfig, StartError as ShardStartError},
    store::{self, RegionStore, StoreError, StoreMetrics, StoreTiming},
};
use brigade_ingest::{IngestMetrics, IngestSettings};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::seat::{Seat, Surroundings, Task};
use crate::{
    http::{HttpMetrics, ProcessMetrics, ShardMetrics},
    peers::{HttpPeers, Peers},
    push::{AddressPolicy, BuildError, CidrError, Endpoints, PushMetrics, Pushing},
    settings::{Settings, absolute_url},
};

/// The one shard there is.
const SHARD: ShardId = ShardId(0);

/// Requests that wait for a leader during a takeover; further ones are refused at once. Nothing of their bodies has been
/// read yet.
const WAITING: usize = 1_024;

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    /// Whether it leads, and who leads instead.
    pub seat: Seat,
    /// How other nodes are reached.
    pub peers: Arc<dyn Peers>,
    /// Everything that is measured.
    pub registry: Arc<Registry>,
    /// Figures of its HTTP interface, which are in the registry too.
    pub http_metrics: HttpMetrics,
    /// Wall time and randomness.
    pub env: Env,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// Its name.
    pub name: Arc<str>,
    /// Identity of the cluster.
    pub cluster_id: Arc<str>,
    /// Cancelled when it shuts down: it is no longer ready, and nobody waits for messages any more.
    pub draining: CancellationToken,
    /// Everything that runs for it.
    pub tasks: TaskTracker,
    /// Places of requests that wait for a leader.
    pub(crate) waiting: Arc<Semaphore>,
    /// Cancelled when it stops leading or following.
    stop: CancellationToken,
}

/// Why a node could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A region without a valid name.
    #[error(transparent)]
    Region(#[from] NameError),
    /// The regions are not those of one cluster, or none can be used.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The store's URL or settings cannot work.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// The shard could not be taken over.
    #[error(transparent)]
    Shard(#[from] ShardStartError),
    /// The settings name addresses that are none.
    #[error(transparent)]
    Addresses(#[from] CidrError),
    /// Nothing could be posted to endpoints.
    #[error(transparent)]
    Push(#[from] BuildError),
}

/// Starts a node on the stores that `settings` name. It leads, or follows a leader that lives. It serves nobody until its
/// router is given requests.
///
/// # Errors
/// When the stores cannot be opened, do not answer, or hold damaged objects.
pub async fn start_node(settings: Settings, env: Env) -> Result<Node, StartError> {
    prepare_node(settings, env).await?.settle().await
}

/// A node that knows its cluster and neither leads nor follows yet.
pub(super) async fn prepare_node(settings: Settings, env: Env) -> Result<Starting, StartError> {
    let metrics = StoreMetrics::new();
    let opener = opener(&settings, metrics.clone(), env.clone());
    prepare(settings, opener, metrics, env, Arc::new(HttpPeers::default())).await
}

/// A node on its way. Requests that it is given wait until it leads or follows, or are refused.
pub(super) struct Starting {
    pub(super) node: Node,
    task: Task,
}

impl Starting {
    /// Leads, or follows a leader that lives, from then on for as long as the node lives.
    pub(super) async fn settle(mut self) -> Result<Node, StartError> {
        self.task.settle().await?;
        self.node.tasks.spawn(self.task.run());
        Ok(self.node)
    }
}

/// Opens stores with what `settings` say of the region of that name.
fn opener(settings: &Settings, metrics: StoreMetrics, env: Env) -> Opener {
    let regions = settings.regions();
    Arc::new(move |name: &RegionName, url: &str| {
        let known = regions.iter().find(|region| region.name == name.as_str());
        let options = known.map(|region| region.store.clone()).unwrap_or_default();
        let store = store::open(url, &options)?;
        Ok(RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), env.clone()))
    })
}

/// Like [`start_node`], with stores and other nodes as they are given: for tests and simulations. `metrics` are the
/// stores'.
///
/// # Errors
/// Like [`start_node`].
pub async fn start_node_on(
    settings: Settings,
    opener: Opener,
    metrics: StoreMetrics,
    env: Env,
    peers: Arc<dyn Peers>,
) -> Result<Node, StartError> {
    prepare(settings, opener, metrics, env, peers).await?.settle().await
}

async fn prepare(
    settings: Settings,
    opener: Opener,
    metrics: StoreMetrics,
    env: Env,
    peers: Arc<dyn Peers>,
) -> Result<Starting, StartError> {
    let named =
        settings.regions().into_iter().map(|region| Ok((RegionName::new(&region.name)?, absolute_url(&region.url))));
    let named = named.collect::<Result<Vec<_>, NameError>>()?;
    let cluster = founding::join(&named, opener, &env).await?;
    for absence in &cluster.absent {
        tracing::warn!(problem = %absence, "starting without a region");
    }
    let cluster_id = cluster.cluster_id.clone().into();
    let name = settings.node_name.clone().unwrap_or_else(|| format!("node-{:08x}", env.entropy.next_u64() >> 32));
    let address = settings.advertise.clone().unwrap_or_default();
    let config = ShardConfig { shard: SHARD, node: name.clone(), address, window: DEFAULT_WINDOW };
    let settings = Arc::new(settings);
    let ingest = ingest_settings(&settings);
    let pushing = pushing(&settings, &env)?;
    let (tasks, draining, stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let around = Surroundings {
        config,
        named,
        cluster,
        env: env.clone(),
        peers: peers.clone(),
        settings: settings.clone(),
        metrics: IngestMetrics::new(&ingest),
        compact: compactor_settings(&settings),
        compactor_metrics: CompactorMetrics::default(),
        pushing,
        ingest,
        tasks: tasks.clone(),
        draining: draining.clone(),
        stop: stop.clone(),
    };
    let http_metrics = HttpMetrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    around.metrics.register(&mut registry);
    around.pushing.metrics.register(&mut registry);
    around.compactor_metrics.register(&mut registry);
    http_metrics.register(&mut registry);
    registry.register_collector(Box::new(ProcessMetrics { started_ms: env.clock.now_ms() }));
    let task = Task::new(around);
    let seat = task.seat();
    registry.register_collector(Box::new(ShardMetrics(seat.clone())));
    let (registry, name, waiting) = (Arc::new(registry), name.into(), Arc::new(Semaphore::new(WAITING)));
    let node =
        Node { seat, peers, registry, http_metrics, env, settings, name, cluster_id, draining, tasks, waiting, stop };
    Ok(Starting { node, task })
}

fn pushing(settings: &Settings, env: &Env) -> Result<Pushing, StartError> {
    let push = &settings.push;
    let policy = AddressPolicy::new(&push.forbid, &push.allow)?;
    let memory = usize::try_from(push.memory_mib << 20).unwrap_or(usize::MAX);
    let endpoints = Endpoints::new(policy, memory, env.clone())?;
    Ok(Pushing { endpoints, metrics: PushMetrics::default(), env: env.clone() })
}

fn compactor_settings(settings: &Settings) -> CompactorSettings {
    let compact = &settings.compact;
    if let Some(instead) = &compact.instead {
        return instead.clone();
    }
    let defaults = CompactorSettings::default();
    let archive_after_ms = compact.archive_after_ms;
    let plan = PlanSettings {
        file_bytes: compact.file_mib << 20,
        max_file_bytes: compact.max_file_mib << 20,
        archive_after_ms,
        // What waits for its company waits no shorter.
        idle_after_ms: defaults.plan.idle_after_ms.max(archive_after_ms),
        ..defaults.plan
    };
    CompactorSettings {
        enabled: compact.enabled,
        plan,
        memory_bytes: usize::try_from(compact.memory_mib << 20).unwrap_or(usize::MAX),
        bytes_per_second: compact.bandwidth_mib << 20,
        repair_bytes_per_second: compact.repair_bandwidth_mib << 20,
        delete_delay: Duration::from_millis(compact.delete_delay_ms),
        ..defaults
    }
}

fn ingest_settings(settings: &Settings) -> IngestSettings {
    let publish = &settings.publish;
    IngestSettings {
        linger: Duration::from_millis(publish.linger_ms),
        pace: Duration::from_millis(publish.pace_ms),
        publish_memory_bytes: usize::try_from(publish.memory_mib << 20).unwrap_or(usize::MAX),
        cache_bytes: settings.read.cache_mib << 20,
        request_timeout: Duration::from_millis(publish.request_timeout_ms),
    }
}

impl Node {
    /// Says no to `/readyz` and ends all waiting for messages. Requests are still carried out.
    pub fn begin_drain(&self) {
        self.draining.cancel();
    }

    /// Answers every publish in flight, then stops leading. After it nothing of the node runs any more.
    pub async fn shut_down(&self) {
        self.begin_drain();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
