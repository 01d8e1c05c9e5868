//! A node in this process, on regions in memory whose latency and troubles are set.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use brigade::{
    peers::HttpPeers,
    serve::{Node, start_node_on},
    settings::{RegionSettings, Settings},
};
use brigade_index::{
    env::Env,
    founding::Opener,
    names::RegionName,
    store::{
        RegionStore, StoreMetrics, StoreOptions, StoreTiming,
        fault::{Fault, FaultStore, Latency, Rule},
    },
};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use object_store::{memory::InMemory, path::Path};
use tower::ServiceExt;

/// The topic that every scenario publishes to.
pub(super) const TOPIC: &str = "bench";

/// What is wrong with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// Connections to it are refused.
    Refused,
    /// It takes requests and never answers.
    Hanging,
    /// It is ten times slower than the others.
    Slow,
}

/// A node that leads.
pub(super) struct BenchNode {
    pub(super) node: Node,
    router: Router,
    /// The regions' stores, by name.
    stores: Vec<FaultStore>,
}

impl BenchNode {
    /// Starts a node with default settings on so many new regions, which answer at once, and creates the topic.
    pub(super) async fn start(regions: usize, partitions: u32, seed: u64) -> Self {
        let names: Vec<_> = (1..=regions).map(|number| format!("region-{number}")).collect();
        let store = |seed| FaultStore::new(Arc::new(InMemory::new()), seed);
        let stores: BTreeMap<_, _> = names.iter().cloned().zip((seed..).map(store)).collect();
        let region = |name: &String| RegionSettings {
            name: name.clone(),
            url: format!("memory://{name}"),
            store: StoreOptions::default(),
        };
        let settings = Settings { regions: names.iter().map(region).collect(), ..Settings::default() };
        let (metrics, env) = (StoreMetrics::new(), Env::system());
        let (opened, counted, around) = (stores.clone(), metrics.clone(), env.clone());
        let opener: Opener = Arc::new(move |name: &RegionName, _: &str| {
            let store = Arc::new(opened[name.as_str()].clone());
            Ok(RegionStore::new(name.clone(), store, counted.clone(), StoreTiming::default(), around.clone()))
        });
        let node = start_node_on(settings, opener, metrics, env, Arc::new(HttpPeers::default()));
        let node = node.await.expect("regions in memory work");
        let router = brigade::http::router(node.clone());
        let this = Self { node, router, stores: stores.into_values().collect() };
        let body = format!("{{\"partitions\":{partitions}}}");
        let created = this.publisher().send("PUT", &format!("/v1/topics/{TOPIC}"), body).await;
        assert_eq!(created, 201, "the topic is created");
        this
    }

    /// From now on every region has this latency; the last one also has a trouble.
    pub(super) fn set(&self, latency: Latency, trouble: Trouble) {
        for store in &self.stores {
            store.heal();
            store.set_latency(Some(latency));
        }
        let Some(last) = self.stores.last() else { return };
        match trouble {
            Trouble::None => {}
            Trouble::Refused => last.set_unreachable(true),
            Trouble::Hanging => {
                let fault = Fault::Hang { applied: false };
                let (prefix, limit) = (Path::default(), u64::MAX);
                last.add(Rule { operation: None, prefix, fault, chance: 1.0, skip: 0, limit });
            }
            Trouble::Slow => {
                last.set_latency(Some(Latency { median: latency.median * 10, p99: latency.p99 * 10 }));
            }
        }
    }

    /// A client of it.
    pub(super) fn publisher(&self) -> Publisher {
        Publisher(self.router.clone())
    }

    /// Ends it, as SIGTERM would, with regions that answer at once.
    pub(super) async fn stop(self) {
        self.stores.iter().for_each(FaultStore::heal);
        self.node.shut_down().await;
    }
}

/// A client of a node in this process, without a socket.
pub(super) struct Publisher(Router);

impl Publisher {
    /// Publishes a JSON body; gives the status.
    pub(super) async fn publish(&self, body: Bytes) -> u16 {
        self.send("POST", &format!("/v1/topics/{TOPIC}/messages"), body).await
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> u16 {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(body.into()).expect("a well-formed request");
        let Ok(answer) = self.0.clone().oneshot(request).await;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("the router does not break off");
        status
    }
}

/// A latency in milliseconds.
pub(super) fn latency(median_ms: f64, p99_ms: f64) -> Latency {
    let duration = |ms: f64| Duration::from_secs_f64(ms / 1_000.0);
    Latency { median: duration(median_ms), p99: duration(p99_ms) }
}
