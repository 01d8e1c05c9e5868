//! A node in simulation, and requests to it without a socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use brigade::serve::Node;
use brigade_index::store::fault::FaultStore;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::store::Connection;

/// How long clients wait for an answer. Shorter than the node's own limit, so that both are met.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest orderly end.
const STOP: Duration = Duration::from_secs(10);

/// A node.
pub(super) struct SimNode {
    pub(super) name: String,
    pub(super) node: Node,
    /// Faults of its connection to the store.
    pub(super) faults: FaultStore,
    router: Router,
    connection: Connection,
    /// Cancelled when it ends: its clients lose their connections.
    ended: CancellationToken,
    /// Whether it takes new requests.
    open: AtomicBool,
}

impl SimNode {
    pub(super) fn new(name: String, node: Node, faults: FaultStore, connection: Connection) -> Self {
        let router = brigade::http::router(node.clone());
        let ended = CancellationToken::new();
        Self { name, node, faults, router, connection, ended, open: AtomicBool::new(true) }
    }

    /// Ends it as SIGKILL would.
    pub(super) fn kill(&self) {
        self.open.store(false, Relaxed);
        self.connection.end();
        self.ended.cancel();
    }

    /// Ends it as SIGTERM would; as SIGKILL would when that takes too long. True if it was orderly.
    pub(super) async fn stop(self: &Arc<Self>) -> bool {
        self.open.store(false, Relaxed);
        let orderly = timeout(STOP, self.node.shut_down()).await.is_ok();
        self.kill();
        orderly
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Status and body of the answer; nothing when the connection is lost, refused, or the answer is late. `Err(true)`
    /// says that the request cannot have reached the node.
    pub(super) async fn request(&self, request: Request<Body>) -> Result<(u16, Bytes), bool> {
        if !self.is_open() {
            return Err(true);
        }
        let answer = async {
            let answer: Response<Body> = match self.router.clone().oneshot(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            let status = answer.status().as_u16();
            answer.into_body().collect().await.map(|body| (status, body.to_bytes())).map_err(|_| false)
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(false),
            answer = timeout(PATIENCE, answer) => answer.unwrap_or(Err(false)),
        }
    }
}
