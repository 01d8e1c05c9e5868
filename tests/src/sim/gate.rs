//! Whether a node runs, is paused, or is dead: everything that it sends and receives passes here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A node's way to the world. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paused: AtomicBool,
    goes_on: Notify,
    ended: CancellationToken,
    /// Requests to stores.
    requests: AtomicU64,
}

impl Gate {
    pub(super) fn new() -> Self {
        let (paused, goes_on, ended) = (AtomicBool::new(false), Notify::new(), CancellationToken::new());
        Self(Arc::new(Inner { paused, goes_on, ended, requests: AtomicU64::new(0) }))
    }

    /// While paused, a node sends and hears nothing; what it has sent takes effect, and it hears of that afterwards.
    pub(super) fn pause(&self, on: bool) {
        self.0.paused.store(on, Relaxed);
        if !on {
            self.0.goes_on.notify_waiters();
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.0.paused.load(Relaxed)
    }

    /// The node dies: it sends and hears nothing more.
    pub(super) fn end(&self) {
        self.0.ended.cancel();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// Resolves when the node dies.
    pub(super) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Waits while the node is paused; for ever when it is dead.
    pub(super) async fn pass(&self) {
        while self.is_paused() {
            self.0.goes_on.notified().await;
        }
        if self.is_ended() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn count(&self) {
        self.0.requests.fetch_add(1, Relaxed);
    }

    /// Requests that it has sent to stores so far.
    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Relaxed)
    }
}
