//! How long to wait for a store, and when and how often to ask it again.

use std::time::Duration;

use tokio::time::Instant;

use crate::env::Env;

/// Time-outs and retries of one region's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTiming {
    /// How long one request may take, apart from its bytes.
    pub request_timeout: Duration,
    /// The slowest transfer that is not given up, in bytes a second: a body adds its size divided by this.
    pub min_bytes_per_second: u64,
    /// Most attempts at one operation.
    pub attempts: u32,
    /// Longest time of one operation: past it no further attempt is begun, and a wait is not longer than what is left.
    pub deadline: Duration,
    /// Pause before the second attempt; it doubles with every further one. Jitter takes away up to half.
    pub backoff: Duration,
    /// Longest pause between two attempts.
    pub max_backoff: Duration,
}

impl Default for StoreTiming {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(3),
            min_bytes_per_second: 4 * 1024 * 1024,
            attempts: 8,
            deadline: Duration::from_secs(10),
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_secs(1),
        }
    }
}

impl StoreTiming {
    /// Longest time for one request that moves `bytes`.
    pub(super) fn request(&self, bytes: u64) -> Duration {
        self.request_timeout + Duration::from_micros(bytes.saturating_mul(1_000_000) / self.min_bytes_per_second.max(1))
    }
}

/// What is left of an operation's attempts and time.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    timing: &'a StoreTiming,
    env: &'a Env,
    started: Instant,
    attempt: u32,
}

impl<'a> Budget<'a> {
    pub(super) fn new(timing: &'a StoreTiming, env: &'a Env) -> Self {
        Self { timing, env, started: Instant::now(), attempt: 1 }
    }

    /// Waits before the next attempt; false when there is to be none.
    pub(super) async fn again(&mut self) -> bool {
        if self.attempt >= self.timing.attempts {
            return false;
        }
        let full = self.timing.backoff.saturating_mul(1 << (self.attempt - 1).min(16)).min(self.timing.max_backoff);
        let micros = u64::try_from(full.as_micros()).unwrap_or(u64::MAX).max(2);
        let pause = Duration::from_micros(micros - self.env.entropy.next_u64() % (micros / 2));
        if self.started.elapsed() + pause >= self.timing.deadline {
            return false;
        }
        self.attempt += 1;
        tokio::time::sleep(pause).await;
        true
    }
}
