//! What a program usually takes from its surroundings, injected: wall time and randomness.
//!
//! Monotonic time and sleeping come from `tokio::time`, which a simulation pauses and steps. `clippy.toml` bans the
//! ambient sources everywhere else.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, TryRng, rngs::StdRng};

/// Wall time. It may jump; nothing about safety depends on it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Randomness for identities, ballots and jitter.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;

    /// 128 random bits.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// The surroundings of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Env {
    /// The machine's own clock and randomness.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }

    /// A clock that follows tokio's (virtual) time from `start_ms` on, and randomness from `seed`: the same seed gives
    /// the same run.
    pub fn simulated(seed: u64, start_ms: i64) -> Self {
        Self {
            clock: Arc::new(TokioClock { start_ms, started: tokio::time::Instant::now() }),
            entropy: Arc::new(SeededEntropy(Mutex::new(StdRng::seed_from_u64(seed)))),
        }
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct TokioClock {
    start_ms: i64,
    started: tokio::time::Instant,
}

impl Clock for TokioClock {
    fn now_ms(&self) -> i64 {
        self.start_ms + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        // The kernel's generator fails only where there is none at all; without randomness no ballot is unique and
        // nothing may start.
        rand::rngs::SysRng.try_next_u64().expect("the operating system has a random number generator")
    }
}

#[derive(Debug)]
struct SeededEntropy(Mutex<StdRng>);

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}
