//! The wall clock of a simulated machine: it runs with virtual time, is wrong from the start, and can be made to jump.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use brigade_index::env::{Clock, Env};
use tokio::time::Instant;

/// A clock. Monotonic time, which comes from the runtime, never jumps.
#[derive(Debug)]
pub(super) struct WallClock {
    /// Milliseconds since the Unix epoch when the world began, by this clock.
    start_ms: AtomicI64,
    began: Instant,
}

impl WallClock {
    pub(super) fn new(start_ms: i64, began: Instant) -> Arc<Self> {
        Arc::new(Self { start_ms: start_ms.into(), began })
    }

    pub(super) fn jump(&self, by_ms: i64) {
        self.start_ms.fetch_add(by_ms, Relaxed);
    }

    /// Surroundings with this clock and randomness of their own.
    pub(super) fn env(self: &Arc<Self>, seed: u64) -> Env {
        Env { clock: self.clone(), ..Env::simulated(seed, 0) }
    }
}

impl Clock for WallClock {
    fn now_ms(&self) -> i64 {
        self.start_ms.load(Relaxed) + i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
