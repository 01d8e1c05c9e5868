//! Putting a node together out of settings, surroundings and stores.

use std::sync::Arc;
use std::time::Duration;

use brigade_compactor::snapshots;
use brigade_index::{
    env::Env,
    format::RegionIdentity,
    ids::ShardId,
    limits::DEFAULT_WINDOW,
    names::{NameError, RegionName},
    shard::{Shard, ShardConfig, StartError as ShardStartError},
    store::{self, RegionStore, StoreError, StoreMetrics, StoreTiming},
};
use brigade_ingest::{Ingest, IngestSettings};
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    http::{HttpMetrics, ProcessMetrics, ShardMetrics},
    settings::{RegionSettings, Settings},
};

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    /// The shard that it leads.
    pub shard: Shard,
    /// Its publish and read paths.
    pub ingest: Ingest,
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
    /// The cluster and region that its store belongs to.
    pub identity: Arc<RegionIdentity>,
    /// Cancelled when it shuts down: it is no longer ready, and nobody waits for messages any more.
    pub draining: CancellationToken,
    /// Tasks of the shard, of the publish path and of the work in the background.
    pub tasks: TaskTracker,
    /// Cancelled when work in the background is to end.
    background: CancellationToken,
    /// Tasks of the work in the background.
    background_tasks: TaskTracker,
}

/// Why a node could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A region without a valid name.
    #[error(transparent)]
    Region(#[from] NameError),
    /// There is no region, or more than this version can lead.
    #[error("{0} regions are given; this version needs exactly one")]
    Regions(usize),
    /// The store's URL or settings cannot work.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// The shard could not be taken over.
    #[error(transparent)]
    Shard(#[from] ShardStartError),
}

/// Starts a node on the stores that `settings` name. It serves nobody until its router is given requests.
///
/// # Errors
/// When the stores cannot be opened, do not answer, hold damaged objects, or another node wins the takeover.
pub async fn start_node(settings: Settings, env: Env) -> Result<Node, StartError> {
    let regions = settings.regions();
    let [region] = regions.as_slice() else { return Err(StartError::Regions(regions.len())) };
    let metrics = StoreMetrics::new();
    let store = open_region(region, metrics.clone(), &env)?;
    start_node_on(settings, store, metrics, env).await
}

fn open_region(region: &RegionSettings, metrics: StoreMetrics, env: &Env) -> Result<RegionStore, StartError> {
    let name = RegionName::new(&region.name)?;
    let store = store::open(&region.url, &region.store)?;
    Ok(RegionStore::new(name, store, metrics, StoreTiming::default(), env.clone()))
}

/// Like [`start_node`], on a store that is open already: for tests and simulations. `metrics` are the store's.
///
/// # Errors
/// Like [`start_node`].
pub async fn start_node_on(
    settings: Settings,
    store: RegionStore,
    metrics: StoreMetrics,
    env: Env,
) -> Result<Node, StartError> {
    let started_ms = env.clock.now_ms();
    let name = settings.node_name.clone().unwrap_or_else(|| format!("node-{:08x}", env.entropy.next_u64() >> 32));
    let address = settings.advertise.clone().unwrap_or_default();
    let config = ShardConfig { shard: ShardId(0), node: name.clone(), address, window: DEFAULT_WINDOW };
    let tasks = TaskTracker::new();
    let (shard, identity) = Shard::start(config, store, env.clone(), &tasks).await?;
    let ingest = Ingest::start(shard.clone(), ingest_settings(&settings), env.clone(), &tasks);
    let http_metrics = HttpMetrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    ingest.metrics().register(&mut registry);
    http_metrics.register(&mut registry);
    registry.register_collector(Box::new(ShardMetrics(shard.clone())));
    registry.register_collector(Box::new(ProcessMetrics { started_ms }));
    let (background, background_tasks) = (CancellationToken::new(), TaskTracker::new());
    background_tasks.spawn(snapshots::run(shard.clone(), background.clone()));
    Ok(Node {
        shard,
        ingest,
        registry: Arc::new(registry),
        http_metrics,
        env,
        settings: Arc::new(settings),
        name: name.into(),
        identity: Arc::new(identity),
        draining: CancellationToken::new(),
        tasks,
        background,
        background_tasks,
    })
}

fn ingest_settings(settings: &Settings) -> IngestSettings {
    let publish = &settings.publish;
    IngestSettings {
        linger: Duration::from_millis(publish.linger_ms),
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
        self.ingest.drain().await;
        // Before the shard stops, since the last snapshot is written by its leader.
        self.background.cancel();
        self.background_tasks.close();
        self.background_tasks.wait().await;
        self.shard.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
