//! A node in simulation, and requests to it without a socket.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::{Router, body::Body};
use brigade::serve::Node;
use brigade_index::{
    ids::Ballot,
    shard::{Shard, ShardStatus},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{clock::WallClock, gate::Gate, link::Link, lock, region::SimRegion};

/// How long clients wait for an answer. Shorter than the node's own limit, so that both are met.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest orderly end.
const STOP: Duration = Duration::from_secs(10);

/// One life of a node on a machine.
pub(super) struct SimNode {
    /// Machine and life, as in `m2.1`.
    pub(super) name: String,
    /// The machine: what a node that is started again has in common with the one before it.
    pub(super) machine: String,
    pub(super) gate: Gate,
    pub(super) clock: Arc<WallClock>,
    /// Its connections to regions, by name.
    pub(super) links: Mutex<BTreeMap<String, Link>>,
    /// The regions that it was told of when it was started.
    pub(super) told: Mutex<Vec<SimRegion>>,
    /// Set once it serves.
    up: OnceLock<(Node, Router)>,
}

impl fmt::Display for SimNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl SimNode {
    pub(super) fn new(machine: String, life: u64, clock: Arc<WallClock>) -> Self {
        let name = format!("{machine}.{life}");
        Self {
            name,
            machine,
            gate: Gate::new(),
            clock,
            links: Mutex::default(),
            told: Mutex::default(),
            up: OnceLock::new(),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.machine)
    }

    pub(super) fn link(&self, region: &str) -> Option<Link> {
        lock(&self.links).get(region).cloned()
    }

    /// It serves from now on.
    pub(super) fn serve(&self, node: Node) {
        let router = brigade::http::router(node.clone());
        let _ = self.up.set((node, router));
    }

    pub(super) fn node(&self) -> Option<&Node> {
        self.up.get().map(|(node, _)| node)
    }

    pub(super) fn router(&self) -> Option<Router> {
        self.up.get().map(|(_, router)| router.clone())
    }

    /// Whether it takes requests.
    pub(super) fn is_up(&self) -> bool {
        self.up.get().is_some() && !self.gate.is_ended()
    }

    /// The shard, if this node leads as far as it knows.
    pub(super) fn leading(&self) -> Option<(Shard, ShardStatus)> {
        let leading = self.node()?.seat.lead().ok()?;
        let status = leading.shard.status();
        (status.state == "leading").then(|| (leading.shard.clone(), status))
    }

    /// The ballot under which it leads, as far as it knows.
    pub(super) fn reign(&self) -> Option<Ballot> {
        let (_, status) = self.leading().filter(|_| !self.gate.is_ended())?;
        Some(status.ballot)
    }

    /// Ends it as SIGKILL would.
    pub(super) fn kill(&self) {
        self.gate.end();
        self.gate.pause(false);
        if let Some(node) = self.node().cloned() {
            // What is dead does nothing that anybody sees; this only ends what would run for nothing.
            tokio::spawn(async move { node.shut_down().await });
        }
    }

    /// Ends it as SIGTERM would; as SIGKILL would when that takes too long. True if it was orderly.
    pub(super) async fn stop(&self) -> bool {
        let Some(node) = self.node() else {
            self.kill();
            return false;
        };
        let orderly = timeout(STOP, node.shut_down()).await.is_ok();
        self.gate.end();
        self.gate.pause(false);
        orderly
    }

    /// Status and body of the answer; nothing when the connection is lost, refused, or the answer is late. `Err(true)`
    /// says that the request cannot have reached the node.
    pub(super) async fn request(&self, request: Request<Body>) -> Result<(u16, Bytes), bool> {
        let Some(router) = self.router().filter(|_| !self.gate.is_ended()) else { return Err(true) };
        let answer = async {
            self.gate.pass().await;
            let answer: Response<Body> = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(|_| false)?.to_bytes();
            self.gate.pass().await;
            Ok((status, body))
        };
        tokio::select! {
            biased;
            () = self.gate.ended() => Err(false),
            answer = timeout(PATIENCE, answer) => answer.unwrap_or(Err(false)),
        }
    }
}
