//! The workers of all push subscriptions, for as long as this node leads.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
    time::Duration,
};

use brigade_index::{
    command::PushSettings,
    env::Env,
    ids::{SubscriptionId, TopicId},
    names::{SubscriptionName, TopicName},
    shard::Shard,
};
use brigade_ingest::Ingest;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backoff::Backoff,
    deliver::{Deliverer, Post, PushTarget},
    endpoint::Endpoints,
    metrics::PushMetrics,
    source::QueueSource,
    worker::{Worker, WorkerSettings},
};

/// What pushing needs of the node, from reign to reign. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pushing {
    /// The HTTP client.
    pub endpoints: Endpoints,
    /// Figures.
    pub metrics: PushMetrics,
    /// Randomness for pauses.
    pub env: Env,
}

/// Runs a [`Worker`] for every queue subscription that has push settings, and follows what becomes of them.
pub struct Workers {
    shard: Shard,
    ingest: Ingest,
    pushing: Pushing,
    post: Arc<dyn Post>,
    tasks: TaskTracker,
    running: BTreeMap<(TopicId, SubscriptionId), Running>,
}

struct Running {
    push: PushSettings,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A subscription that is to be pushed.
struct Wanted {
    topic: TopicName,
    name: SubscriptionName,
    push: PushSettings,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl Workers {
    /// None runs yet.
    pub fn new(shard: Shard, ingest: Ingest, pushing: Pushing) -> Self {
        let post = Arc::new(Deliverer::new(pushing.endpoints.clone(), pushing.metrics.clone()));
        Self { shard, ingest, pushing, post, tasks: TaskTracker::new(), running: BTreeMap::new() }
    }

    /// Runs them until `stop` is cancelled or the reign is over, and then until all have stopped. What was committed before
    /// is found in the state; after that it does nothing but when told of a change.
    pub async fn run(mut self, stop: CancellationToken) {
        let topics: Vec<_> = self.shard.state().topics().map(|topic| topic.id).collect();
        topics.into_iter().for_each(|topic| self.follow(topic));
        let shard = self.shard.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = shard.ended() => break,
                changed = shard.changed_queues() => changed.into_iter().for_each(|topic| self.follow(topic)),
            }
        }
        self.running.values().for_each(|running| running.stop.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts and stops workers as the subscriptions of a topic now are.
    fn follow(&mut self, topic: TopicId) {
        let mut wanted = self.wanted(topic);
        let of_topic = (topic, SubscriptionId(0))..=(topic, SubscriptionId(u64::MAX));
        let known: Vec<_> = self.running.range(of_topic).map(|((_, id), _)| *id).collect();
        for id in known {
            let Entry::Occupied(running) = self.running.entry((topic, id)) else { continue };
            match wanted.remove(&id) {
                Some(wanted) if wanted.push == running.get().push => {}
                changed => {
                    let before = running.remove();
                    before.stop.cancel();
                    if let Some(wanted) = changed {
                        self.start((topic, id), wanted, Some(before.task));
                    }
                }
            }
        }
        for (id, wanted) in wanted {
            self.start((topic, id), wanted, None);
        }
    }

    fn wanted(&self, topic: TopicId) -> BTreeMap<SubscriptionId, Wanted> {
        let state = self.shard.state();
        let Some(topic) = state.topic(topic) else { return BTreeMap::new() };
        let wanted = topic.subscriptions.iter().filter_map(|(name, subscription)| {
            let queue = subscription.queue()?;
            let push = queue.settings.push.clone()?;
            Some((queue.id, Wanted { topic: topic.name.clone(), name: name.clone(), push }))
        });
        wanted.collect()
    }

    /// Starts a worker, after the one before it has ended: so neither more posts are in flight than may be, nor are they out
    /// of order.
    fn start(&mut self, (topic_id, id): (TopicId, SubscriptionId), wanted: Wanted, before: Option<JoinHandle<()>>) {
        let Wanted { topic, name, push } = wanted;
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let secret = Some(push.secret.as_str()).filter(|secret| !secret.is_empty());
        let endpoint = match self.pushing.endpoints.endpoint(&push.url, secret, ms(push.timeout_ms)) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                // Another node, or this one under other settings, has let it be created.
                tracing::warn!(%topic, subscription = %name, %error, "nothing is pushed");
                return;
            }
        };
        // Gone already: that change is told too.
        let Ok(queue) = self.ingest.queue(&topic, &name) else { return };
        let worker = Worker {
            source: QueueSource::new(queue),
            post: self.post.clone(),
            target: PushTarget { endpoint, topic, subscription: name, topic_id: topic_id.0, subscription_id: id.0 },
            settings: WorkerSettings {
                max_in_flight: push.max_in_flight as usize,
                max_per_second: push.max_per_second,
                backoff: Backoff { min: ms(push.backoff_min_ms), max: ms(push.backoff_max_ms) },
            },
            env: self.pushing.env.clone(),
            metrics: self.pushing.metrics.clone(),
        };
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let task = self.tasks.spawn(async move {
            if let Some(before) = before {
                // However it ended, it has.
                let _ = before.await;
            }
            worker.run(stopping).await;
        });
        self.running.insert((topic_id, id), Running { push, stop, task });
    }
}
